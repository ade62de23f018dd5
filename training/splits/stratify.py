"""Stratified, seeded splits, and the comparison of texts that keeps a text out of two parts."""

from __future__ import annotations

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from inferer.tokens.texts import TextOrPair
from training.data.dataset import Dataset
from training.errors import TrainingError


def plain(text: TextOrPair) -> TextOrPair:
    """Return `text` without case and surplus spaces: two texts count as the same where these are equal.

    Two pairs are the same in either order.
    """
    if isinstance(text, str):
        return " ".join(text.casefold().split())
    first, second = sorted(str(plain(side)) for side in text)
    return first, second


def stratified_split(dataset: Dataset, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return (training rows, held-out rows), each with every label's share of the whole, in the data's order.

    Single-label by class; multi-label by iterative stratification (Sechidis et al., ECML PKDD 2011). Groups stay whole,
    and neither they nor the numbers of a regression are stratified. Raises TrainingError for an empty part: iterative
    stratification keeps the shares of labels, not the number of rows.
    """
    train, test = _split(dataset, test_share, seed, "test share")
    return dataset.subset(train), dataset.subset(test)


def further_split(train: Dataset, held_out: Dataset, share: float, seed: int, name: str) -> tuple[Dataset, Dataset]:
    """Return (training rows, further rows): the latter are `share` of `train`, stratified, for the purpose `name`.

    A row with the text of another training row or of a held-out one stays a training row: the model has seen that text,
    or its figures are made of it. Raises TrainingError where no further row is left.
    """
    rest, chosen = _split(train, share, seed, f"{name} share, of the rows not held out,")
    texts = [plain(text) for text in train.texts]
    seen = {*(texts[i] for i in rest), *map(plain, held_out.texts)}
    alone = [i for i in chosen if texts[i] not in seen]
    if not alone:
        raise TrainingError(f"no row is left for {name}: each text is among the other rows too; give more data")
    return train.subset(sorted(set(range(len(train))) - set(alone))), train.subset(alone)


def _split(dataset: Dataset, share: float, seed: int, share_name: str) -> tuple[list[int], list[int]]:
    """Return the sorted row numbers of both parts."""
    targets = None
    if dataset.groups:
        kind = GroupShuffleSplit
    elif dataset.problem_type == REGRESSION:
        kind = ShuffleSplit
    elif dataset.problem_type == SINGLE_LABEL:
        kind, targets = StratifiedShuffleSplit, np.array([row[0] for row in dataset.targets])
    else:
        kind, targets = MultilabelStratifiedShuffleSplit, dataset.multi_hot().astype(int)
    try:
        splitter = kind(n_splits=1, test_size=share, random_state=seed)
        train, test = next(splitter.split(np.zeros(len(dataset)), targets, dataset.groups or None))
    except ValueError:  # a part with fewer rows than labels
        train = test = np.array([])
    if not len(train) or not len(test):
        raise TrainingError(f"seed {seed} and {share_name} {share:g} leave one part without rows; choose others")
    return sorted(train.tolist()), sorted(test.tolist())
