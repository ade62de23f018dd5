"""A data set from a table of any format, with every fault by row and column."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferer.tokens.texts import TextOrPair
from training.data.dataset import Columns, Dataset, label_order
from training.data.table import Fault, Row, Table, cell_text, clip
from training.errors import DataError, TrainingError

_SIDES = ("negative", "positive")  # of positive_from, the low one first
_JOINER = "|"  # of labels that come as lists
_SHOWN_NAMES = 30
_ROUNDING = 0.01  # of probabilities that an LLM or a spreadsheet has rounded
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
Targets = list[tuple[int, ...]]


def dataset_from_table(table: Table, columns: Columns) -> Dataset:
    """Return the data set in `table`.

    Its columns read it back from the CSV of write_csv: with a separator where labels were lists, without positive_from.
    Raises DataError with every fault of the table, its columns and its cells.
    """
    if table.faults and not table.names:  # nothing could be read: the columns are not at fault
        raise DataError(table.source, [fault.message for fault in table.faults])
    check_names(table, columns)
    cells = _Cells(columns, list(table.faults))
    if not table.rows and not cells.faults:
        raise DataError(table.source, [table.without_rows])
    rows, texts = cells.texts(table.rows)
    groups = cells.groups(rows)
    if not rows and not cells.faults:
        raise DataError(table.source, [f"the text is empty in all of its {len(table.rows)} rows"])
    numbers = cells.numbers(rows) if columns.numeric else []
    targets, labels, columns = cells.targets(rows)
    if cells.faults:
        raise DataError(table.source, [fault.message for fault in sorted(cells.faults, key=lambda fault: fault.row)])
    dropped = len(table.rows) - len(rows)
    kind = columns.problem_type
    more = (tuple(numbers), tuple(groups), tuple(row.number for row in rows))
    return Dataset(tuple(texts), tuple(targets), labels, kind, columns, dropped, *more)


class Probabilities(NamedTuple):
    """Texts with the probability of each label, float64 [texts, labels]."""

    texts: tuple[TextOrPair, ...]
    values: NDArray[np.float64]


def probabilities_from_table(table: Table, columns: Columns, *, exactly_one: bool) -> Probabilities:
    """Return the texts in `table` with their probabilities in the columns `columns.label_columns`.

    exactly_one: a text has one label, and its probabilities add up to 1, within 0.01. Raises DataError with every
    fault of the table, its columns and its cells.
    """
    if not (table.faults and not table.names):
        check_names(table, columns)
    cells = _Cells(columns, list(table.faults))
    rows, texts = cells.texts(table.rows)
    if not rows and not cells.faults:
        raise DataError(table.source, [table.without_rows])
    found = [[cells.probability(row, name) for name in columns.label_columns] for row in rows]
    values = np.array(found, dtype=np.float64).reshape(-1, len(columns.label_columns))
    if exactly_one:
        for row, total in zip(rows, values.sum(axis=1), strict=True):
            if abs(total - 1) > _ROUNDING:  # NaN is a fault already
                cells.faults.append(
                    row.fault(columns.label_columns[-1], f"these and others add up to {total:.4g}, expected 1")
                )
    if cells.faults:
        raise DataError(table.source, [fault.message for fault in sorted(cells.faults, key=lambda fault: fault.row)])
    return Probabilities(tuple(texts), values)


def check_names(table: Table, columns: Columns) -> None:
    """Raise DataError for columns that `table` lacks or has twice, and for faults above its rows."""
    names, wanted = list(table.names), columns.names
    there = ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES])
    if len(names) > _SHOWN_NAMES:
        there += f" and {len(names) - _SHOWN_NAMES} more"
    # Columns that are not read may share a name: spreadsheets leave empty ones.
    faults = [f"two columns are called '{name}'" for name in wanted if names.count(name) > 1]
    faults += [fault.message for fault in table.faults if fault.row == 0]
    for name in wanted:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, 1)
        hint = table.hint or (f"; did you mean '{near[0]}'?" if near else "")
        faults.append(f"no column '{name}'; the columns are {there}{hint}")
    for name in dict.fromkeys(columns.text_columns):
        if wanted.count(name) > 1:
            second = "the text and its pair" if columns.text_columns.count(name) > 1 else "the text and a label"
            faults.append(f"column '{name}' cannot be both {second}")
    if faults:
        raise DataError(table.source, faults)


@dataclass
class _Cells:
    """The cells of a table as texts and labels; faults accumulate."""

    columns: Columns
    faults: list[Fault]

    def texts(self, rows: Sequence[Row]) -> tuple[list[Row], list[TextOrPair]]:
        """Return the rows that are kept, and their texts or pairs."""
        kept: list[Row] = []
        texts: list[TextOrPair] = []
        names = self.columns.text_columns
        for row in rows:
            found = [self._text(row, name) for name in names]
            empty = [name for name, text in zip(names, found, strict=True) if text is not None and not text.strip()]
            if empty and self.columns.drop_empty:
                continue
            for name in empty:
                self._add(row, name, "empty text")
            kept.append(row)
            first, *second = (text or "" for text in found)
            texts.append((first, second[0]) if second else first)
        return kept, texts

    def groups(self, rows: Sequence[Row]) -> list[str]:
        """Return the group of each row; none without a column of groups."""
        column = self.columns.group_column
        if column is None:
            return []
        found = []
        for row in rows:
            text = self._text(row, column)
            if text is not None and not text.strip():
                self._add(row, column, "empty group")
            found.append((text or "").strip())
        return found

    def numbers(self, rows: Sequence[Row]) -> list[float]:
        """Return the number of each row."""
        column = self.columns.label_column or ""
        return [self._number(row, column) for row in rows]

    def _number(self, row: Row, column: str) -> float:
        """Return a cell as a finite number; NaN, and a fault, for another."""
        text = self._text(row, column)
        value = float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else math.nan
        if text is not None and not math.isfinite(value):
            self._add(row, column, f"{_quoted(text)}, expected a number")
        return value

    def probability(self, row: Row, column: str) -> float:
        """Return a cell as a number from 0 to 1; NaN, and a fault, for another."""
        value = self._number(row, column)
        if not 0 <= value <= 1 and math.isfinite(value):
            self._add(row, column, f"{value:g}, expected a probability from 0 to 1")
        return value

    def targets(self, rows: Sequence[Row]) -> tuple[Targets, tuple[str, ...], Columns]:
        """Return the label ids per row, the label names, and the columns to write them in."""
        columns, column = self.columns, self.columns.label_column
        if columns.numeric and column is not None:
            return [()] * len(rows), (column,), columns
        if columns.label_columns:
            return [self._flags(row) for row in rows], columns.label_columns, columns
        if column is None:
            return [()] * len(rows), columns.labels or (), columns
        if columns.positive_from is not None:
            return self._sides(rows, column, columns.positive_from)
        as_lists = columns.separator is None and any(isinstance(row.cells.get(column), list) for row in rows)
        if as_lists:
            columns = self.columns = replace(columns, separator=_JOINER)
        named = [self._names(row, column, as_lists) for row in rows]
        labels = columns.labels or label_order({name for names in named for name in names})
        ids = {name: i for i, name in enumerate(labels)}
        for row, names in zip(rows, named, strict=True):
            for name in names:
                if name not in ids:
                    self._add(row, column, f"label '{clip(name)}' is not one of {', '.join(labels)}")
        return [tuple(sorted({ids[name] for name in names if name in ids})) for names in named], labels, columns

    def _add(self, row: Row, column: str, message: str) -> None:
        self.faults.append(row.fault(column, message))

    def _text(self, row: Row, column: str) -> str | None:
        """Return a cell as text; None, and a fault, for a missing cell or another type."""
        if column not in row.cells:
            self._add(row, column, "missing from this row")
            return None
        try:
            return cell_text(row.cells[column])
        except ValueError as error:
            self._add(row, column, str(error))
            return None

    def _names(self, row: Row, column: str, as_lists: bool) -> list[str]:
        """Return the label names in one cell. as_lists: the cells of this column must be lists."""
        cell, separator = row.cells.get(column), self.columns.separator
        if isinstance(cell, list):
            return self._listed(row, column, cell)
        text = self._text(row, column)
        if text is None:
            return []
        if not text.strip():
            self._check_unlabelled(row, column, "empty label")
            return []
        if as_lists:
            self._add(row, column, f"'{clip(text)}' is not a list, as in other rows")
            return []
        if separator is None:
            return [text.strip()]
        parts = [part.strip() for part in text.split(separator)]
        if not all(parts):
            self._add(row, column, f"empty label between separators in '{clip(text)}'")
        return [part for part in parts if part]

    def _listed(self, row: Row, column: str, cell: list[object]) -> list[str]:
        parts, separator = [], self.columns.separator
        for i, item in enumerate(cell, start=1):
            try:
                part = cell_text(item).strip()
            except ValueError as error:
                self._add(row, column, f"label {i} of its list {error}")
                continue
            if not part:
                self._add(row, column, f"label {i} of its list is empty")
            elif separator and separator in part:
                what = f"contains {separator!r}, the separator of labels in a CSV; rename it, or give another separator"
                self._add(row, column, f"label '{clip(part)}' {what}")
            else:
                parts.append(part)
        if not cell:
            self._check_unlabelled(row, column, "empty list of labels")
        return parts

    def _check_unlabelled(self, row: Row, column: str, what: str) -> None:
        if self.columns.separator is None:
            self._add(row, column, what)
        elif not self.columns.allow_unlabelled:
            self._add(row, column, f"{what} (--allow-unlabelled, if it means none of them)")

    def _sides(self, rows: Sequence[Row], column: str, low: float) -> tuple[Targets, tuple[str, ...], Columns]:
        """Return the side of `low` per row: 0 below it, 1 from it up."""
        labels = self.columns.labels or _SIDES
        if len(labels) != 2:
            raise TrainingError(f"positive_from makes two labels, the low one first; given are {', '.join(labels)}")
        targets: Targets = []
        for row in rows:
            targets.append((int(self._number(row, column) >= low),))
        # A CSV of the data set holds the names.
        return targets, labels, replace(self.columns, labels=labels, positive_from=None)

    def _flags(self, row: Row) -> tuple[int, ...]:
        ids = []
        for i, column in enumerate(self.columns.label_columns):
            text = self._text(row, column)
            if text is not None and text.strip() == "1":
                ids.append(i)
            elif text is not None and text.strip() != "0":
                self._add(row, column, f"{_quoted(text)}, expected 0 or 1")
        return tuple(ids)


def _quoted(text: str) -> str:
    return f"'{clip(text.strip())}'" if text.strip() else "an empty label"
