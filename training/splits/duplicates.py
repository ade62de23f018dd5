"""Texts that stand twice, and the first rows of a shuffled data set. No torch here."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset
from training.errors import TrainingError


def plain(text: str) -> str:
    """Return `text` without its case and its blanks: two texts are the same where these are."""
    return " ".join(text.casefold().split())


def without_shared_texts(train: Dataset, held_out: Dataset) -> tuple[Dataset, int]:
    """Return the rows of `train` whose text, case and blanks aside, is not in `held_out`, and how many are.

    Figures on texts that were trained on would flatter. Raises TrainingError where no row is left.
    """
    seen = {plain(text) for text in held_out.texts}
    kept = [i for i, text in enumerate(train.texts) if plain(text) not in seen]
    if not kept:
        raise TrainingError(f"each of the {len(train)} texts to train on is among the held-out texts too")
    return train.subset(kept), len(train) - len(kept)


def first_shuffled(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return the first `n` rows in the order that `seed` gives; with `n` 0 all rows, in their own order.

    They are those of Hugging Face's `datasets.Dataset.shuffle(seed=seed).select(range(n))`, whose order is
    numpy's `default_rng(seed).permutation`. Raises TrainingError for more rows than there are.
    """
    if not 0 <= n <= len(dataset):
        raise TrainingError(f"{n} rows are asked for, expected 0 (all) to {len(dataset)}, which the data has")
    if n == 0:
        return dataset
    return dataset.subset(np.random.default_rng(seed).permutation(len(dataset))[:n].tolist())
