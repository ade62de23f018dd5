"""CSV and TSV (RFC 4180, UTF-8 or UTF-16) as tables, and a data set written as a CSV."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from inferer.tokens.texts import sides_of
from training.data.dataset import Dataset
from training.data.table import Fault, Row, Table, clip, not_utf8, row_place, text_bytes
from training.errors import DataError

# The module's default of 131,072 characters is shorter than some documents; this is the C long's limit.
csv.field_size_limit(2**31 - 1)

COMMA, TAB = ",", "\t"
_DELIMITERS = (COMMA, ";", TAB, "|")
_HINT = ": --encoding latin-1, or cp1252"
_HEADER_BYTES = 100_000


def delimiter_of(content: bytes, wanted: Sequence[str]) -> str:
    """Return the delimiter with which the header has the columns `wanted`; where none does, that of most columns.

    A comma where its header has broken quoting: the fault is then named.
    """
    start = content[:_HEADER_BYTES].decode("utf-8", "surrogateescape")
    headers = {one: next(_rows(start, one, []), (0, 1, []))[2] for one in _DELIMITERS}
    fitting = [one for one in _DELIMITERS if set(wanted) <= set(headers[one])]
    if fitting or not headers[COMMA]:
        return next(iter(fitting), COMMA)
    return max(_DELIMITERS, key=lambda one: len(headers[one]))  # the first of equals


def csv_table(source: Path | str, content: bytes, delimiter: str = COMMA) -> Table:
    """Return the table in `content`, the bytes at `source`; its cells are text.

    Faults of the table: a row with too few or too many cells, bytes that are not UTF-8, and broken quoting, which ends
    the reading. Raises DataError for a missing header.
    """
    text = text_bytes(source, content).decode("utf-8", "surrogateescape")
    faults: list[Fault] = []
    lines = _rows(text, delimiter, faults)
    _, _, names = next(lines, (0, 1, []))
    if faults:
        raise DataError(source, [fault.message for fault in faults])
    if not any(name.strip() for name in names):
        raise DataError(source, ["is empty; expected a header line with the column names"])
    bad_names = [(i, name) for i, name in enumerate(names, 1) if not_utf8(name)]
    faults += [Fault(0, f"line 1, column {i}: the name {name!r} is not UTF-8") for i, name in bad_names]
    is_utf8 = not_utf8(text) is None  # checked once instead of for each cell
    rows = []
    for number, line, cells in lines:
        row = Row(number, dict(zip(names, cells, strict=False)), line)
        found = [] if is_utf8 and len(cells) == len(names) else _row_faults(row, names, cells)
        faults += found
        if not found:
            rows.append(row)
    hint = ""
    if len(names) == 1 and delimiter == TAB and any(other in names[0] for other in _DELIMITERS):
        hint = "; the columns of a .tsv must be separated by tabs"
    return Table(source, names, rows, faults, hint, "has a header but no rows")


def _rows(text: str, delimiter: str, faults: list[Fault]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield number, line and cells of the rows, the header as number 0. Broken quoting ends them and adds a fault."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    number, begin = 0, 1
    try:
        for cells in reader:
            if cells:  # a blank line is not a row
                yield number, begin, cells
                number += 1
            begin = reader.line_num + 1
    except csv.Error as error:
        where = f"{row_place(number, begin)}, column {_broken_quote(text, begin, delimiter)}"
        faults.append(Fault(number, f"{where}: broken quoting ({error})"))


def _broken_quote(text: str, begin: int, delimiter: str) -> str:
    """Return number and beginning of the cell with broken quoting in the row that starts at line `begin`."""
    # Lines as csv.reader counts them: one may end in \r alone.
    start = sum(len(line) for line in itertools.islice(io.StringIO(text, newline=""), begin - 1))
    cell = re.compile(rf'(?:"[^"]*(?:""[^"]*)*"|[^"{delimiter}\r\n][^{delimiter}\r\n]*)?(?=[{delimiter}\r\n]|\Z)')
    column = 1
    while found := cell.match(text, start):
        if text[found.end() : found.end() + 1] != delimiter:
            return str(column)
        column, start = column + 1, found.end() + 1
    return f"{column}, {clip(text[start:])!r}"


def _row_faults(row: Row, names: list[str], cells: list[str]) -> list[Fault]:
    sizes = f"this row, which has {len(cells)} cells where the header has {len(names)}"
    if len(cells) < len(names):
        return [row.fault(names[len(cells)], f"missing from {sizes}")]
    if len(cells) > len(names):
        return [row.fault(names[-1], f"the last of the header; there is more in {sizes}")]
    return [row.fault(name, bad) for name, cell in zip(names, cells, strict=True) if (bad := not_utf8(cell, _HINT))]


def write_csv(path: Path, dataset: Dataset) -> None:
    """Write `dataset` as a CSV in its own columns, with which it reads back the same."""
    columns = dataset.columns
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.names)
        for i, (text, row) in enumerate(zip(dataset.texts, dataset.targets, strict=True)):
            if dataset.numbers:
                labels: list[object] = [dataset.numbers[i]]
            elif columns.label_columns:
                labels = [int(label in row) for label in range(len(columns.label_columns))]
            else:
                labels = [(columns.separator or "").join(dataset.labels[label] for label in row)]
            group = dataset.groups[i : i + 1] if columns.group_column not in columns.text_columns else ()
            writer.writerow([*sides_of(text), *labels, *group])
