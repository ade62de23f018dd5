"""Classes brought to one size by drawing rows: of the training part alone, so that no held-out row can come in."""

from __future__ import annotations

import numpy as np

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import TrainingError


def balanced(train: Dataset, seed: int, rows_each: int | None = None) -> Dataset:
    """Return `train` with `rows_each` rows of every label, by default as many as the largest class has.

    A larger class gives rows drawn without replacement, so each stands once at most. A smaller one keeps every row
    and is topped up by the bootstrap: rows of its own, drawn with replacement. The same data and seed give the same
    rows, in the data's order, copies side by side. A class's draw depends on its own rows alone.

    Split first, balance then: what comes out has texts of what goes in and no others. Raises TrainingError for
    multi-label data, for a class without rows, and for rows_each below 1.
    """
    if train.problem_type != SINGLE_LABEL:
        raise TrainingError("classes can be balanced in single-label data only: a row of several labels is in several")
    sizes = train.counts()
    empty = [label for label, n in sizes.items() if n == 0]
    if empty:
        raise TrainingError(f"label '{empty[0]}' has no row to draw from; classes cannot be balanced")
    if rows_each is not None and rows_each < 1:
        raise TrainingError(f"rows_each is {rows_each}, expected 1 or more")
    size = max(sizes.values()) if rows_each is None else rows_each
    classes = np.array([row[0] for row in train.targets])
    chosen: list[int] = []
    for label_id in range(len(train.labels)):
        rows = np.flatnonzero(classes == label_id)
        draw = np.random.default_rng([seed, label_id])
        if len(rows) >= size:
            chosen += draw.choice(rows, size, replace=False).tolist()
        else:
            chosen += [*rows.tolist(), *draw.choice(rows, size - len(rows), replace=True).tolist()]
    return train.subset(sorted(chosen))
