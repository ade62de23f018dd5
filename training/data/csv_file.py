"""CSV and TSV as tables, and a data set written as a CSV. No torch here. A row is named by number and line.

RFC 4180 as Python's csv module reads it: comma (in a TSV, tab), double quotes, newlines allowed inside quotes; UTF-8,
with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

from training.data.dataset import Columns, Dataset
from training.data.labels import dataset_from_table
from training.data.remote import read_bytes
from training.data.table import BYTE_ORDER_MARK, Fault, Row, Table, check_no_nul, clip, not_utf8, row_place
from training.errors import DataError

# The module's default of 131,072 characters is shorter than some documents; this is the C long's limit.
csv.field_size_limit(2**31 - 1)

COMMA, TAB = ",", "\t"
_SEPARATED_BY = {COMMA: "commas", TAB: "tabs"}


def read_csv(source: Path | str, columns: Columns) -> Dataset:
    """Return the data set in the CSV at `source`, a path or an address.

    Raises DataError with a line for every fault found: a column that is not there, an empty text or
    label, a value that is not allowed, broken quoting, bytes that are not UTF-8.
    """
    return parse_csv(source, read_bytes(source), columns)


def parse_csv(source: Path | str, content: bytes, columns: Columns) -> Dataset:
    """Return the data set in `content`, the bytes of the CSV at `source`. Raises DataError as `read_csv`."""
    return dataset_from_table(csv_table(source, content), columns)


def csv_table(source: Path | str, content: bytes, delimiter: str = COMMA) -> Table:
    """Return the table in `content`, whose cells `delimiter` parts. Its cells are text.

    A row with a cell too few or too many, or with bytes that are not UTF-8, is a fault of the table, and so is broken
    quoting, behind which nothing is read. Raises DataError for what has no header.
    """
    check_no_nul(source, content)
    text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
    faults: list[Fault] = []
    lines = _rows(text, delimiter, faults)
    _, _, names = next(lines, (0, 1, []))
    if faults:
        raise DataError(source, [fault.message for fault in faults])
    if not any(name.strip() for name in names):
        raise DataError(source, ["is empty; expected a header line with the column names"])
    for i, name in enumerate(names, 1):
        if not_utf8(name):
            faults.append(Fault(0, f"line 1, column {i}: the name {name!r} is not UTF-8"))
    whole = not_utf8(text) is None  # asked once, and not cell by cell
    rows = []
    for number, line, cells in lines:
        row = Row(number, dict(zip(names, cells, strict=False)), line)
        found = [] if whole and len(cells) == len(names) else _row_faults(row, names, cells)
        faults += found
        if not found:
            rows.append(row)
    return Table(source, names, rows, faults, _hint(names, delimiter), "has a header but no rows")


def _rows(text: str, delimiter: str, faults: list[Fault]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield number, line and cells of the rows, the header as number 0; broken quoting ends them with a fault."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    number, begin = 0, 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            where = f"{row_place(number, begin)}, column {_broken_quote(text, begin, delimiter)}"
            faults.append(Fault(number, f"{where}: broken quoting ({error})"))
            return
        if cells is None:
            return
        if cells:  # a blank line is no row
            yield number, begin, cells
            number += 1
        begin = reader.line_num + 1


def _broken_quote(text: str, begin: int, delimiter: str) -> str:
    """Return the number and the beginning of the cell that breaks the row starting at line `begin`."""
    # Lines as csv.reader counts them: one may end in \r alone.
    start = sum(len(line) for line in itertools.islice(io.StringIO(text, newline=""), begin - 1))
    ends = delimiter + "\r\n"
    column, i = 1, start
    while i < len(text):
        cell = i
        if text[i] == '"':
            i += 1
            while (end := text.find('"', i)) >= 0 and text[end : end + 2] == '""':
                i = end + 2
            closed = end >= 0 and (end + 1 == len(text) or text[end + 1] in ends)
            if not closed:
                return f"{column}, {clip(text[cell:])!r}"
            i = end + 1
        else:
            while i < len(text) and text[i] not in ends:
                i += 1
        if i >= len(text) or text[i] in "\r\n":
            break
        column, i = column + 1, i + 1
    return str(column)


def _hint(names: list[str], delimiter: str) -> str:
    if len(names) == 1 and any(other in names[0] for other in ",;\t|"):
        return f"; the columns must be separated by {_SEPARATED_BY[delimiter]}"
    return ""


def _row_faults(row: Row, names: list[str], cells: list[str]) -> list[Fault]:
    if len(cells) != len(names):
        column = names[len(cells)] if len(cells) < len(names) else names[-1]
        how = "missing from" if len(cells) < len(names) else "the last of the header; there is more in"
        what = f"{how} this row, which has {len(cells)} cells where the header has {len(names)}"
        return [row.fault(column, what)]
    return [row.fault(name, bad) for name, cell in zip(names, cells, strict=True) if (bad := not_utf8(cell))]


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
