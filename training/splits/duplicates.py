"""Texts shared by two parts, and the first rows of a shuffled data set."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset
from training.errors import TrainingError


def plain(text: str) -> str:
    """Return `text` without case and surplus spaces: two texts count as the same where these are equal."""
    return " ".join(text.casefold().split())


def without_shared_texts(train: Dataset, held_out: Dataset) -> tuple[Dataset, int]:
    """Return `train` without the texts of `held_out`, and the number of rows left out.

    Figures on texts that the model was trained on would flatter it. Raises TrainingError where no row is left.
    """
    seen = {plain(text) for text in held_out.texts}
    kept = [i for i, text in enumerate(train.texts) if plain(text) not in seen]
    if not kept:
        raise TrainingError(f"each of the {len(train)} texts to train on is among the held-out texts too")
    return train.subset(kept), len(train) - len(kept)


def first_shuffled(dataset: Dataset, n: int, seed: int, option: str) -> Dataset:
    """Return the first `n` rows in the order of `seed`, or all rows in their own order with `n` 0.

    They are those of Hugging Face's `datasets.Dataset.shuffle(seed=seed).select(range(n))`, whose order is numpy's
    `default_rng(seed).permutation`. Raises TrainingError, naming `option`, for more rows than there are.
    """
    if not 0 <= n <= len(dataset):
        raise TrainingError(f"{option} is {n}, expected 0 (all) to {len(dataset)}, the rows of the data")
    if n == 0:
        return dataset
    return dataset.subset(np.random.default_rng(seed).permutation(len(dataset))[:n].tolist())
