"""Outlier weights, split over copies of their neuron.

A weight far larger than the others of its column would set the int8 scale of the whole column. In trained BERTs such
weights sit in the last product of the feed-forward layer: a column of MiniLM reaches 39 standard deviations, by a few
neurons. Each copy of a neuron takes a share of its weights, so the sum stays and the largest weight shrinks (outlier
channel splitting, Zhao et al., arXiv 1901.09504).
"""

from __future__ import annotations

import numpy as np

# One copy per 192 neurons removes two thirds of the error of these weights, eight times as many hardly more
# (docs/log.md).
_NEURONS_PER_COPY = 192
# A wider product takes longer, so copies must bring the sum of squared column scales down to this share.
_MOST_SHARE = 0.7


def split_rows(weight: np.ndarray) -> np.ndarray:
    """Return for each row of the widened weight the row of `weight`, [K, N], that owns it: int64, [K + copies].

    The first K are the rows themselves. Copies go where they lower the largest magnitude most; a weight without
    outliers gets none.
    """
    largest = np.abs(weight).max(axis=1).astype(np.float64)
    rows = np.arange(len(largest))
    room = -(-len(largest) // _NEURONS_PER_COPY)
    # A row split n times still reaches its largest / n: split the rows that would reach farthest.
    bounds = np.concatenate([largest / shares for shares in range(1, room + 1)])
    copied = np.tile(rows, room)[np.argsort(-bounds, kind="stable")[:room]]
    owners = np.concatenate([rows, np.sort(copied)])
    before, after = (np.square(np.abs(w).max(axis=0)).sum() for w in (weight, share(weight, owners)))
    return owners if after < _MOST_SHARE * before else rows


def share(weight: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return `weight` widened to [K + copies, N]: each row divided by the number of its copies."""
    return np.asarray(weight[owners] / np.bincount(owners)[owners, np.newaxis])


def share_rounded(totals: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return integers that sum to `totals`, [K, N], over each row's copies, as evenly as possible.

    Rounding each copy alone would add up errors of one sign.
    """
    left = totals.copy()
    copies = np.bincount(owners)
    shares = np.empty((len(owners), totals.shape[1]))
    for i, owner in enumerate(owners):
        shares[i] = np.rint(left[owner] / copies[owner])
        left[owner] -= shares[i]
        copies[owner] -= 1
    return shares
