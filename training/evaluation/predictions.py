"""Predictions of a model for the rows of a data set: scores and chosen labels. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.manifest import NONE, REGRESSION, SINGLE_LABEL, activation_of
from inferer.bundle.reader import DEFAULT_THRESHOLD
from inferer.scoring import activate


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: scores, float64 [rows, labels], and the chosen labels, bool of that shape.

    Scores are from 0 to 1, or the numbers of a regression, which chooses no label. A single-label model chooses exactly
    one label per row, a multi-label model any number.
    """

    scores: NDArray[np.float64]
    chosen: NDArray[np.bool_]


def predictions_from_logits(
    logits: NDArray[np.floating],
    problem_type: str,
    threshold: float = DEFAULT_THRESHOLD,
    activation: str = NONE,
) -> Predictions:
    """Return the predictions that `logits` [rows, labels] mean.

    Single-label: softmax and the best label. Multi-label: sigmoid and every label at or above `threshold`. Regression:
    `activation`, which the others ignore.
    """
    if problem_type == REGRESSION:
        scores = activate(logits, activation)
        return Predictions(scores, np.zeros_like(scores, dtype=bool))
    scores = activate(logits, activation_of(problem_type))
    return Predictions(scores, first_highest(logits) if problem_type == SINGLE_LABEL else scores >= threshold)


def first_highest(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return the place of the first highest value in each row of `values` [rows, labels], bool of that shape."""
    places: NDArray[np.bool_] = np.eye(values.shape[1], dtype=bool)[values.argmax(axis=1)]
    return places
