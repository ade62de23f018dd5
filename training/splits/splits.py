"""The parts of a run: rows to train on, to choose by, held out, and for calibration. No torch here.

Each text is in one part. The split comes first.
"""

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
    """The rows of a run. notes: what was done to them, each a sentence for a person. facts: the same as data."""

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
        """Return the rows that each epoch is measured on: those to choose by, else those held out."""
        return self.held_out if self.validation is None else self.validation


def read_splits(recipe: Recipe) -> Splits:
    """Return the parts that `recipe` describes. Raises DataError and TrainingError for what is wrong with the data."""
    whole, test, source = _read(recipe)
    notes: list[str] = []
    check_kind(recipe, whole.problem_type)
    check_weights(recipe, whole.labels)
    warnings = _check_sizes(recipe, whole, test, source)
    rows = len(whole) + (0 if test is None else len(test))
    dropped = whole.dropped + (0 if test is None else test.dropped)
    if dropped:
        notes.append(f"{dropped} rows without text were left out")
    train, held_out = (whole, test) if test is not None else stratified_split(whole, recipe.test_share, recipe.seed)
    held_out = _limited(held_out, recipe.test_rows, recipe.seed, "test_rows")
    seen = held_out
    further: dict[str, Dataset | None] = {}
    left = 1.0 if test is not None else 1 - recipe.test_share
    for name in _FURTHER:
        share = getattr(recipe, f"{name}_share")
        further[name] = None
        if share:
            # Of what is left, rounded: or 0.2 of 160 rows would be 33.
            asked = round(share / left * len(train))
            train, part = further_split(train, seen, round(share / left, 6), recipe.seed, name)
            if len(part) < asked:
                notes.append(f"{len(part)} rows for {name}, not {asked}: the others' texts are among other rows too")
            further[name], left, seen = part, left - share, _together(seen, part)
    train = _limited(train, recipe.train_rows, recipe.seed, "train_rows")
    train, shared = without_shared_texts(train, held_out)
    if shared:
        notes.append(f"{shared} rows to train on were left out: their texts are among the held-out ones")
    warnings += _check_trained(train, source)
    counts = {"train": train, "held_out": held_out, **further}
    totals = Counter(whole.counts())
    totals.update({} if test is None else test.counts())
    facts = {
        "file": source,
        "rows": rows,
        "counts": dict(totals),
        "dropped": dropped,
        "duplicates": shared,
        "classes": {name: part.counts() for name, part in counts.items() if part is not None},
    }
    return Splits(
        train, held_out, further["validation"], further["calibration"], source, tuple(notes), tuple(warnings), facts
    )


def _read(recipe: Recipe) -> tuple[Dataset, Dataset | None, str]:
    """Return the rows, the rows to hold out where they come apart, and the source."""
    columns = recipe.columns()
    if recipe.from_hub and recipe.dataset:
        train = load_hub_dataset(recipe.dataset, columns, "train")
        return train, load_hub_dataset(recipe.dataset, _as(train, columns), "test"), recipe.dataset
    if recipe.file is None:
        raise TrainingError("--data is missing: the file or folder to train on")
    first, second = recipe.file, recipe.test_file
    splits = split_files(recipe.file)
    if splits is not None:
        if second is not None:
            raise TrainingError(f"--data {recipe.file} has a test part of its own; --test-data cannot be given too")
        first, second = splits
    train = read_dataset(first, _checked(columns, first))
    test = None if second is None else read_dataset(second, _as(train, _checked(columns, second)))
    return train, test, redacted(recipe.file)


def _checked(columns: Columns, source: Path | str) -> Columns:
    """Return `columns`; raises TrainingError where a table needs some that are not named."""
    if isinstance(source, Path) and source.is_dir():
        return columns
    if not columns.text_column:
        raise TrainingError(f"--text-column is missing: the column of {source} with the texts")
    if not columns.labelled:
        raise TrainingError(EITHER)
    return columns


def _as(train: Dataset, columns: Columns) -> Columns:
    """Return how the held-out rows are read: their labels are those of the training rows."""
    return columns if columns.label_columns else replace(columns, labels=train.labels)


def _limited(part: Dataset, rows: int, seed: int, option: str) -> Dataset:
    try:
        return first_shuffled(part, rows, seed)
    except TrainingError as error:
        raise TrainingError(f"{option}: {error}") from error


def _check_sizes(recipe: Recipe, whole: Dataset, test: Dataset | None, source: str) -> list[str]:
    """Return warnings about labels with few rows; raises DataError where no split can be made."""
    shares = {"test": recipe.test_share} if test is None else {}
    shares |= {name: share for name in _FURTHER if (share := getattr(recipe, f"{name}_share"))}
    if shares:
        return check_class_sizes(whole, shares, source)
    if len(whole.labels) < 2:
        raise DataError(source, [f"has {len(whole.labels)} label; a classifier needs at least 2"])
    return []


def _check_trained(train: Dataset, source: str) -> list[str]:
    """Return warnings about labels without a row to train on; raises DataError where each text has one label."""
    lines = [f"label '{label}' has no row to train on" for label, n in train.counts().items() if n == 0]
    if lines and train.problem_type == SINGLE_LABEL:
        raise DataError(source, lines)
    return lines


def _together(one: Dataset, other: Dataset) -> Dataset:
    return replace(one, texts=one.texts + other.texts, targets=one.targets + other.targets)
