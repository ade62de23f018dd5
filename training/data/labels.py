"""Texts and labels from a table of any format: every fault by row and column. No torch here, and no file is opened."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import replace

from training.data.dataset import Columns, Dataset, label_order
from training.data.table import Fault, Row, Table, cell_text, clip
from training.errors import DataError, TrainingError

_SIDES = ("negative", "positive")  # of positive_from, the low one first
_JOINER = "|"  # of labels that came as lists, where no separator was given
_SHOWN_NAMES = 30
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def dataset_from_table(table: Table, columns: Columns) -> Dataset:
    """Return the data set in `table`.

    Its columns are those that read it back from the CSV of write_csv: with a separator where labels were lists, and
    without positive_from. Raises DataError with a line for every fault found: a column that is not there, an empty
    text or label, a value that is not allowed; and the table's own.
    """
    faults = list(table.faults)
    if faults and not table.names:  # nothing could be read: that, and not the columns, is what is wrong
        raise DataError(table.source, [fault.message for fault in faults])
    check_names(table, columns)
    if not table.rows and not faults:
        raise DataError(table.source, [table.without_rows])
    rows, texts = _texts(table.rows, columns, faults)
    if not rows and not faults:
        raise DataError(table.source, [f"the text is empty in all of its {len(table.rows)} rows"])
    dropped = len(table.rows) - len(rows)
    targets, labels, columns = _targets(rows, columns, faults)
    if faults:
        raise DataError(table.source, [fault.message for fault in sorted(faults, key=lambda fault: fault.row)])
    return Dataset(tuple(texts), tuple(targets), labels, columns.problem_type, columns, dropped)


def check_names(table: Table, columns: Columns) -> None:
    """Raise DataError for columns that `table` lacks or has twice, and for faults above its rows."""
    names, wanted = list(table.names), columns.names
    there = ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES])
    if len(names) > _SHOWN_NAMES:
        there += f" and {len(names) - _SHOWN_NAMES} more"
    # Columns that are not read may have any name, as often as they like: spreadsheets leave empty ones.
    faults = [f"two columns are called '{name}'" for name in wanted if names.count(name) > 1]
    faults += [fault.message for fault in table.faults if fault.row == 0]
    for name in wanted:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, 1)
        hint = table.hint or (f"; did you mean '{near[0]}'?" if near else "")
        faults.append(f"no column '{name}'; the columns are {there}{hint}")
    if columns.text_column in wanted[1:]:
        faults.append(f"column '{columns.text_column}' cannot be both the text and a label")
    if faults:
        raise DataError(table.source, faults)


def _texts(rows: Sequence[Row], columns: Columns, faults: list[Fault]) -> tuple[list[Row], list[str]]:
    """Return the rows that are kept and their texts; what is wrong is added to `faults`."""
    kept, texts = [], []
    for row in rows:
        text = _text(row, columns.text_column, faults)
        if text is not None and not text.strip():
            if columns.drop_empty:
                continue
            faults.append(row.fault(columns.text_column, "empty text"))
        kept.append(row)
        texts.append(text or "")
    return kept, texts


def _text(row: Row, column: str, faults: list[Fault]) -> str | None:
    """Return a cell as text, None where it is not there or holds something else: that is added to `faults`."""
    if column not in row.cells:
        faults.append(row.fault(column, "missing from this row"))
        return None
    try:
        return cell_text(row.cells[column])
    except ValueError as error:
        faults.append(row.fault(column, str(error)))
        return None


def _targets(
    rows: Sequence[Row], columns: Columns, faults: list[Fault]
) -> tuple[list[tuple[int, ...]], tuple[str, ...], Columns]:
    """Return each row's label ids, the label names, and the columns to write them in."""
    if columns.label_columns:
        return [_flags(row, columns.label_columns, faults) for row in rows], columns.label_columns, columns
    column = columns.label_column
    if column is None:
        return [()] * len(rows), columns.labels or (), columns
    if columns.positive_from is not None:
        return _sides(rows, column, columns.positive_from, columns, faults)
    as_lists = columns.separator is None and any(isinstance(row.cells.get(column), list) for row in rows)
    if as_lists:
        columns = replace(columns, separator=_JOINER)
    named = [_names(row, column, columns, as_lists, faults) for row in rows]
    labels = columns.labels or label_order({name for names in named for name in names})
    ids = {name: i for i, name in enumerate(labels)}
    faults += [
        row.fault(column, f"label '{clip(name)}' is not one of {', '.join(labels)}")
        for row, names in zip(rows, named, strict=True)
        for name in names
        if name not in ids
    ]
    return [tuple(sorted({ids[name] for name in names if name in ids})) for names in named], labels, columns


