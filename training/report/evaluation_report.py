"""The files of an evaluation: report.json, confusion_matrix.png, misclassified.csv. No torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from inferer.tokens.texts import sides_of
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.report.metrics import measure
from training.report.numbers import write_errors
from training.report.pictures import draw_confusion, draw_numbers

REPORT = "report.json"
CONFUSION = "confusion_matrix.png"
LENGTHS = "token_lengths.png"
MISTAKES = "misclassified.csv"
NUMBERS, ERRORS = "predictions.png", "largest_errors.csv"  # of a regression, in place of the former two
JOINT = "|"  # joins labels if the data has no separator of its own

_SINGLE = ("true", "given", "score_given", "score_true")
_MULTI = ("true", "given", "missed", "wrong", "lowest_score_missed", "highest_score_wrong")


def write_report(
    folder: Path, dataset: Dataset, predictions: Predictions, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the report of `predictions` for `dataset` into `folder`, which exists; return its figures.

    report.json holds `facts`, in JSON types (the model, the file, the options), then the figures of `measure`.
    """
    metrics = measure(dataset, predictions)
    write_json(folder / REPORT, {**(facts or {}), "problem_type": dataset.problem_type, **metrics})
    if dataset.problem_type == REGRESSION:
        draw_numbers(folder / NUMBERS, dataset, predictions)
        write_errors(folder / ERRORS, dataset, predictions.scores[:, 0])
        return metrics
    draw_confusion(folder / CONFUSION, dataset, predictions)
    write_mistakes(folder / MISTAKES, dataset, predictions)
    return metrics


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_mistakes(path: Path, dataset: Dataset, predictions: Predictions) -> None:
    """Write the rows with wrong predictions to the CSV `path`, the most confident mistakes first.

    row: its number among the evaluated rows, from 1. Single-label: the score of the predicted label (score_given),
    highest first, and that of the true one (score_true). Multi-label: the missed and the wrong labels, with the lowest
    score of the one and the highest of the other, ordered by the label that is farthest off: a wrong one from 0, a
    missed one from 1.
    Texts and labels are always quoted and otherwise unchanged, line breaks included, so that a program reads them back.
    A spreadsheet takes a cell that begins with = + - or @ for a formula: import the columns as text.
    """
    single = dataset.problem_type == SINGLE_LABEL
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        texts = ("text", "text_pair") if dataset.columns.text_pair_column else ("text",)
        writer.writerow(("row", *texts, *(_SINGLE if single else _MULTI)))
        writer.writerows((_single_rows if single else _multi_rows)(dataset, predictions))


def _single_rows(dataset: Dataset, predictions: Predictions) -> Iterator[Sequence[Any]]:
    true = np.array([row[0] for row in dataset.targets])
    given = predictions.chosen.argmax(axis=1)
    rows = np.arange(len(dataset))
    score, score_of_true = predictions.scores[rows, given], predictions.scores[rows, true]
    for i in np.argsort(-score, kind="stable"):
        if given[i] != true[i]:
            labels = (dataset.labels[true[i]], dataset.labels[given[i]])
            yield int(i) + 1, *sides_of(dataset.texts[i]), *labels, _rounded(score[i]), _rounded(score_of_true[i])


def _multi_rows(dataset: Dataset, predictions: Predictions) -> Iterator[Sequence[Any]]:
    truth = dataset.multi_hot()
    missed, wrong = truth & ~predictions.chosen, ~truth & predictions.chosen
    off = np.where(missed, 1 - predictions.scores, np.where(wrong, predictions.scores, -1.0)).max(axis=1)
    joint = dataset.columns.separator or JOINT
    for i in np.argsort(-off, kind="stable"):
        if off[i] < 0:
            return
        sets = (truth[i], predictions.chosen[i], missed[i], wrong[i])
        names = [joint.join(dataset.labels[k] for k in np.flatnonzero(flags)) for flags in sets]
        lowest = _rounded(predictions.scores[i][missed[i]].min()) if missed[i].any() else None
        highest = _rounded(predictions.scores[i][wrong[i]].max()) if wrong[i].any() else None
        yield int(i) + 1, *sides_of(dataset.texts[i]), *names, lowest, highest


def _rounded(score: float) -> float:
    return round(float(score), 6)
