"""F1 of counts that may be sums over any choice of texts, as the bootstrap needs them. Pure numpy."""

from __future__ import annotations

import numpy as np


def macro_f1(true: np.ndarray, chosen: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return F1 averaged over the labels that texts carry, [...], from counts [..., labels]; NaN where none is carried.

    true: texts that carry the label. chosen: that it was given. hits: both.
    """
    carried = true > 0  # a resample may have lost a rare label; it is left out there
    f1 = np.where(carried, 2 * hits / np.maximum(true + chosen, 1), 0.0)
    count = carried.sum(axis=-1)
    return np.where(count > 0, f1.sum(axis=-1) / np.maximum(count, 1), np.nan)


def micro_f1(true: np.ndarray, chosen: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return F1 of all labels' counts [..., labels] added up, [...]; NaN where no label is carried or given."""
    total = (true + chosen).sum(axis=-1)
    return np.where(total > 0, 2 * hits.sum(axis=-1) / np.maximum(total, 1), np.nan)
