"""The split into training and held-out rows: made before anything else, stratified, seeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from sklearn.model_selection import StratifiedShuffleSplit

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.splits.duplicates import plain


def stratified_split(
    dataset: Dataset, test_share: float, seed: int, share_name: str = "test share"
) -> tuple[Dataset, Dataset]:
    """Return (training rows, held-out rows), each with every label's share of the whole.

    Single-label by class; multi-label by iterative stratification (Sechidis et al., ECML PKDD 2011).
    The same data, share and seed give the same split. Raises TrainingError where a part would have no
    row: iterative stratification keeps each label's share, not the number of rows.
    """
    if dataset.problem_type == SINGLE_LABEL:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=test_share, random_state=seed)
        targets = np.array([row[0] for row in dataset.targets])
    else:
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=test_share, random_state=seed)
        targets = dataset.multi_hot().astype(int)
    try:
        train, test = next(splitter.split(np.zeros(len(dataset)), targets))
    except ValueError:  # a part with fewer rows than labels
        train = test = np.array([])
    if not len(train) or not len(test):
        raise TrainingError(f"seed {seed} and {share_name} {test_share:g} leave one part without rows; choose others")
    return dataset.subset(np.sort(train).tolist()), dataset.subset(np.sort(test).tolist())


def further_split(train: Dataset, held_out: Dataset, share: float, seed: int, name: str) -> tuple[Dataset, Dataset]:
    """Return (training rows, further rows), of which the latter are `share` of the training rows and stratified.

    A row whose text, whatever its case and blanks, is among the other training rows or the held-out ones too stays a
    training row: what is chosen or fitted on it would be by what the model has seen, or by what its figures are made
    of. name: what the further rows are for. Raises TrainingError where no other is left.
    """
    numbered = replace(train, texts=tuple(map(str, range(len(train)))))
    rest, chosen = stratified_split(numbered, share, seed, f"{name} share, of what is not held out,")
    seen = {plain(text) for text in (*(train.texts[int(i)] for i in rest.texts), *held_out.texts)}
    alone = [int(i) for i in chosen.texts if plain(train.texts[int(i)]) not in seen]
    if not alone:
        raise TrainingError(f"no row is left for {name}: each text is among the other rows too; give more data")
    others = sorted(set(range(len(train))) - set(alone))
    return train.subset(others), train.subset(alone)
