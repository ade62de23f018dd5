"""What an evaluation leaves in a folder: report.json, confusion_matrix.png, misclassified.csv. No torch.

Knows the answers and the truth, not the model that gave them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.report.metrics import measure
from training.report.pictures import draw_confusion

REPORT = "report.json"
CONFUSION = "confusion_matrix.png"
LENGTHS = "token_lengths.png"
MISTAKES = "misclassified.csv"
_JOINT = "|"  # between labels, where the data's own separator is not known

_SINGLE = ("row", "text", "true", "given", "score_given", "score_true")
_MULTI = ("row", "text", "true", "given", "missed", "wrong", "lowest_score_missed", "highest_score_wrong")


def write_report(
    folder: Path, dataset: Dataset, predictions: Predictions, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the report of `predictions` to the rows of `dataset` into `folder`, which exists; return its figures.

    report.json holds `facts`, in JSON types (which model, which file, how it was asked), then what `measure` gives.
    """
    metrics = measure(dataset, predictions)
    report = {**(facts or {}), "problem_type": dataset.problem_type, **metrics}
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_confusion(folder / CONFUSION, dataset, predictions)
    write_mistakes(folder / MISTAKES, dataset, predictions)
    return metrics


def write_mistakes(path: Path, dataset: Dataset, predictions: Predictions) -> None:
    """Write the rows that `predictions` get wrong to the CSV `path`, the most confident mistakes first.

    row: of the evaluated rows, from 1. Single-label: score_given, and score_true, that of the true label; the highest
    score_given comes first. Multi-label: the labels missed and those given wrongly, with the lowest score of the one
    and the highest of the other; the row comes first whose worst label is farthest off, a score from 0 where it is
    wrong, from 1 where it is missed.
    Texts and labels stand as they are in the data, always quoted, line breaks included, so that a program reads them
    back unchanged. A spreadsheet takes one that begins with = + - or @ for a formula, quoted or not: import such a file
    with its columns as text. To alter texts instead would be to evaluate others than were asked for.
    """
    single = dataset.problem_type == SINGLE_LABEL
    rows = list((_single_rows if single else _multi_rows)(dataset, predictions))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(_SINGLE if single else _MULTI)
        writer.writerows(rows)


def _single_rows(dataset: Dataset, predictions: Predictions) -> Iterator[Sequence[Any]]:
    true = np.array([row[0] for row in dataset.targets])
    given = predictions.chosen.argmax(axis=1)
    rows = np.arange(len(dataset))
    score, score_of_true = predictions.scores[rows, given], predictions.scores[rows, true]
    for i in np.argsort(-score, kind="stable"):
        if given[i] != true[i]:
            labels = (dataset.labels[true[i]], dataset.labels[given[i]])
            yield int(i) + 1, dataset.texts[i], *labels, _rounded(score[i]), _rounded(score_of_true[i])


def _multi_rows(dataset: Dataset, predictions: Predictions) -> Iterator[Sequence[Any]]:
    truth = dataset.multi_hot()
    missed, wrong = truth & ~predictions.chosen, ~truth & predictions.chosen
    off = np.where(missed, 1 - predictions.scores, np.where(wrong, predictions.scores, -1.0)).max(axis=1)
    joint = dataset.columns.separator or _JOINT
    for i in np.argsort(-off, kind="stable"):
        if off[i] < 0:
            return
        sets = (truth[i], predictions.chosen[i], missed[i], wrong[i])
        names = [joint.join(dataset.labels[k] for k in np.flatnonzero(flags)) for flags in sets]
        lowest = _rounded(predictions.scores[i][missed[i]].min()) if missed[i].any() else None
        highest = _rounded(predictions.scores[i][wrong[i]].max()) if wrong[i].any() else None
        yield int(i) + 1, dataset.texts[i], *names, lowest, highest


def _rounded(score: float) -> float:
    return round(float(score), 6)
