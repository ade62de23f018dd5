"""CSV and TSV (RFC 4180) as record batches; every cell stays text, so that 007 stays 007."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa

from bulk.errors import JobError
from bulk.tables.batches import Batches, left_over
from bulk.tables.files import TSV, File, open_bytes
from inferer.errors import shown

csv.field_size_limit(2**31 - 1)  # the default of 131,072 characters is shorter than some texts

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class CsvLayout:
    """How a CSV file is written. names: the columns; header: whether the first line has them."""

    delimiter: str
    encoding: str
    names: tuple[str, ...]
    header: bool

    def __str__(self) -> str:
        header = "with a header" if self.header else "without a header"
        encoding = "UTF-8" if self.encoding.startswith("utf-8") else self.encoding.upper()
        return f"columns between {_NAMES.get(self.delimiter, repr(self.delimiter))}, {encoding}, {header}"

    @property
    def schema(self) -> pa.Schema:
        """The columns, all of text."""
        return pa.schema([pa.field(name, pa.string()) for name in self.names])


def csv_layout(
    path: File, file_format: str, wanted: Sequence[str], delimiter: str | None, encoding: str | None, *, header: bool
) -> CsvLayout:
    """Return the layout of `path`, guessed where it is not given: the delimiter with which it has the columns `wanted`.

    Raises JobError for an empty file and for a header with a name twice.
    """
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise JobError(
                f"--encoding {encoding!r} is unknown; expected a name such as utf-8, cp1252, utf-16"
            ) from None
    else:
        with open_bytes(path) as file:
            start = file.read(4)
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    guesses = [delimiter] if delimiter else ["\t"] if file_format == TSV else list(_DELIMITERS)
    rows: dict[str, list[str]] = {}
    for guess in guesses:
        try:
            rows[guess] = next(_rows(path, guess, encoding), (1, []))[1]
        except JobError:  # a header in quotes is broken quoting to the other delimiters
            if guess == guesses[-1] and not rows:
                raise
    guesses = list(rows)
    best = max(guesses, key=lambda guess: (set(wanted) <= set(rows[guess]), len(rows[guess]), -guesses.index(guess)))
    first = rows[best]
    if not any(cell.strip() for cell in first):
        raise JobError(f"{path}: is empty; expected {'a line with the column names' if header else 'rows'}")
    names = tuple(first) if header else tuple(f"column_{number}" for number in range(1, len(first) + 1))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise JobError(f"{path}: the header has the column {shown(twice[0])} twice; rename one")
    return CsvLayout(best, encoding, names, header)


def _rows(path: File, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line at which a row begins, and its cells; blank lines are left out. Raises JobError."""
    begin = 1
    with open_bytes(path) as file:
        try:
            text = io.TextIOWrapper(file, encoding, newline="")
            reader = csv.reader(text, strict=True, delimiter=delimiter)
            for cells in reader:
                if cells:
                    yield begin, cells
                begin = reader.line_num + 1
        except csv.Error as error:
            raise JobError(f"{path}, line {begin}: broken quoting ({error}); nothing was scored") from error
        except UnicodeError as error:
            told = getattr(error, "reason", str(error))
            remedy = "give --encoding, such as cp1252 or utf-16" if encoding == "utf-8" else "give another --encoding"
            raise JobError(f"{path}, after line {begin}: is not {encoding} ({told}); {remedy}") from error


def count_rows(path: File, layout: CsvLayout) -> int:
    """Read the whole file, and return its number of rows. Raises JobError for broken quoting and wrong encoding."""
    return sum(1 for _ in _rows(path, layout.delimiter, layout.encoding)) - layout.header


def csv_batches(path: File, layout: CsvLayout) -> Iterator[pa.RecordBatch]:
    """Yield the rows; one with too few or too many cells has a fault, which tells the cells without a column."""
    batches = Batches(layout.schema)
    wide = len(layout.names)
    for line, cells in islice(_rows(path, layout.delimiter, layout.encoding), int(layout.header), None):
        fault = None
        if len(cells) != wide:
            fault = f"line {line} has {len(cells)} cells where the header has {wide}"
            if cells[wide:]:
                fault += left_over(json.dumps(cells[wide:], ensure_ascii=False))
        padded: list[str | None] = [*cells[:wide], *[None] * (wide - len(cells))]
        yield from batches.add(padded, fault)
    yield from batches.rest()


def same_layout(path: File, layout: CsvLayout, encoding: str | None) -> CsvLayout:
    """Return the layout of a further file of the input, which must have the columns of the first. Raises JobError."""
    other = csv_layout(path, "", layout.names, layout.delimiter, encoding, header=layout.header)
    if other.names != layout.names:
        raise JobError(f"{path}: has the columns {list(other.names)}, the first file {list(layout.names)}")
    return replace(layout, encoding=other.encoding)
