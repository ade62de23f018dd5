"""The rows of a run, split into training, validation, calibration and held-out rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.column_flags import EITHER
from training.data.dataset import Columns, Dataset, check_class_sizes
from training.data.hub import load_hub_dataset
from training.data.location import redacted
from training.data.reader import read_dataset, split_files
from training.errors import DataError, TrainingError
from training.recipe.checks import check_kind, check_weights
from training.recipe.recipe import Recipe
from training.splits.duplicates import first_shuffled, without_shared_texts
from training.splits.stratify import further_split, stratified_split

_FURTHER = ("validation", "calibration")


@dataclass(frozen=True)
class Splits:
    """The rows of a run; no text is in two parts. notes: sentences about rows left out. facts: counts in JSON types."""

    train: Dataset
    held_out: Dataset
    validation: Dataset | None
    calibration: Dataset | None
    source: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: dict[str, Any]

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
                notes.append(
                    f"{len(part)} rows for {name}, not {asked}: the texts of the rest are among other rows too"
                )
            seen = replace(seen, texts=seen.texts + part.texts, targets=seen.targets + part.targets)
            further[name], left = part, left - share
    train = first_shuffled(train, recipe.train_rows, recipe.seed, "train_rows")
    train, shared = without_shared_texts(train, held_out)
    if shared:
        notes.append(f"{shared} rows to train on were left out: their texts are among the held-out ones")
    warnings += _check_trained(train, source)
    counts = Counter[str]()
    for part in given:
        counts.update(part.counts())
    facts = {
        "file": source,
        "rows": sum(map(len, given)),
        "counts": dict(counts),
        "dropped": dropped,
        "duplicates": shared,
        "classes": {name: part.counts() for name, part in {"train": train, "held_out": held_out, **further}.items()},
    }
    validation, calibration = (further.get(name) for name in _FURTHER)
    return Splits(train, held_out, validation, calibration, source, tuple(notes), tuple(warnings), facts)


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
    train = read_dataset(first, _checked(columns, first))
    test = None if second is None else read_dataset(second, _with_labels_of(train, _checked(columns, second)))
    return train, test, redacted(recipe.file)


def _checked(columns: Columns, source: Path | str) -> Columns:
    """Return `columns`. Raises TrainingError for a table without the names of its columns."""
    if isinstance(source, Path) and source.is_dir():
        return columns
    if not columns.text_column:
        raise TrainingError(f"--text-column is missing: the column of {source} with the texts")
    if not columns.labelled:
        raise TrainingError(EITHER)
    return columns


def _with_labels_of(train: Dataset, columns: Columns) -> Columns:
    return columns if columns.label_columns else replace(columns, labels=train.labels)


def _check_trained(train: Dataset, source: str) -> list[str]:
    """Return warnings about labels without a training row. Raises DataError for them in single-label data."""
    lines = [f"label '{label}' has no row to train on" for label, n in train.counts().items() if n == 0]
    if lines and train.problem_type == SINGLE_LABEL:
        raise DataError(source, lines)
    return lines
