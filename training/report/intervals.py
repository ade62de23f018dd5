"""F1 from counts, and figures with n and 95 % interval: Wilson for shares, else the bootstrap. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
_Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


@dataclass(frozen=True)
class Figure:
    """A value measured on `n` texts and the ends of its 95 % interval; None if it has none, as a maximum."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


def wilson(hits: int, n: int) -> Figure:
    """Return the share `hits` / `n` with Wilson's score interval, which stays within 0 to 1 and is sound at the ends.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    share = hits / n
    centre = share + _Z**2 / (2 * n)
    spread = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = (float((centre + sign * spread) / (1 + _Z**2 / n)) for sign in (-1, 1))
    return Figure(share, n, max(0.0, low), min(1.0, high))


def resampled_sums(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums of `features` [texts, k] over texts drawn with replacement: [RESAMPLES, k].

    The draws are seeded and of whole texts, so figures from the columns of one call are paired. Source: Efron and
    Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 13.
    """
    rng = np.random.default_rng(SEED)
    n = len(features)
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) @ features for _ in range(RESAMPLES)])


def bootstrapped(
    statistic: Callable[[NDArray[Any]], NDArray[np.float64]],
    features: NDArray[Any],
    resampled: NDArray[np.float64],
    *,
    unbiased: bool = False,
) -> Figure:
    """Return `statistic` of the sums of `features` [texts, k], with the interval from `resampled` sums.

    statistic: maps sums [..., k] to values [...]. resampled: from `resampled_sums`. unbiased: shift the interval by the
    bootstrap's estimate of the bias, the mean of the resamples less the value; a statistic of absolute values, which is
    larger in every resample, needs it (Efron and Tibshirani, chapter 10).
    """
    values = statistic(resampled)
    value = float(statistic(features.sum(axis=0)))
    bias = float(np.nanmean(values)) - value if unbiased else 0.0
    low, high = (float(end) - bias for end in np.nanpercentile(values, [2.5, 97.5]))
    return Figure(value, len(features), low, high)


def macro_f1(true: NDArray[Any], chosen: NDArray[Any], hits: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 averaged over the labels that texts carry, [...], from counts [..., labels]; NaN if none is carried.

    true: texts that carry the label. chosen: texts for which it was predicted. hits: texts with both.
    """
    carried = true > 0  # a resample may lose a rare label, which then does not count
    f1 = np.where(carried, 2 * hits / np.maximum(true + chosen, 1), 0.0)
    count = carried.sum(axis=-1)
    return np.where(count > 0, f1.sum(axis=-1) / np.maximum(count, 1), np.nan)


def micro_f1(true: NDArray[Any], chosen: NDArray[Any], hits: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 of the counts [..., labels] of all labels together, [...]; NaN if none is carried or predicted."""
    total = (true + chosen).sum(axis=-1)
    return np.where(total > 0, 2 * hits.sum(axis=-1) / np.maximum(total, 1), np.nan)
