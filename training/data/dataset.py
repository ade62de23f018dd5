"""Labelled texts: the data set, its columns, and the sizes that a split needs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from inferer.tokens.texts import TextOrPair
from training.errors import DataError

_WHOLE = re.compile("-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]+)?")
_MOST_IDS = 20  # whole numbers, more of which are rather measured than names of classes


@dataclass(frozen=True)
class Columns:
    """The columns of texts and labels in a table.

    Exactly one of: label_column alone (single-label); label_column with separator (multi-label, names joined in a
    cell); label_columns (multi-label, a 0/1 column per label). With none of them only texts are read.

    text_pair_column: the second text of each row, for models that read pairs. numeric: label_column holds the number
    that a regression predicts. group_column: rows with one value belong together, such as a query with its documents.

    labels: the names allowed, in order; None takes those in the data, sorted. allow_unlabelled: an empty cell or list
    means no label. drop_empty: leaves out rows without text. positive_from: label_column holds numbers, such as
    ratings; from this one up a row is "positive", else "negative", or the second and the first of two `labels`.
    """

    text_column: str
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()
    separator: str | None = None
    labels: tuple[str, ...] | None = None
    allow_unlabelled: bool = False
    drop_empty: bool = False
    positive_from: float | None = None
    text_pair_column: str | None = None
    numeric: bool = False
    group_column: str | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Return the column of the texts, or both columns of pairs."""
        return (self.text_column, self.text_pair_column) if self.text_pair_column else (self.text_column,)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns that are read, the texts' first; the group may be one of the texts, as a query is."""
        labels = (self.label_column,) if self.label_column else self.label_columns
        apart = self.group_column is not None and self.group_column not in self.text_columns
        return (*self.text_columns, *labels, *((self.group_column,) if apart and self.group_column else ()))

    @property
    def labelled(self) -> bool:
        """Return whether labels are read."""
        return bool(self.label_column or self.label_columns)

    @property
    def problem_type(self) -> str:
        """Return Hugging Face's name for the kind of model."""
        if self.numeric:
            return REGRESSION
        return MULTI_LABEL if self.label_columns or self.separator else SINGLE_LABEL


@dataclass(frozen=True)
class Dataset:
    """Texts or pairs with labels: `targets[i]` holds the ids of text i's labels, exactly one if single-label.

    numbers: one per text for a regression, which has empty targets and one label, the name of the column. groups: one
    per text, where the columns name them. dropped: rows without text that the reader left out; subsets keep the count
    of the whole. rows: each text's row in its source, from 1, where it was read from one.
    """

    texts: tuple[TextOrPair, ...]
    targets: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    problem_type: str
    columns: Columns
    dropped: int = 0
    numbers: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()
    rows: tuple[int, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.texts)

    def counts(self) -> dict[str, int]:
        """Return the number of texts per label, in label order."""
        counter = Counter(target for row in self.targets for target in row)
        return {label: counter[i] for i, label in enumerate(self.labels)}

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Return the rows at `indices`, in that order."""
        return replace(
            self,
            texts=tuple(self.texts[i] for i in indices),
            targets=tuple(self.targets[i] for i in indices),
            numbers=tuple(self.numbers[i] for i in indices) if self.numbers else (),
            groups=tuple(self.groups[i] for i in indices) if self.groups else (),
            rows=tuple(self.rows[i] for i in indices) if self.rows else (),
        )

    def truth(self) -> np.ndarray:
        """Return the labels as a bool array [rows, labels], or a regression's numbers, float64 [rows, 1]."""
        return np.array(self.numbers)[:, None] if self.problem_type == REGRESSION else self.multi_hot()

    def multi_hot(self) -> np.ndarray:
        """Return the labels as a bool array [rows, labels]."""
        flags = np.zeros((len(self), len(self.labels)), dtype=bool)
        for i, row in enumerate(self.targets):
            flags[i, list(row)] = True
        return flags


def label_order(seen: set[str]) -> tuple[str, ...]:
    """Return label names in a stable order: by number when all are whole numbers, else by name."""
    if all(_WHOLE.fullmatch(name) for name in seen):
        return tuple(sorted(seen, key=lambda name: (int(name), name)))
    return tuple(sorted(seen))


def rows_needed(test_share: float) -> int:
    """Return the rows of a class that a stratified split needs to give both parts one."""
    smaller = min(test_share, 1 - test_share)
    return max(2, math.ceil(round(1 / smaller, 6)))  # 1 - 0.8 is a little less than 0.2


def _are_measured(labels: Sequence[str]) -> bool:
    """Return whether label names are numbers that a scale has, and not the ids of classes."""
    return all(map(_DECIMAL.fullmatch, labels)) and (len(labels) > _MOST_IDS or any("." in name for name in labels))


def check_class_sizes(dataset: Dataset, shares: Mapping[str, float], path: Path | str) -> list[str]:
    """Return warnings about small classes. Raises DataError where no split is possible.

    shares: of the rows that are not trained on, by purpose. Small multi-label classes only cause warnings, because
    their texts serve other labels.
    """
    needed = rows_needed(min(*shares.values(), 1 - sum(shares.values()))) if shares else 0
    split = " and ".join(f"{name} share {share:g}" for name, share in shares.items())
    lines = [
        f"label '{label}' has {n} row{'' if n == 1 else 's'}; a split with {split} needs {needed}"
        for label, n in dataset.counts().items()
        if n < needed
    ]
    if dataset.problem_type == REGRESSION:
        lines = []
        if len(set(dataset.numbers)) == 1:
            fault = (
                f"column '{dataset.labels[0]}' is {dataset.numbers[0]:g} in every row, from which nothing is learned"
            )
            raise DataError(path, [fault])
    if dataset.problem_type == SINGLE_LABEL and _are_measured(dataset.labels):
        column = dataset.columns.label_column
        offer = f"the labels in column '{column}' are numbers; to predict the number itself: --problem-type regression"
        lines.insert(0, offer)
        if len(lines) == 1:  # each class is large enough
            return lines
    if dataset.problem_type == SINGLE_LABEL and lines:
        raise DataError(path, lines)
    if len(dataset.labels) < 2 and dataset.problem_type != REGRESSION:
        what = f"only one label, {dataset.labels[0]!r}" if dataset.labels else "no label in any row"
        hint = "; give a 0/1 column as --label-column" if dataset.columns.label_columns else ""
        raise DataError(path, [f"{what}; a classifier needs at least 2{hint}"])
    if len(dataset) < needed:
        raise DataError(path, [f"has {len(dataset)} rows; a split with {split} needs {needed}"])
    return lines
