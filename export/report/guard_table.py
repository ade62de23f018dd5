"""The guard's figures on the terminal and in the model card, from the manifest's `guard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from export.report.tables import Row, card_table, kept_layers, rows_of, terminal_table
from inferer.bundle.manifest import MULTI_LABEL, REGRESSION
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
_NUMBERS = {
    "mean_change": ("change of a number, mean", "score"),
    "largest_change": ("change of a number, largest", "score"),
    "spearman": ("Spearman with fp32", "score"),
    "kendall": ("Kendall with fp32", "score"),
    "spearman_fp32": ("Spearman with yours, fp32", "score"),
    "spearman_int8": ("Spearman with yours, int8", "score"),
    "spearman_drop": ("the same, fp32 less int8", "change"),
}
_MULTI = {"agreement": ("same set of labels as fp32", "percent")}
_USED = {
    HEAD: "only their beginning was used",
    TAIL: "only their end was used",
    HEAD_TAIL: "only their beginning and end were used",
}


def figure_rows(figures: Mapping[str, Any], problem_type: str) -> list[Row]:
    """Return a row for each of the figures: name, value, 95 % interval, n."""
    if problem_type == REGRESSION:
        return rows_of(figures, _NUMBERS)
    return rows_of(figures, {**_ROWS, **(_MULTI if problem_type == MULTI_LABEL else {})})


def notes(guard: Mapping[str, Any], problem_type: str) -> list[str]:
    """Return notes on the figures: columns, cut texts, and the meaning of accuracy and change."""
    kind = "numbers" if problem_type == REGRESSION else "labels"
    labels = f"{kind} from {_columns(guard['labels_from'])}" if guard["labels_from"] else f"no {kind}"
    lines = [f"{guard['file']}: texts from {_columns([guard['text_column']])}, {labels}"]
    if guard["cut"]:
        used = _USED.get(guard["truncation"], "only a part was used")
        lines.append(f"{guard['cut']} of {guard['evaluated']} texts are longer than max_length: {used}")
    if guard["left_out"]:
        lines.append(f"{guard['left_out']} of {guard['rows']} rows are too long for truncation 'error': left out")
    if problem_type == REGRESSION:
        groups = guard.get("groups")
        return (
            [*lines, f"Spearman and Kendall with fp32: by group, where fp32's scores differ; {groups} groups"]
            if groups
            else lines
        )
    if problem_type == MULTI_LABEL and guard["labels_from"]:
        lines.append("accuracy counts a text as right when all its labels are")
    lines.append("the change of a score is the largest among a text's scores")
    return lines


def rung_rows(guard: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each rung: layers in fp32, same label, accuracy lost, file size, "held" or "missed"."""
    rows = []
    for rung in guard["rungs"]:
        count = len(rung["kept_fp32"])
        name = kept_layers(count) if count else "every layer int8"
        same = f"{rung['spearman']['value']:.4f}" if "spearman" in rung else f"{100 * rung['agreement']['value']:.2f} %"
        lost = f"{100 * rung['accuracy_drop']['value']:+.2f} pt" if "accuracy_drop" in rung else ""
        size = f"{rung['model_bytes'] / 1e6:.1f} MB"
        rows.append((name, same, lost, size, "missed" if rung["missed"] else "held"))
    return rows


def limits_in_words(guard: Mapping[str, Any]) -> str:
    """Return the limits in words; empty without limits."""
    drop, agreement = (guard["limits"][name] for name in ("max_accuracy_drop_points", "min_agreement_percent"))
    parts = [] if drop is None else [f"accuracy at most {drop:g} points lower"]
    parts += [] if agreement is None else [f"same label for at least {agreement:g} %"]
    spearman = guard["limits"].get("min_spearman")
    parts += [] if spearman is None else [f"Spearman with fp32 at least {spearman:g}"]
    return ", ".join(parts)


def terminal_lines(guard: Mapping[str, Any], problem_type: str) -> list[str]:
    """Return the lines for a terminal of 80 columns."""
    lines = [f"  {guard['measured']['scheme']} against fp32 on {guard['evaluated']} of your texts"]
    lines += [f"    {note}" for note in notes(guard, problem_type)]
    if not guard["labels_from"]:
        number = "its correlation with your numbers, name their column"
        figure = number if problem_type == REGRESSION else "accuracy, name the column of the labels"
        lines.append(f"    for {figure}: --label-column NAME")
    lines += terminal_table(figure_rows(guard["figures"], problem_type))
    limits = limits_in_words(guard)
    if not limits:
        return lines
    lines.append(f"  limits: {limits}")
    ladder = [("", *_ladder_head(problem_type), "size", ""), *rung_rows(guard)]
    lines += [f"    {name:<27}{a:>11}  {b:>13}  {c:>9}  {d}".rstrip() for name, a, b, c, d in ladder]
    if guard["measured"]["kept_fp32"]:
        lines += ["  kept in fp32:", *(f"    {layer}" for layer in guard["measured"]["kept_fp32"])]
    if not guard["in_bundle"]:
        lines.append("  only fp32 holds the limits: the bundle is fp32, without an int8 model")
    return lines


def card_section(guard: Mapping[str, Any], problem_type: str) -> str:
    """Return the model card's section as Markdown."""
    lines = [f"## {guard['measured']['scheme']} against fp32 on {guard['evaluated']} of the owner's texts", ""]
    if not guard["in_bundle"]:
        lines += ["**int8 missed the limits, so this bundle is fp32.** The figures are of the rejected int8 model:", ""]
    lines += card_table(figure_rows(guard["figures"], problem_type))
    lines += ["", f"{'; '.join(notes(guard, problem_type))}. {guard['intervals']}.", ""]
    if limits := limits_in_words(guard):
        lines += [f"Limits: {limits}.", ""]
    if len(guard["rungs"]) > 1:
        same, lost = _ladder_head(problem_type)
        lines += [f"| model | {same} | {lost} | size | limits |", "| --- | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in rung_rows(guard)]
        lines.append("")
    if guard["measured"]["kept_fp32"]:
        lines += [f"Kept in fp32: {', '.join(f'`{layer}`' for layer in guard['measured']['kept_fp32'])}.", ""]
    lines.append(f"![Change of the scores by int8]({PICTURE})")
    return "\n".join(lines)


def _ladder_head(problem_type: str) -> tuple[str, str]:
    return ("Spearman", "") if problem_type == REGRESSION else ("same label", "accuracy lost")


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
