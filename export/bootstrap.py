"""Several figures from one paired bootstrap over texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from training.report.intervals import Figure, bootstrapped, resampled_sums

Sums = Mapping[str, np.ndarray]
Statistic = Callable[[Sums], np.ndarray]


def bootstrap_figures(
    columns: Mapping[str, np.ndarray], statistics: Mapping[str, Statistic], unbiased: Collection[str] = ()
) -> dict[str, Figure]:
    """Return the figures of `statistics`, functions of the sums of `columns` over texts.

    columns: [texts] or [texts, k], by name; a statistic gets their sums [..., k] by those names. unbiased: figures
    with an interval shifted by the bootstrap's own estimate of the bias.
    """
    blocks = [column.reshape(len(column), -1) for column in columns.values()]
    features = np.concatenate(blocks, axis=1, dtype=np.float64)
    ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
    resampled = resampled_sums(features)

    def by_name(statistic: Statistic) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: statistic(dict(zip(columns, np.split(sums, ends, axis=-1), strict=True)))

    return {
        name: bootstrapped(by_name(statistic), features, resampled, unbiased=name in unbiased)
        for name, statistic in statistics.items()
    }


def mean_of(column: str, texts: int) -> Statistic:
    """Return the statistic that is the mean of a column over `texts`."""
    return lambda sums: sums[column][..., 0] / texts


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the statistic `first` less `second`."""
    return lambda sums: first(sums) - second(sums)


def f1_of(f1: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], model: str) -> Statistic:
    """Return the statistic `f1` of the columns true, chosen_… and hits_… of `model`."""
    return lambda sums: f1(sums["true"], sums[f"chosen_{model}"], sums[f"hits_{model}"])
