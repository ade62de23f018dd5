"""Where to cut scores: the threshold of best F1, and the lowest at which enough of what is above is right. Pure numpy.

A threshold is the midpoint between two neighbouring scores of those it was chosen on, so that no rounding decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class _Cuts:
    """Every way to cut, highest first: the threshold, scores at or above it, and how many of them are right."""

    thresholds: np.ndarray
    above: np.ndarray
    right: np.ndarray


def _cuts(scores: np.ndarray, right: np.ndarray) -> _Cuts:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    below = np.append(ordered[1:], 0.0)
    ends = np.append(ordered[:-1] > ordered[1:], True)  # equal scores are on the same side of every cut
    middle = (ordered + below) / 2
    thresholds = np.where(middle > below, middle, ordered)  # neighbouring floats have no midpoint
    above = np.arange(1, len(scores) + 1)
    return _Cuts(thresholds[ends], above[ends], np.cumsum(right[order])[ends])


def best_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of `scores` [texts] whose F1 against `truth`, bool [texts], is best; of equals, nearest 0.5.

    At least one text must be true.
    """
    cuts = _cuts(scores, truth)
    f1 = 2 * cuts.right / (cuts.above + truth.sum())
    best = cuts.thresholds[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def lowest_with_share(scores: np.ndarray, right: np.ndarray, share: float) -> float | None:
    """Return the lowest threshold at or above which at least `share` of `right`, bool [texts], is true; None for none.

    With a label's scores and who carries it, that share is precision, and the lowest threshold the greatest recall.
    """
    cuts = _cuts(scores, right)
    enough = cuts.thresholds[cuts.right / cuts.above >= share]
    return float(enough[-1]) if len(enough) else None
