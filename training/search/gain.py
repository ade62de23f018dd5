"""The gain of one model over another on the same rows, with its paired 95 % interval. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.report.intervals import (
    RESAMPLES,
    SEED,
    Figure,
    bootstrapped,
    macro_f1,
    micro_f1,
    resampled_sums,
)
from training.report.numbers import ranked_groups, ranking

_Floats = NDArray[np.float64]


def gain(dataset: Dataset, before: Predictions, after: Predictions) -> Figure:
    """Return the choosing figure of `after` less that of `before`, with the percentile bootstrap over paired rows.

    Macro-F1, micro-F1 for multi-label, Spearman's correlation for a regression, and for groups nDCG@10, where groups
    are drawn in place of rows. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if dataset.problem_type != REGRESSION:
        return _gain_of_labels(dataset, before, after)
    true, sides = np.array(dataset.numbers), (before.scores[:, 0], after.scores[:, 0])
    if dataset.groups:
        groups = ranked_groups(dataset.groups, true)
        first, second = (np.array([ranking(true[rows], side[rows])[1] for rows in groups]) for side in sides)
        return _drawn(lambda drawn: float((second - first)[drawn].mean()), len(groups))
    return _drawn(lambda rows: _spearman(true[rows], sides[1][rows]) - _spearman(true[rows], sides[0][rows]), len(true))


def _gain_of_labels(dataset: Dataset, before: Predictions, after: Predictions) -> Figure:
    truth, k = dataset.multi_hot(), len(dataset.labels)
    single = dataset.problem_type == SINGLE_LABEL
    f1 = macro_f1 if single else micro_f1
    # As `measure` does: a label without rows counts as 0 there.
    carried = float(truth.any(axis=0).mean()) if single else 1.0
    parts = [truth] + [part for side in (before, after) for part in (side.chosen, truth & side.chosen)]
    features = np.column_stack(parts).astype(np.float64)

    def difference(sums: NDArray[Any]) -> _Floats:
        true, *counts = (sums[..., i * k : (i + 1) * k] for i in range(5))
        first, second = (np.nan_to_num(f1(true, *counts[i : i + 2])) for i in (0, 2))
        found: _Floats = (second - first) * carried
        return found

    return bootstrapped(difference, features, resampled_sums(features))


def _drawn(statistic: Callable[[NDArray[np.int_]], float], n: int) -> Figure:
    rng = np.random.default_rng(SEED)
    values = [statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = (float(end) for end in np.nanpercentile(values, [2.5, 97.5]))
    return Figure(statistic(np.arange(n)), n, low, high)


def _spearman(true: _Floats, found: _Floats) -> float:
    if np.ptp(true) == 0 or np.ptp(found) == 0:
        return float("nan")
    return float(spearmanr(true, found).statistic)
