"""Weights far larger than the others of their column, which would set the scale of all of it.

In trained BERTs they sit in the feed-forward layer's last product: one of MiniLM's columns reaches 39 times its
standard deviation, by a few neurons. Such neurons are computed several times, each copy with its share of the
weights: the sum is the same, and the largest weight a fraction (outlier channel splitting, Zhao et al., arXiv
1901.09504).
"""

from __future__ import annotations

import numpy as np

# One copy for so many neurons takes two thirds of these weights' error; eight times as many hardly more (docs/log.md).
_NEURONS_A_COPY = 192
# A wider product takes longer, so copies are made where the squares of the columns' scales fall at least this far.
_WORTH_IT = 0.7


def split_rows(weight: np.ndarray) -> np.ndarray:
    """Return which row of `weight`, [K, N], each row of the widened one is a share of: int64, [K + copies].

    The first K are the rows themselves. Copies go where the largest magnitude of a share then is least; there
    are none where no few weights stand out.
    """
    largest = np.abs(weight).max(axis=1).astype(np.float64)
    rows = np.arange(len(largest))
    room = -(-len(largest) // _NEURONS_A_COPY)
    # With n shares a row is still as large as its largest / n: split what would be largest otherwise.
    bounds = np.concatenate([largest / shares for shares in range(1, room + 1)])
    copied = np.tile(rows, room)[np.argsort(-bounds, kind="stable")[:room]]
    owners = np.concatenate([rows, np.sort(copied)])
    before, after = (np.square(np.abs(w).max(axis=0)).sum() for w in (weight, share(weight, owners)))
    return owners if after < _WORTH_IT * before else rows


def share(weight: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return `weight` widened: each row's part for each of its copies, [K + copies, N]."""
    return np.asarray(weight[owners] / np.bincount(owners)[owners, np.newaxis])


def share_rounded(totals: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return integers that sum to `totals`, [K, N], over each row's copies, as evenly as can be.

    So that copies that round the same way do not add up.
    """
    left = totals.copy()
    copies = np.bincount(owners)
    shares = np.empty((len(owners), totals.shape[1]))
    for i, owner in enumerate(owners):
        shares[i] = np.rint(left[owner] / copies[owner])
        left[owner] -= shares[i]
        copies[owner] -= 1
    return shares
