"""Read a labelled CSV, finding every fault before torch is imported. A row is named by number and line.

RFC 4180 as Python's csv module reads it: comma, double quotes, newlines allowed inside quotes; UTF-8,
with or without a byte order mark.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.data import Columns, Dataset, label_order
from training.errors import DataError

# The module's default of 131,072 characters is shorter than some documents; this is the C long's limit.
csv.field_size_limit(2**31 - 1)

_CLIP = 60
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8


@dataclass(frozen=True)
class _Row:
    number: int  # of the data rows, from 1: the header does not count
    line: int  # of the file, from 1, where the row begins
    cells: list[str]

    def at(self, column: str) -> str:
        return f"row {self.number} (line {self.line}), column '{column}'"


def read_csv(path: Path, columns: Columns) -> Dataset:
    """Return the data set in the CSV at `path`.

    Raises DataError with a line for every fault found: a column that is not there, an empty text or
    label, a value that is not allowed, broken quoting, bytes that are not UTF-8.
    """
    return parse_csv(path, read_bytes(path), columns)


def read_bytes(path: Path) -> bytes:
    """Return what is in `path`; raises DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(path, [f"cannot be read: {error.strerror}"]) from error


def parse_csv(path: Path, content: bytes, columns: Columns) -> Dataset:
    """Return the data set in `content`, the bytes of the CSV at `path`. Raises DataError as `read_csv`."""
    names, kept, faults = _whole_rows(path, content, columns)
    texts = _texts(kept, names, columns, faults)
    targets, labels = _targets(kept, names, columns, faults)
    if faults:
        raise DataError(path, sorted(faults, key=_row_number))
    return Dataset(tuple(texts), tuple(targets), labels, columns.problem_type, columns)


def read_cells(path: Path, column: str) -> list[str]:
    """Return what stands in `column` of each row of the CSV at `path`, blank cells too; none is stripped.

    Raises DataError as `read_csv`, but for empty texts.
    """
    names, rows, faults = _whole_rows(path, read_bytes(path), Columns(column))
    if faults:
        raise DataError(path, faults)
    place = names.index(column)
    return [row.cells[place] for row in rows]


