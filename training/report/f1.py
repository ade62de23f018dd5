"""F1 from counts, which may be sums over any choice of texts, as the bootstrap needs them. Pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Counts = NDArray[Any]


def macro_f1(true: _Counts, chosen: _Counts, hits: _Counts) -> NDArray[np.float64]:
    """Return F1 averaged over the labels that texts carry, [...], from counts [..., labels]; NaN if none is carried.

    true: texts that carry the label. chosen: texts for which it was predicted. hits: texts with both.
    """
    carried = true > 0  # a resample may lose a rare label, which then does not count
    f1 = np.where(carried, 2 * hits / np.maximum(true + chosen, 1), 0.0)
    count = carried.sum(axis=-1)
    return np.where(count > 0, f1.sum(axis=-1) / np.maximum(count, 1), np.nan)


def micro_f1(true: _Counts, chosen: _Counts, hits: _Counts) -> NDArray[np.float64]:
    """Return F1 of the counts [..., labels] of all labels together, [...]; NaN if none is carried or predicted."""
    total = (true + chosen).sum(axis=-1)
    return np.where(total > 0, 2 * hits.sum(axis=-1) / np.maximum(total, 1), np.nan)
