"""Thresholds on scores: the one of best F1, and the lowest whose scores are right often enough. Pure numpy.

A threshold is the midpoint of two neighbouring scores of the fitted rows, so rounding decides nothing.
"""

from __future__ import annotations

import numpy as np

from inferer.bundle.reader import DEFAULT_THRESHOLD


def _cuts(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all thresholds, highest first, with the counts of scores at or above each and of those that are right."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    below = np.append(ordered[1:], 0.0)
    ends = np.append(ordered[:-1] > ordered[1:], True)  # equal scores lie on the same side of every threshold
    middle = (ordered + below) / 2
    thresholds = np.where(middle > below, middle, ordered)  # neighbouring floats have no midpoint
    above = np.arange(1, len(scores) + 1)
    return thresholds[ends], above[ends], np.cumsum(right[order])[ends]


def best_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of best F1 of `scores` against `truth`, bool of their shape; of equals, the nearest to 0.5.

    Scores of several labels give one threshold for all, of the best micro-F1. Without a true entry it is 0.5.
    """
    if not truth.any():
        return DEFAULT_THRESHOLD
    thresholds, above, right = _cuts(scores.ravel(), truth.ravel())
    f1 = 2 * right / (above + truth.sum())
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - DEFAULT_THRESHOLD).argmin()])


def lowest_with_share(scores: np.ndarray, right: np.ndarray, share: float) -> float | None:
    """Return the lowest threshold at or above which at least `share` of `right`, bool [texts], is true.

    None if no threshold reaches it. With one label's scores and truth, the share is precision, and the lowest threshold
    has the highest recall.
    """
    thresholds, above, hits = _cuts(scores, right)
    enough = thresholds[hits / above >= share]
    return float(enough[-1]) if len(enough) else None