def _whole_rows(path: Path, content: bytes, columns: Columns) -> tuple[list[str], list[_Row], list[str]]:
    """Return the names of the header, the rows that have a cell for each, and the faults of the others."""
    rows = _rows(path, content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    header = next(rows, None)
    if header is None or not any(cell.strip() for cell in header.cells):
        raise DataError(path, ["is empty; expected a header line with the column names"])
    names = header.cells
    _check_header(path, names, columns)
    faults: list[str] = []
    kept = []
    for row in rows:
        found = _cell_faults(row, names)
        faults += found
        if not found:
            kept.append(row)
    if not kept and not faults:
        raise DataError(path, ["has a header but no rows"])
    return names, kept, faults


def _row_number(fault: str) -> int:
    words = fault.split()
    return int(words[1]) if words[0] == "row" else 0


def _rows(path: Path, text: str) -> Iterator[_Row]:
    """Yield the rows, the header as number 0; raises DataError where the quoting is broken."""
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise DataError(path, [f"line {line} has a NUL byte; is this a text file in UTF-8?"])
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number, begin = 0, 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            where = _broken_quote(text, begin)
            raise DataError(path, [f"row {number} (line {begin}), column {where}: broken quoting ({error})"]) from error
        if cells is None:
            return
        if cells:  # a blank line is no row
            yield _Row(number, begin, cells)
            number += 1
        begin = reader.line_num + 1


def _broken_quote(text: str, begin: int) -> str:
    """Return the number and the beginning of the cell that breaks the row starting at line `begin`."""
    # Lines as csv.reader counts them: one may end in \r alone.
    start = sum(len(line) for line in itertools.islice(io.StringIO(text, newline=""), begin - 1))
    column, i = 1, start
    while i < len(text):
        cell = i
        if text[i] == '"':
            i += 1
            while (end := text.find('"', i)) >= 0 and text[end : end + 2] == '""':
                i = end + 2
            closed = end >= 0 and (end + 1 == len(text) or text[end + 1] in ",\r\n")
            if not closed:
                return f"{column}, {_clip(text[cell:])!r}"
            i = end + 1
        else:
            while i < len(text) and text[i] not in ",\r\n":
                i += 1
        if i >= len(text) or text[i] in "\r\n":
            break
        column, i = column + 1, i + 1
    return str(column)


def _check_header(path: Path, names: list[str], columns: Columns) -> None:
    there = ", ".join(f"'{name}'" for name in names)
    wanted = [
        columns.text_column,
        *([columns.label_column] if columns.label_column else columns.label_columns),
    ]
    # Columns that are not read may have any name, as often as they like: spreadsheets leave empty ones.
    faults = [f"two columns are called '{name}'" for name in wanted if names.count(name) > 1]
    faults += [
        f"line 1, column {i}: the name {name!r} is not UTF-8"
        for i, name in enumerate(names, 1)
        if _NOT_UTF8.search(name)
    ]
    for name in wanted:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        if len(names) == 1 and any(c in names[0] for c in ";\t|"):
            hint = "; the columns must be separated by commas"
        faults.append(f"no column '{name}'; the columns are {there}{hint}")
    if columns.text_column in wanted[1:]:
        faults.append(f"column '{columns.text_column}' cannot be both the text and a label")
    if faults:
        raise DataError(path, faults)


def _cell_faults(row: _Row, names: list[str]) -> list[str]:
    if len(row.cells) != len(names):
        column = names[len(row.cells)] if len(row.cells) < len(names) else names[-1]
        how = "missing from" if len(row.cells) < len(names) else "the last of the header; there is more in"
        return [f"{row.at(column)}: {how} this row, which has {len(row.cells)} cells where the header has {len(names)}"]
    faults = []
    for name, cell in zip(names, row.cells, strict=True):
        bad = _NOT_UTF8.search(cell)
        if bad:
            byte = ord(bad[0]) - 0xDC00
            faults.append(f"{row.at(name)}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8 (it may be Latin-1)")
    return faults


def _texts(rows: list[_Row], names: list[str], columns: Columns, faults: list[str]) -> list[str]:
    place = names.index(columns.text_column)
    faults += [f"{row.at(columns.text_column)}: empty text" for row in rows if not row.cells[place].strip()]
    return [row.cells[place] for row in rows]


def _targets(
    rows: list[_Row], names: list[str], columns: Columns, faults: list[str]
) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """Return each row's label ids, and the label names; what is wrong is added to `faults`."""
    if columns.label_columns:
        return [_flags(row, names, columns.label_columns, faults) for row in rows], columns.label_columns
    if columns.label_column is None:
        return [()] * len(rows), columns.labels or ()
    column = columns.label_column
    place = names.index(column)
    read = _splitter(column, columns, faults)
    named = [read(row, row.cells[place]) for row in rows]
    seen = {name for row in named for name in row}
    labels = columns.labels or label_order(seen)
    faults += [
        f"{row.at(column)}: label '{_clip(name)}' is not one of {', '.join(labels)}"
        for row, row_names in zip(rows, named, strict=True)
        for name in row_names
        if name not in labels
    ]
    ids = {name: i for i, name in enumerate(labels)}
    return [tuple(sorted({ids[name] for name in row if name in ids})) for row in named], labels


def _splitter(column: str, columns: Columns, faults: list[str]) -> Callable[[_Row, str], list[str]]:
    """Return the function that reads the label names in one cell."""

    def single(row: _Row, cell: str) -> list[str]:
        if not cell.strip():
            faults.append(f"{row.at(column)}: empty label")
            return []
        return [cell.strip()]

    def several(row: _Row, cell: str) -> list[str]:
        if not cell.strip():
            if not columns.allow_unlabelled:
                faults.append(f"{row.at(column)}: empty label (--allow-unlabelled, if it means none of them)")
            return []
        parts = [part.strip() for part in cell.split(columns.separator)]
        if not all(parts):
            faults.append(f"{row.at(column)}: empty label between separators in '{_clip(cell)}'")
        return [part for part in parts if part]

    return several if columns.separator else single


def _flags(row: _Row, names: list[str], label_columns: tuple[str, ...], faults: list[str]) -> tuple[int, ...]:
    ids = []
    for i, column in enumerate(label_columns):
        cell = row.cells[names.index(column)].strip()
        if cell not in ("0", "1"):
            what = f"'{_clip(cell)}'" if cell else "an empty label"
            faults.append(f"{row.at(column)}: {what}, expected 0 or 1")
        elif cell == "1":
            ids.append(i)
    return tuple(ids)


def _clip(text: str) -> str:
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def write_csv(path: Path, dataset: Dataset) -> None:
    """Write `dataset` as a CSV in its own columns, so that what read the original reads this too."""
    columns = dataset.columns
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if columns.label_columns:
            writer.writerow([columns.text_column, *columns.label_columns])
            for text, row in zip(dataset.texts, dataset.targets, strict=True):
                writer.writerow([text, *(int(i in row) for i in range(len(columns.label_columns)))])
            return
        writer.writerow([columns.text_column, columns.label_column])
        for text, row in zip(dataset.texts, dataset.targets, strict=True):
            writer.writerow([text, (columns.separator or "").join(dataset.labels[i] for i in row)])
