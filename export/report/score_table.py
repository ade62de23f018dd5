"""The meaning of a bundle's scores on the terminal and in the model card, from the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.report.tables import card_table, cell, rows_of, terminal_notes, terminal_table
from inferer.bundle.reader import DEFAULT_THRESHOLD, RELIABILITY

_ROWS = {
    "ece_before": ("ECE before", "score"),
    "ece_after": ("ECE after", "score"),
    "ece_change": ("ECE, after less before", "change"),
    "ece_by_chance": ("ECE by chance", "score"),
    "brier_before": ("Brier score before", "score"),
    "brier_after": ("Brier score after", "score"),
    "brier_change": ("Brier, after less before", "change"),
    "nll_before": ("log loss before, nats", "score"),
    "nll_after": ("log loss after, nats", "score"),
    "nll_change": ("log loss, after less before", "change"),
    "accuracy_before": ("accuracy before", "percent"),
    "accuracy_after": ("accuracy after", "percent"),
    "macro_f1_before": ("macro-F1 before", "score"),
    "macro_f1_calibrated": ("macro-F1 calibrated", "score"),
    "macro_f1_tuned": ("macro-F1 calibrated, tuned", "score"),
    "macro_f1_gain": ("macro-F1, gain by tuning", "change"),
    "micro_f1_before": ("micro-F1 before", "score"),
    "micro_f1_calibrated": ("micro-F1 calibrated", "score"),
    "micro_f1_tuned": ("micro-F1 calibrated, tuned", "score"),
    "micro_f1_gain": ("micro-F1, gain by tuning", "change"),
    "answered": ("texts that get a label", "percent"),
    "accuracy_answered": ("accuracy of those", "percent"),
    "accuracy_all": ("accuracy of all, none kept", "percent"),
}


def how_fitted(calibration: Mapping[str, Any]) -> str:
    """Return one sentence on the fit, its rows, and the rows of the figures."""
    if calibration["method"] == "temperature":
        fit = f"temperature {calibration['temperature']:.4g}"
    else:
        fit = "a scale and a bias per label"
    fit += f" fitted to the logits of {calibration['model']}"
    if calibration["tuning"]:
        fit += f", and a threshold per label ({calibration['tuning']}),"
    fit += f" on {calibration['fitted_rows']:,} rows of {calibration['file']}"
    if calibration["held_back"]:
        return f"{fit}; figures on the other {calibration['reported_rows']:,}"
    return f"{fit}; figures on {calibration['reported_rows']:,} rows of {calibration['reported_file']}"


def notes(calibration: Mapping[str, Any]) -> list[str]:
    """Return notes on the figures: cut texts, definitions, and labels that were not fitted."""
    lines = []
    cut, left_out, rows = calibration["cut"], calibration["left_out"], calibration["rows"]
    if cut:
        lines.append(f"{cut:,} of {rows:,} texts are longer than max_length")
    if left_out:
        lines.append(f"{left_out:,} of {rows:,} rows are too long for truncation 'error': left out")
    labels = calibration["labels"]
    if labels is None:
        return [*lines, "ECE: the best label's score against whether it is right"]
    lines.append("ECE: every label's score against whether the text has the label")
    plain = {row["threshold_before"] for row in labels.values()}
    given = f"{DEFAULT_THRESHOLD:g}" if plain == {DEFAULT_THRESHOLD} else "as configured"
    lines.append(f"F1 before and calibrated: thresholds {given}; macro-F1 over the labels of the reported texts")
    tuned = [row["threshold"] for row in labels.values() if row["threshold"] != row["threshold_before"]]
    if tuned:
        lines.append(f"thresholds of {len(tuned)} of {len(labels)} labels tuned: {min(tuned):.4f} to {max(tuned):.4f}")
    return lines + list(calibration["notes"])


def when_abstaining(abstention: Mapping[str, Any]) -> str:
    """Return one sentence on the threshold of abstention and the rows of its figures."""
    below = f"no label where the best score is below {abstention['below']:.4g}"
    if abstention["fitted_rows"] is not None:
        below += f" ({abstention['asked']} on the {abstention['fitted_rows']:,} fitted rows)"
    return f"{below}; figures on {abstention['reported_rows']:,} rows of {abstention['reported_file']}"


def terminal_lines(calibration: Mapping[str, Any] | None, abstention: Mapping[str, Any] | None) -> list[str]:
    """Return the lines for a terminal of 80 columns."""
    lines = []
    if calibration is not None:
        lines += ["  calibration", *terminal_notes([how_fitted(calibration), *notes(calibration)])]
        lines += terminal_table(rows_of(calibration["figures"], _ROWS))
    if abstention is not None:
        lines += ["  abstaining", *terminal_notes([when_abstaining(abstention)])]
        lines += terminal_table(rows_of(abstention["figures"], _ROWS))
    return lines


def card_section(manifest: Mapping[str, Any]) -> str:
    """Return the model card's section as Markdown, from the manifest's fields."""
    calibration, abstention = manifest["calibration"], manifest["abstention"]
    lines = ["## What a score means", ""]
    if calibration is None:
        lines += ["Scores are not calibrated: a score of 0.9 does not mean right nine times in ten.", ""]
    else:
        lines += [_meaning(calibration), ""]
        lines += [*card_table(rows_of(calibration["figures"], _ROWS)), ""]
        lines += [f"{'. '.join([_sentence(note) for note in notes(calibration)])}. {calibration['intervals']}.", ""]
        lines += [f"![Share of right predictions, by score]({RELIABILITY})", ""]
    lines += _thresholds(manifest)
    if manifest["abstain_threshold"] is not None:
        abstains = f"The model names no label where the best score is below {manifest['abstain_threshold']:.6g}"
        lines += [f"{abstains}: `labels` is empty and `abstained` is true.", ""]
    if abstention is not None:
        lines += [f"{_sentence(when_abstaining(abstention))}.", ""]
        lines += [*card_table(rows_of(abstention["figures"], _ROWS)), ""]
    return "\n".join(lines).rstrip()


def _meaning(calibration: Mapping[str, Any]) -> str:
    one = "Of the texts whose best score is near 0.9, about nine in ten are labelled right"
    many = "Of the texts with a score near 0.9 for a label, about nine in ten have the label"
    means = one if calibration["labels"] is None else many
    return f"Scores are calibrated. {means}, on texts like the fitted ones: {how_fitted(calibration)}."


def _thresholds(manifest: Mapping[str, Any]) -> list[str]:
    thresholds, calibration = manifest["thresholds"], manifest["calibration"]
    if thresholds is None:
        return []
    lines = ["A text gets every label with a score at or above its threshold.", ""]
    if calibration is None:
        lines += ["| label | threshold |", "| --- | ---: |"]
        return [*lines, *(f"| {cell(label)} | {threshold:.4g} |" for label, threshold in thresholds.items()), ""]
    lines += ["| label | fitted texts with it | reported | scale | bias | threshold | tuned |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for label, row in calibration["labels"].items():
        tuned = "" if row["threshold"] == row["threshold_before"] else calibration["tuning"]
        lines.append(
            f"| {cell(label)} | {row['fitted']} | {row['reported']} | {row['scale']:.4g} | {row['bias']:.4g} | "
            f"{row['threshold']:.4g} | {tuned} |"
        )
    return [*lines, ""]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
