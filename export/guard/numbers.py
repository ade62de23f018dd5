"""Figures of int8 against fp32 for a regression or a reranker: how far its numbers move, and their ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import kendalltau, spearmanr

from export.errors import ExportError
from export.predictions import Predictions
from training.report.intervals import RESAMPLES, SEED, Figure

_KENDALL_RESAMPLES = 200  # each sorts all texts
METHOD = (
    f"95 % intervals: percentile bootstrap over texts, or over groups ({RESAMPLES} resamples, {_KENDALL_RESAMPLES} for "
    f"Kendall over texts, seed {SEED}), paired"
)
_Statistic = Callable[[np.ndarray], float]


def compare_numbers(
    fp32: Predictions, int8: Predictions, truth: np.ndarray | None, groups: Sequence[str]
) -> dict[str, Figure]:
    """Return the figures of int8 against fp32 on the same texts.

    mean_change, largest_change: of the scores. spearman, kendall: of int8's scores with fp32's, and with `groups` their
    means over the groups to which fp32 gives different scores, such as the documents of a query; 0 for scores of int8
    that are all equal. With truth, float64 [texts, 1]: spearman_fp32, spearman_int8 with the true numbers, over all
    texts, and spearman_drop, their difference. Raises ExportError where fp32 gives no group different scores.
    Sources: Spearman (1904); Kendall's tau-b (1945), by scipy.
    """
    first, second = fp32.scores[:, 0], int8.scores[:, 0]
    change = np.abs(second - first)
    n = len(first)
    places = _places_of(groups, first)
    figures = {"largest_change": Figure(float(change.max()), n)}
    figures |= _bootstrapped({"mean_change": _mean_of(change)}, n, RESAMPLES)
    if places is None:
        figures |= _bootstrapped({"spearman": lambda rows: _spearman(first[rows], second[rows])}, n, RESAMPLES)
        figures |= _bootstrapped({"kendall": lambda rows: _kendall(first[rows], second[rows])}, n, _KENDALL_RESAMPLES)
    else:
        for name, measure in (("spearman", _spearman), ("kendall", _kendall)):
            values = np.array([measure(first[rows], second[rows]) for rows in places])
            figures |= _bootstrapped({name: _mean_of(values)}, len(values), RESAMPLES)
    if truth is not None:
        true = truth[:, 0]
        found: dict[str, _Statistic] = {
            "spearman_fp32": lambda rows: _spearman(first[rows], true[rows]),
            "spearman_int8": lambda rows: _spearman(second[rows], true[rows]),
        }
        found["spearman_drop"] = lambda rows: found["spearman_fp32"](rows) - found["spearman_int8"](rows)
        figures |= _bootstrapped(found, n, RESAMPLES)
    return figures


def _mean_of(values: np.ndarray) -> _Statistic:
    return lambda rows: float(values[rows].mean())


def _places_of(groups: Sequence[str], scores: np.ndarray) -> list[np.ndarray] | None:
    """Return the places of each group with different scores; None without groups."""
    if not groups:
        return None
    _, numbers = np.unique(np.array(groups), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    ordered = [part for part in parts if np.ptp(scores[part]) > 0]
    if not ordered:
        raise ExportError(
            "--group-column: in each group fp32 gives all texts the same score, so ranks cannot be compared"
        )
    return ordered


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation; 0 where one side is constant, which tells nothing of the order."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def _kendall(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(kendalltau(first, second).statistic)


def _bootstrapped(statistics: dict[str, _Statistic], n: int, resamples: int) -> dict[str, Figure]:
    """Return each statistic of all `n` rows, with the interval of its values over rows drawn with replacement."""
    rng = np.random.default_rng(SEED)
    drawn = [rng.integers(0, n, n) for _ in range(resamples)]
    figures = {}
    for name, statistic in statistics.items():
        values = np.array([statistic(rows) for rows in drawn])
        low, high = (float(end) for end in np.nanpercentile(values, [2.5, 97.5]))
        figures[name] = Figure(statistic(np.arange(n)), n, low, high)
    return figures
