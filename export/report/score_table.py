"""What a bundle's scores mean, for a reader: rows and sentences shared by the screen and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.report.tables import Row, card_table, cell, rows_of, screen_notes, screen_table
from inferer.bundle.reader import DEFAULT_THRESHOLD, RELIABILITY

_WORDS = {
    "ece_before": ("ECE before", "score"),
    "ece_after": ("ECE after", "score"),
    "ece_change": ("ECE, after less before", "change"),
    "ece_by_chance": ("ECE if scores were exact", "score"),
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


def figure_rows(figures: Mapping[str, Any]) -> list[Row]:
    """Return a row for each figure that is there: what, value, 95 % interval, n."""
    return rows_of(figures, _WORDS)


def how_fitted(calibration: Mapping[str, Any]) -> str:
    """Return in a sentence what was fitted to what, and on which other rows the figures are."""
    if calibration["method"] == "temperature":
        what = f"temperature {calibration['temperature']:.4g}"
    else:
        what = "a scale and a bias for each label"
    what += f" fitted to the answers of {calibration['model']}"
    if calibration["tuning"]:
        what += f", and a threshold a label ({calibration['tuning']}),"
    what += f" on {calibration['fitted_rows']:,} rows of {calibration['file']}"
    if calibration["held_back"]:
        return f"{what}; figures on the other {calibration['reported_rows']:,}"
    return f"{what}; figures on {calibration['reported_rows']:,} rows of {calibration['reported_file']}"


def notes(calibration: Mapping[str, Any]) -> list[str]:
    """Return what must be known to read the figures, and what was not fitted."""
    lines = []
    if calibration["cut"]:
        lines.append(f"{calibration['cut']:,} of {calibration['rows']:,} texts are longer than is read")
    if calibration["left_out"]:
        lines.append(
            f"{calibration['left_out']:,} of {calibration['rows']:,} rows are too long for truncation 'error': left out"
        )
    labels = calibration["labels"]
    if labels is None:
        return [*lines, "ECE: the best label's score against whether it is right"]
    lines.append("ECE: every label's score against whether the text carries the label")
    plain = {row["threshold_before"] for row in labels.values()}
    given = f"{DEFAULT_THRESHOLD:g}" if plain == {DEFAULT_THRESHOLD} else "as configured"
    lines.append(f"F1 before and calibrated: thresholds {given}; macro-F1 over the labels that reported texts carry")
    tuned = [row["threshold"] for row in labels.values() if row["threshold"] != row["threshold_before"]]
    if tuned:
        lines.append(f"thresholds of {len(tuned)} of {len(labels)} labels tuned: {min(tuned):.4f} to {max(tuned):.4f}")
    return lines + list(calibration["notes"])


def when_abstaining(abstention: Mapping[str, Any]) -> str:
    """Return in a sentence below which score no label is named, and on which rows the figures are."""
    below = f"no label where the best score is below {abstention['below']:.4g}"
    if abstention["fitted_rows"] is not None:
        below += f" ({abstention['asked']} on the {abstention['fitted_rows']:,} fitted rows)"
    return f"{below}; figures on {abstention['reported_rows']:,} rows of {abstention['reported_file']}"


def screen(calibration: Mapping[str, Any] | None, abstention: Mapping[str, Any] | None) -> list[str]:
    """Return the lines for a terminal of 80 columns."""
    lines = []
    if calibration is not None:
        lines += ["  calibration", *screen_notes([how_fitted(calibration), *notes(calibration)])]
        lines += screen_table(figure_rows(calibration["figures"]))
    if abstention is not None:
        lines += ["  abstaining", *screen_notes([when_abstaining(abstention)])]
        lines += screen_table(figure_rows(abstention["figures"]))
    return lines


def card_section(manifest: Mapping[str, Any]) -> str:
    """Return the model card's section as Markdown, from the manifest's fields."""
    calibration, abstention = manifest["calibration"], manifest["abstention"]
    lines = ["## What a score means", ""]
    if calibration is None:
        lines += ["Scores are not calibrated: a score of 0.9 does not mean right nine times in ten.", ""]
    else:
        lines += [_meaning(calibration), ""]
        lines += [*card_table(figure_rows(calibration["figures"])), ""]
        lines += [f"{'. '.join([_sentence(note) for note in notes(calibration)])}. {calibration['intervals']}.", ""]
        lines += [f"![How often answers are right, by score]({RELIABILITY})", ""]
    lines += _thresholds(manifest)
    if manifest["abstain_threshold"] is not None:
        lines += [
            f"No label is named where the best score is below {manifest['abstain_threshold']:.6g}: `labels` is empty "
            "and `abstained` is true.",
            "",
        ]
    if abstention is not None:
        lines += [f"{_sentence(when_abstaining(abstention))}.", "", *card_table(figure_rows(abstention["figures"])), ""]
    return "\n".join(lines).rstrip()


def _meaning(calibration: Mapping[str, Any]) -> str:
    one = "Of the texts whose best score is near 0.9, about nine in ten are labelled right"
    many = "Of the texts to which a label gives a score near 0.9, about nine in ten carry it"
    means = one if calibration["labels"] is None else many
    return f"Scores are calibrated. {means}, on texts like those that were fitted on: {how_fitted(calibration)}."


def _thresholds(manifest: Mapping[str, Any]) -> list[str]:
    thresholds, calibration = manifest["thresholds"], manifest["calibration"]
    if thresholds is None:
        return []
    lines = ["A text gets every label whose score is at or above its threshold.", ""]
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