def _names(row: Row, column: str, columns: Columns, as_lists: bool, faults: list[Fault]) -> list[str]:
    """Return the label names in one cell. as_lists: whether cells of this column are lists, none of them joined."""
    cell, separator = row.cells.get(column), columns.separator
    if isinstance(cell, list):
        return _listed(row, column, columns, faults)
    text = _text(row, column, faults)
    if text is None:
        return []
    if not text.strip():
        _check_unlabelled(row, column, columns, "empty label", faults)
        return []
    if as_lists:
        faults.append(row.fault(column, f"'{clip(text)}' is no list, as other rows have"))
        return []
    if separator is None:
        return [text.strip()]
    parts = [part.strip() for part in text.split(separator)]
    if not all(parts):
        faults.append(row.fault(column, f"empty label between separators in '{clip(text)}'"))
    return [part for part in parts if part]


def _listed(row: Row, column: str, columns: Columns, faults: list[Fault]) -> list[str]:
    cell = row.cells[column]
    parts = []
    for i, item in enumerate(cell if isinstance(cell, list) else [], start=1):
        try:
            part = cell_text(item).strip()
        except ValueError as error:
            faults.append(row.fault(column, f"label {i} of its list {error}"))
            continue
        if not part:
            faults.append(row.fault(column, f"label {i} of its list is empty"))
        elif columns.separator and columns.separator in part:
            what = f"label '{clip(part)}' has {columns.separator!r} in it, which joins labels in a CSV"
            faults.append(row.fault(column, f"{what}; rename it, or give another separator"))
        else:
            parts.append(part)
    if not cell:
        _check_unlabelled(row, column, columns, "empty list of labels", faults)
    return parts


def _check_unlabelled(row: Row, column: str, columns: Columns, what: str, faults: list[Fault]) -> None:
    if columns.separator is None:
        faults.append(row.fault(column, what))
    elif not columns.allow_unlabelled:
        faults.append(row.fault(column, f"{what} (--allow-unlabelled, if it means none of them)"))


def _sides(
    rows: Sequence[Row], column: str, positive_from: float, columns: Columns, faults: list[Fault]
) -> tuple[list[tuple[int, ...]], tuple[str, ...], Columns]:
    """Return each row's side of `positive_from`: 0 below it, 1 from it up."""
    labels: tuple[str, ...] = columns.labels or _SIDES
    if len(labels) != 2:
        raise TrainingError(f"positive_from makes two labels, the low one first; given are {', '.join(labels)}")
    targets: list[tuple[int, ...]] = []
    for row in rows:
        text = _text(row, column, faults)
        value = float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else math.nan
        if text is not None and not math.isfinite(value):
            what = f"'{clip(text)}'" if text.strip() else "an empty label"
            faults.append(row.fault(column, f"{what}, expected a number"))
        targets.append((int(value >= positive_from),))
    # Written as a CSV the column holds the names, and is read as such.
    return targets, labels, replace(columns, labels=labels, positive_from=None)


def _flags(row: Row, label_columns: tuple[str, ...], faults: list[Fault]) -> tuple[int, ...]:
    ids = []
    for i, column in enumerate(label_columns):
        text = _text(row, column, faults)
        if text is None:
            continue
        if text.strip() not in ("0", "1"):
            what = f"'{clip(text.strip())}'" if text.strip() else "an empty label"
            faults.append(row.fault(column, f"{what}, expected 0 or 1"))
        elif text.strip() == "1":
            ids.append(i)
    return tuple(ids)
