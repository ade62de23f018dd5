"""Confident learning, by cleanlab: the labels that out-of-fold scores contradict. The only import of cleanlab.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels. JAIR 70, 2021.
"""

from __future__ import annotations

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.label_errors.files import LabelIssue


def find_issues(dataset: Dataset, scores: NDArray[np.float64]) -> list[LabelIssue]:
    """Return the rows of `dataset` that `scores` [rows, labels] contradict, the lowest score of a given label first."""
    issues = _single(dataset, scores) if dataset.problem_type == SINGLE_LABEL else _multi(dataset, scores)
    return sorted(issues, key=lambda issue: issue.score_given)


def _single(dataset: Dataset, scores: NDArray[np.float64]) -> list[LabelIssue]:
    given, best = np.array([row[0] for row in dataset.targets]), scores.argmax(axis=1)
    found = np.flatnonzero(find_label_issues(given, scores, n_jobs=1))
    return [
        LabelIssue(int(i), dataset.targets[i], (int(best[i]),), float(scores[i, given[i]]), float(scores[i, best[i]]))
        for i in found
    ]


def _multi(dataset: Dataset, scores: NDArray[np.float64]) -> list[LabelIssue]:
    """Each label against the rest; one that all rows have, or none, cannot be judged."""
    truth = dataset.multi_hot()
    wrong = np.zeros_like(truth)
    for k in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        binary = np.column_stack([1 - scores[:, k], scores[:, k]])
        wrong[:, k] = find_label_issues(truth[:, k].astype(int), binary, n_jobs=1)
    confidence = np.where(truth, scores, 1 - scores)
    issues = []
    for i in np.flatnonzero(wrong.any(axis=1)):
        suggested = tuple(np.flatnonzero(truth[i] ^ wrong[i]).tolist())
        lowest = float(confidence[i][wrong[i]].min())
        issues.append(LabelIssue(int(i), dataset.targets[i], suggested, lowest, 1 - lowest))
    return issues
