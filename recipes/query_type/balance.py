"""Classes brought to one size by sampling rows of the training part."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset


def balanced(train: Dataset, seed: int, rows_each: int) -> Dataset:
    """Return single-label `train` with `rows_each` rows of every label, in the data's order, copies side by side.

    A larger class is sampled without replacement. A smaller one keeps every row and is topped up by the bootstrap: rows
    drawn with replacement. A class's draw depends on `seed` and its own rows alone. Split first, then balance: the
    result has no text that `train` lacks.
    """
    classes = np.array([row[0] for row in train.targets])
    chosen: list[int] = []
    for label_id in range(len(train.labels)):
        rows = np.flatnonzero(classes == label_id)
        draw = np.random.default_rng([seed, label_id])
        if len(rows) >= rows_each:
            chosen += draw.choice(rows, rows_each, replace=False).tolist()
        else:
            chosen += [*rows.tolist(), *draw.choice(rows, rows_each - len(rows), replace=True).tolist()]
    return train.subset(sorted(chosen))
