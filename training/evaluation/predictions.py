"""What a model answers to rows of a data set: its scores, and the labels that it names. Pure numpy.

Knows neither the truth nor figures; export has its own, which knows what a bundle does to logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferer.bundle.manifest import SINGLE_LABEL

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: scores, float64 [rows, labels] in 0 to 1, and the labels it names, bool of that shape.

    Single-label names exactly one label a row; multi-label any number.
    """

    scores: np.ndarray
    chosen: np.ndarray


def predictions_from_logits(logits: np.ndarray, problem_type: str, threshold: float = DEFAULT_THRESHOLD) -> Predictions:
    """Return what `logits` [rows, labels] mean: softmax and the best label, or sigmoid and all at or above `threshold`.

    Of equally high logits the first label's counts. threshold: multi-label alone, one for all labels.
    """
    values = logits.astype(np.float64)
    if problem_type == SINGLE_LABEL:
        scores = np.exp(values - values.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return Predictions(scores, first_highest(values))
    small = np.exp(-np.abs(values))  # of a non-positive number only, so that no logit overflows
    scores = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return Predictions(scores, scores >= threshold)


def first_highest(values: np.ndarray) -> np.ndarray:
    """Return where the first highest of each row of `values` [rows, labels] is, bool of that shape."""
    return np.eye(values.shape[1], dtype=bool)[values.argmax(axis=1)]
