"""The summary as one HTML file without scripts, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bulk.summary.drift import Drift, drift
from bulk.summary.tally import BINS, NO_LABEL, Tally

_MOST_LABELS = 50  # with examples; the counts of all labels are shown
_STYLE = """
:root { --ground: #f6f7f9; --surface: #fff; --line: #d5d9e0; --text: #1a1d23; --faint: #555d6b; --bar: #8f9be0;
  --mark: #b45309; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ground: #121419; --surface: #1b1e25; --line: #363b46; --text: #e7e9ee;
  --faint: #a8b0be; --bar: #5a69c4; --mark: #f0a04b; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.25rem;
  margin: 0 0 1rem; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
p { margin: 0 0 .6rem; } .faint { color: var(--faint); }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin: 0; } dt { color: var(--faint); }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
td, th { padding: .2rem .75rem .2rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { white-space: nowrap; width: 7rem; }
.share { width: 40%; min-width: 8rem; }
.track { position: relative; height: 1rem; margin-top: .25rem; }
.track i { position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 2px; }
.track b { position: absolute; top: -2px; bottom: -2px; width: 3px; margin-left: -1px; background: var(--mark); }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 9rem; border-bottom: 1px solid var(--line); }
.bars span { position: relative; flex: 1; height: 100%; }
.bars i { position: absolute; inset: auto 0 0 0; background: var(--bar); }
.bars b { position: absolute; left: 0; right: 0; height: 3px; margin-bottom: -1px; background: var(--mark); }
.axis { display: flex; justify-content: space-between; color: var(--faint); font-size: .85rem; }
.key { display: inline-block; width: 1rem; height: 3px; background: var(--mark); vertical-align: middle; }
details { margin: 0 0 .4rem; } summary { cursor: pointer; }
"""


def page(tally: Tally, facts: Mapping[str, str], reference: Mapping[str, Any] | None) -> str:
    """Return the page.

    facts: names and values for the head, `input` among them. reference: the bundle's, see `export/reference.py`.
    """
    evaluated = (reference or {}).get("evaluated")
    name = escape(facts["input"])
    parts = [
        f"<h1>{name}</h1>",
        f"<p class=faint>{' · '.join(f'{escape(one)}: {escape(value)}' for one, value in facts.items())}</p>",
        _section("", _counts(tally)),
        _section("Labels", _labels(tally, None if evaluated is None else evaluated["labels"])),
        _section("Scores", _scores(tally, None if evaluated is None else evaluated["scores"])),
        _section("Drift", _drift(tally, reference or {})),
        _section("Errors", _errors(tally)),
        _section("Examples", _examples(tally)),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    title = f"<title>{name}: a summary</title>"
    return f"<!doctype html>\n<html lang=en>\n{head}{title}\n<style>{_STYLE}</style>\n{''.join(parts)}</html>\n"


def _section(title: str, content: str) -> str:
    return f"<section>{f'<h2>{title}</h2>' if title else ''}{content}</section>\n"


def _counts(tally: Tally) -> str:
    errors = sum(tally.errors.values())
    scored = tally.rows - errors
    shown = {
        "Rows": f"{tally.rows:,}",
        "Scored": f"{scored:,}",
        "With an error": f"{errors:,} ({_percent(errors, tally.rows)})",
        "Truncated": f"{tally.truncated:,} ({_percent(tally.truncated, scored)})",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in shown.items())}</dl>"


def _labels(tally: Tally, expected: Mapping[str, int] | None) -> str:
    counts = tally.labels if expected is None else {**dict.fromkeys(expected, 0), **tally.labels}
    if not counts:
        return "<p>None was predicted.</p>"
    total = tally.rows - sum(tally.errors.values())
    before = sum((expected or {}).values())
    widest = max([*(n / max(total, 1) for n in counts.values()), *(n / before for n in (expected or {}).values())])
    rows = []
    for label, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        share = count / max(total, 1) / widest
        mark = ""
        if expected is not None and label in expected:
            mark = f"<b style='left:{100 * expected[label] / before / widest:.2f}%'></b>"
        bar = f"<div class=track><i style='width:{100 * share:.2f}%'></i>{mark}</div>"
        cells = f"<td>{escape(label)}<td class=number>{count:,}<td class=number>{_percent(count, total)}"
        rows.append(f"<tr>{cells}<td class=share>{bar}")
    head = "<tr><th>Label<th class=number>Rows<th class=number>Share<th>"
    return f"<table>{head}{''.join(rows)}</table>{_key(expected)}"


def _scores(tally: Tally, expected: Sequence[int] | None) -> str:
    total, before = sum(tally.scores), sum(expected or ())
    if not total:
        return "<p>No row has a score.</p>"
    found = [count / total for count in tally.scores]
    usual = [count / before for count in expected] if expected is not None and before else []
    highest = max([*found, *usual])
    bars = []
    for place, share in enumerate(found):
        told = f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}: {tally.scores[place]:,} rows"
        mark = f"<b style='bottom:{100 * usual[place] / highest:.2f}%'></b>" if usual else ""
        bars.append(f"<span title='{told}'><i style='height:{100 * share / highest:.2f}%'></i>{mark}</span>")
    label = f"Rows by the score of their best label; the axis ends at {100 * highest:.1f} % of the rows"
    axis = "<div class=axis><span>0</span><span>0.25</span><span>0.5</span><span>0.75</span><span>1</span></div>"
    chart = f"<div class=bars role=img aria-label='{label}'>{''.join(bars)}</div>{axis}"
    return f"<p class=faint>{label}.</p>{chart}{_key(expected)}"


def _drift(tally: Tally, reference: Mapping[str, Any]) -> str:
    evaluated, training = reference.get("evaluated"), reference.get("training")
    compared: list[tuple[str, Drift | None]] = []
    if evaluated is not None:
        where = f"predictions on {evaluated['file']} at export"
        compared.append((f"Labels, against the {where}", _of_labels(tally, evaluated["labels"])))
        compared.append((f"Scores, against the {where}", drift(tally.scores, evaluated["scores"])))
    if training is not None:
        compared.append(("Labels, against those of the training rows", _of_labels(tally, training)))
    if not compared:
        return (
            "<p>The bundle remembers no labels and scores to compare with. An export with <code>--eval FILE.csv</code> "
            "stores both.</p>"
        )
    rows = [
        f"<tr><td>{escape(name)}<td class=number>{'–' if one is None else f'{one.index:.3f}'}"
        f"<td>{'nothing to compare' if one is None else escape(one.meaning)}"
        for name, one in compared
    ]
    told = (
        "The population stability index: 0 for the same shares; below 0.1 is little, above 0.25 much. Drift says that "
        "the texts differ from those at export, not that the answers are wrong."
    )
    head = "<tr><th>Compared<th class=number>Index<th>Drift"
    return f"<p class=faint>{told}</p><table>{head}{''.join(rows)}</table>"


def _of_labels(tally: Tally, expected: Mapping[str, int]) -> Drift | None:
    names = [*expected, *(label for label in tally.labels if label not in expected and label != NO_LABEL)]
    return drift([tally.labels.get(name, 0) for name in names], [expected.get(name, 0) for name in names])


def _errors(tally: Tally) -> str:
    if not tally.errors:
        return "<p>None.</p>"
    ordered = sorted(tally.errors.items(), key=lambda one: (-one[1], one[0]))
    rows = (f"<tr><td>{escape(error)}<td class=number>{count:,}" for error, count in ordered)
    return f"<table><tr><th>Error (N: a number)<th class=number>Rows{''.join(rows)}</table>"


def _examples(tally: Tally) -> str:
    ordered = sorted(tally.labels, key=lambda label: (-tally.labels[label], label))
    blocks = []
    for label in ordered[:_MOST_LABELS]:
        rows = _rows("most certain", tally.most.get(label, [])) + _rows("least certain", tally.least.get(label, []))
        head = "<tr><th><th class=number>Score<th>Text"
        blocks.append(f"<details open><summary>{escape(label)}</summary><table>{head}{rows}</table></details>")
    if len(ordered) > _MOST_LABELS:
        blocks.append(f"<p class=faint>… and {len(ordered) - _MOST_LABELS} labels with fewer rows.</p>")
    return "".join(blocks) or "<p>No row was scored.</p>"


def _rows(name: str, examples: Iterable[Sequence[Any]]) -> str:
    return "".join(
        f"<tr><td class='faint name'>{name}<td class=number>{score:.3f}<td>{escape(text)}" for score, text in examples
    )


def _key(expected: object) -> str:
    return "" if expected is None else "<p class=faint><span class=key></span> at export, on the evaluated texts</p>"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"
