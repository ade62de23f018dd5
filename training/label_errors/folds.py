"""K folds of labelled texts for out-of-fold predictions. No torch."""

from __future__ import annotations

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.splits.stratify import plain


def fold_of_rows(dataset: Dataset, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row, 0 to `folds` - 1, int64 [rows].

    Rows with equal texts, or of one group, share a fold. Texts are stratified by the labels of their first row
    (multi-label: iteratively, Sechidis et al., ECML PKDD 2011), groups are not. Raises TrainingError, naming the label,
    for one with fewer different texts than folds.
    """
    keys = dataset.groups or [plain(text) for text in dataset.texts]
    units = {key: unit for unit, key in enumerate(dict.fromkeys(keys))}
    unit_of_row = np.array([units[key] for key in keys])
    _, first = np.unique(unit_of_row, return_index=True)
    one_each = dataset.subset(first.tolist())
    _check(one_each, folds)
    if dataset.groups:
        kind, targets = KFold, None
    elif dataset.problem_type == SINGLE_LABEL:
        kind, targets = StratifiedKFold, np.array([row[0] for row in one_each.targets])
    else:
        kind, targets = MultilabelStratifiedKFold, one_each.multi_hot().astype(int)
    fold_of = np.zeros(len(one_each), dtype=np.int64)
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(one_each)), targets)):
        fold_of[held_out] = fold
    of_rows: NDArray[np.int64] = fold_of[unit_of_row]
    return of_rows


def _check(one_each: Dataset, folds: int) -> None:
    """Raise TrainingError for more folds than there are different texts or groups, or different texts of a label.

    one_each: the first row of each. A multi-label model may have labels without a row.
    """
    what = "groups" if one_each.groups else "different texts"
    if not 2 <= folds <= len(one_each):
        raise TrainingError(f"--folds is {folds}, expected 2 to {len(one_each)}, the {what} of --data")
    if one_each.groups:  # a label may be in other rows of a group too
        return
    single = one_each.problem_type == SINGLE_LABEL
    rarest = sorted((n, label) for label, n in one_each.counts().items() if n or single)
    if rarest and rarest[0][0] < folds:
        n, label = rarest[0]
        way = f"give --folds {n}, or more rows" if n > 1 else "give more rows"
        texts = "text" if n == 1 else "texts"
        raise TrainingError(f"label '{label}' has {n} different {texts}, fewer than --folds {folds}: {way}")
