"""The guard's figures for a reader: rows shared by the screen and the model card. Reads the manifest's plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from export.report.tables import Row, card_table, rows_of, screen_table
from inferer.bundle.reader import HEAD, HEAD_TAIL, PICTURE, TAIL

_ROWS = {
    "agreement": ("same label as fp32", "percent"),
    "accuracy_fp32": ("accuracy of fp32", "percent"),
    "accuracy_int8": ("accuracy of int8", "percent"),
    "accuracy_drop": ("accuracy, fp32 less int8", "points"),
    "macro_f1_fp32": ("macro-F1 of fp32", "score"),
    "macro_f1_int8": ("macro-F1 of int8", "score"),
    "macro_f1_drop": ("macro-F1, fp32 less int8", "change"),
    "mean_change": ("change of a score, mean", "score"),
    "largest_change": ("change of a score, largest", "score"),
    "kl": ("KL divergence, nats, mean", "nats"),
}
_READ = {
    HEAD: "only their beginning was",
    TAIL: "only their end was",
    HEAD_TAIL: "only their beginning and end were",
}
_MULTI = {"agreement": ("same set of labels as fp32", "percent")}


def figure_rows(figures: Mapping[str, Any], *, multi: bool) -> list[Row]:
    """Return a row for each figure that is there: what, value, 95 % interval, n."""
    return rows_of(figures, {**_ROWS, **(_MULTI if multi else {})})


def notes(guard: Mapping[str, Any], *, multi: bool) -> list[str]:
    """Return what must be known to read the figures: what was read as what, what was cut, what a score means."""
    labels = f"labels from {_columns(guard['labels_from'])}" if guard["labels_from"] else "no labels read"
    lines = [f"{guard['file']}: texts from {_columns([guard['text_column']])}, {labels}"]
    if guard["cut"]:
        lines.append(
            f"{guard['cut']} of {guard['evaluated']} texts are longer than is read: {_READ[guard['truncation']]}"
        )
    if guard["left_out"]:
        lines.append(f"{guard['left_out']} of {guard['rows']} rows are too long for truncation 'error': left out")
    if multi and guard["labels_from"]:
        lines.append("accuracy counts a text as right when all of its labels are")
    lines.append("the change of a score is that of each text's most moved one")
    return lines


def rung_rows(guard: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each rung that was tried: what, same label, accuracy lost, file size, whether it holds."""
    rows = []
    for rung in guard["rungs"]:
        count = len(rung["kept_fp32"])
        what = f"{count} layer{'' if count == 1 else 's'} kept in fp32" if count else "every layer int8"
        lost = f"{100 * rung['accuracy_drop']['value']:+.2f} pt" if "accuracy_drop" in rung else ""
        held = "missed" if rung["missed"] else "held"
        rows.append(
            (what, f"{100 * rung['agreement']['value']:.2f} %", lost, f"{rung['model_bytes'] / 1e6:.1f} MB", held)
        )
    return rows


def limits_in_words(guard: Mapping[str, Any]) -> str:
    """Return the limits that were set, in words; nothing when none were."""
    drop, agreement = (guard["limits"][name] for name in ("max_accuracy_drop_points", "min_agreement_percent"))
    parts = [] if drop is None else [f"accuracy at most {drop:g} points lower"]
    parts += [] if agreement is None else [f"same label for at least {agreement:g} %"]
    return ", ".join(parts)


def screen(guard: Mapping[str, Any], *, multi: bool) -> list[str]:
    """Return the lines for a terminal of 80 columns."""
    scheme = guard["measured"]["scheme"]
    lines = [f"  {scheme} against fp32 on {guard['evaluated']} of your texts"]
    lines += [f"    {note}" for note in notes(guard, multi=multi)]
    if not guard["labels_from"]:
        lines.append("    for accuracy, name the column of the labels: --label-column NAME")
    lines += screen_table(figure_rows(guard["figures"], multi=multi))
    limits = limits_in_words(guard)
    if not limits:
        return lines
    lines.append(f"  limits: {limits}")
    ladder = [("", "same label", "accuracy lost", "size", ""), *rung_rows(guard)]
    lines += [f"    {what:<27}{a:>11}  {b:>13}  {c:>9}  {d}".rstrip() for what, a, b, c, d in ladder]
    if guard["measured"]["kept_fp32"]:
        lines += ["  kept in fp32:", *(f"    {layer}" for layer in guard["measured"]["kept_fp32"])]
    if not guard["in_bundle"]:
        lines.append("  only fp32 holds the limits: the bundle is fp32, without an int8 model")
    return lines


def card_section(guard: Mapping[str, Any], *, multi: bool) -> str:
    """Return the model card's section as Markdown."""
    lines = [f"## {guard['measured']['scheme']} against fp32 on {guard['evaluated']} of the owner's texts", ""]
    if not guard["in_bundle"]:
        lines += ["**int8 missed the limits, so this bundle is fp32.** What int8 would have done:", ""]
    lines += card_table(figure_rows(guard["figures"], multi=multi))
    lines += ["", f"Read: {'; '.join(notes(guard, multi=multi))}. {guard['intervals']}.", ""]
    if limits := limits_in_words(guard):
        lines += [f"Limits: {limits}.", ""]
    if len(guard["rungs"]) > 1:
        lines += ["| tried | same label | accuracy lost | size | limits |", "| --- | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in rung_rows(guard)]
        lines.append("")
    if guard["measured"]["kept_fp32"]:
        lines += [f"Kept in fp32: {', '.join(f'`{layer}`' for layer in guard['measured']['kept_fp32'])}.", ""]
    lines.append(f"![How int8 moved the scores]({PICTURE})")
    return "\n".join(lines)


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
