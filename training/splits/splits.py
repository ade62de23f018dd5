"""The rows of a run, split into training, validation, calibration and held-out rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.column_flags import check_named
from training.data.dataset import Columns, Dataset, check_class_sizes
from training.data.hub import load_hub_dataset
from training.data.location import redacted
from training.data.reader import read_dataset, read_further, split_files
from training.errors import DataError, TrainingError
from training.recipe.checks import check_kind, check_weights
from training.recipe.recipe import Recipe
from training.splits.stratify import further_split, plain, stratified_split
from training.splits.unlabelled import Unlabelled, read_unlabelled

_FURTHER = ("validation", "calibration")


@dataclass(frozen=True)
class Splits:
    """The rows of a run; no text is in two parts. notes: sentences about rows left out. facts: counts in JSON types.

    unlabelled: further texts to train on, of which the teacher alone knows the answer.
    """

    train: Dataset
    held_out: Dataset
    validation: Dataset | None
    calibration: Dataset | None
    source: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: dict[str, Any]
    unlabelled: Unlabelled = field(default_factory=Unlabelled)

    @property
    def watched(self) -> Dataset:
        """Return the rows that each epoch is measured on: validation rows, or else the held-out rows."""
        return self.held_out if self.validation is None else self.validation


def read_splits(recipe: Recipe) -> Splits:
    """Return the rows that `recipe` describes. Raises DataError and TrainingError for faults of the data."""
    whole, test, source = _read(recipe)
    check_kind(recipe, whole.problem_type)
    check_weights(recipe, whole.labels)
    shares = {"test": recipe.test_share} if test is None else {}
    shares |= {name: share for name in _FURTHER if (share := getattr(recipe, f"{name}_share"))}
    warnings = check_class_sizes(whole, shares, source)
    given = [whole] if test is None else [whole, test]
    dropped = sum(part.dropped for part in given)
    notes = [f"{dropped} rows without text were left out"] if dropped else []
    train, held_out = (whole, test) if test is not None else stratified_split(whole, recipe.test_share, recipe.seed)
    held_out = first_shuffled(held_out, recipe.test_rows, recipe.seed, "test_rows")
    seen = held_out
    further: dict[str, Dataset] = {}
    left = 1.0 if test is not None else 1 - recipe.test_share
    for name in _FURTHER:
        if share := shares.get(name):
            # Rounded, because 0.2 of 160 rows would become 33.
            asked = round(share / left * len(train))
            train, part = further_split(train, seen, round(share / left, 6), recipe.seed, name)
            if len(part) < asked:
                why = "the texts of the rest are among other rows too"
                notes.append(f"{len(part)} rows for {name}, not {asked}: {why}")
            seen = replace(seen, texts=seen.texts + part.texts)
            further[name], left = part, left - share
    train = first_shuffled(train, recipe.train_rows, recipe.seed, "train_rows")
    train, shared = without_shared_texts(train, held_out)
    if shared:
        notes.append(f"{shared} rows to train on were left out: their texts are among the held-out ones")
    if single := _shared_sides(train, held_out):
        notes.append(f"{single} single texts of held-out pairs are in other pairs that are trained on")
    warnings += check_trained(train, source)
    unlabelled = read_unlabelled(recipe, train, [held_out, *further.values()])
    notes += unlabelled.notes
    counts = [part.counts() for part in given]
    facts = {
        "file": source,
        "rows": sum(map(len, given)),
        "counts": {} if whole.numbers else {label: sum(one[label] for one in counts) for label in whole.labels},
        "dropped": dropped,
        "duplicates": shared,
        "classes": {}
        if whole.numbers
        else {name: part.counts() for name, part in {"train": train, "held_out": held_out, **further}.items()},
    }
    validation, calibration = (further.get(name) for name in _FURTHER)
    return Splits(train, held_out, validation, calibration, source, tuple(notes), tuple(warnings), facts, unlabelled)


def without_shared_texts(train: Dataset, held_out: Dataset) -> tuple[Dataset, int]:
    """Return `train` without the texts of `held_out`, and the number of rows left out.

    Figures on texts that the model was trained on would flatter it. Raises TrainingError where no row is left.
    """
    seen = {plain(text) for text in held_out.texts}
    kept = [i for i, text in enumerate(train.texts) if plain(text) not in seen]
    if not kept:
        raise TrainingError(f"each of the {len(train)} texts to train on is among the held-out texts too")
    return train.subset(kept), len(train) - len(kept)


def _shared_sides(train: Dataset, held_out: Dataset) -> int:
    """Return how many single texts of held-out pairs are in training pairs too; 0 without pairs."""
    sides = [
        {plain(side) for text in part.texts if not isinstance(text, str) for side in text} for part in (train, held_out)
    ]
    return len(sides[0] & sides[1])


def first_shuffled(dataset: Dataset, n: int, seed: int, option: str) -> Dataset:
    """Return the first `n` rows in the order of `seed`, or all rows in their own order with `n` 0.

    They are those of Hugging Face's `Dataset.shuffle(seed=seed).select(range(n))`. Raises TrainingError, naming
    `option`, for more rows than there are.
    """
    if not 0 <= n <= len(dataset):
        raise TrainingError(f"{option} is {n}, expected 0 (all) to {len(dataset)}, the rows of the data")
    if n == 0:
        return dataset
    return dataset.subset(np.random.default_rng(seed).permutation(len(dataset))[:n].tolist())


def _read(recipe: Recipe) -> tuple[Dataset, Dataset | None, str]:
    """Return the rows, the rows to hold out where they are separate, and the source."""
    columns = recipe.columns()
    if recipe.from_hub and recipe.dataset:
        train = load_hub_dataset(recipe.dataset, columns, "train")
        return train, load_hub_dataset(recipe.dataset, _with_labels_of(train, columns), "test"), recipe.dataset
    if recipe.file is None:
        raise TrainingError("--data is missing: the file or folder to train on")
    first, second = recipe.file, recipe.test_file
    if (files := split_files(recipe.file)) is not None:
        if second is not None:
            raise TrainingError(f"--data {recipe.file} has a test part of its own; --test-data cannot be given too")
        first, second = files
    for source in (first, second):
        if source is not None:
            check_named(columns, source, f" of {redacted(source)}")
    train = read_dataset(first, columns, recipe.encoding)
    test = None if second is None else read_further(second, _with_labels_of(train, columns), recipe.encoding)
    return train, test, redacted(recipe.file)


def _with_labels_of(train: Dataset, columns: Columns) -> Columns:
    return columns if columns.label_columns or columns.numeric else replace(columns, labels=train.labels)


def check_trained(train: Dataset, source: str) -> list[str]:
    """Return warnings about labels without a training row. Raises DataError for them in single-label data."""
    if train.problem_type == REGRESSION:
        return []
    lines = [f"label '{label}' has no row to train on" for label, n in train.counts().items() if n == 0]
    if lines and train.problem_type == SINGLE_LABEL:
        raise DataError(source, lines)
    return lines
