"""Rows on their way into record batches of bounded size."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pyarrow as pa

from bulk.errors import JobError

# The largest batch: rows in memory together, a unit of work, and a part of the output. These are fixed, so that the
# output of a job that continues has the same bytes as that of an unbroken one.
MOST_ROWS = 1024
MOST_BYTES = 8_000_000
# A column of the batches of a reader: the fault that kept a row from being read, else null.
ROW_FAULT = "__row_fault__"
LEFT_OVER = "; without a column: "  # in a fault, before what the row has beside its cells
_MOST_LEFT_OVER = 2_000  # characters


def left_over(rest: str) -> str:
    """Return the end of a fault that tells `rest`, what a row has beside its cells, shortened if it is long."""
    return LEFT_OVER + (rest if len(rest) <= _MOST_LEFT_OVER else rest[: _MOST_LEFT_OVER - 1] + "…")


class Batches:
    """Collect rows, and give them out in batches of at most MOST_ROWS rows and about MOST_BYTES bytes."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema.append(pa.field(ROW_FAULT, pa.string()))
        self._rows: list[tuple[object, ...]] = []
        self._bytes = 0

    def add(self, cells: Sequence[object], fault: str | None) -> Iterator[pa.RecordBatch]:
        """Add a row of one cell per column; yield a batch when one is full."""
        self._rows.append((*cells, fault))
        self._bytes += sum(sys.getsizeof(cell) for cell in cells if isinstance(cell, str))
        if len(self._rows) >= MOST_ROWS or self._bytes >= MOST_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are left, as one batch."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(cells, field.type) for cells, field in zip(columns, self._schema, strict=True)]
            self._rows, self._bytes = [], 0
            yield pa.record_batch(arrays, schema=self._schema)


def check_text_columns(schema: pa.Schema, names: Sequence[str], table: str) -> None:
    """Raise JobError where a column of texts is missing, there twice, or not of text. table: for the message."""
    for name in names:
        _check_text_column(schema, name, table)


def _check_text_column(schema: pa.Schema, name: str, table: str) -> None:
    if schema.names.count(name) != 1:
        many = "is there twice" if name in schema.names else "is missing"
        columns = ", ".join(map(repr, schema.names)) or "none"
        raise JobError(f"{table}: the column {name!r} {many}; the columns are {columns}")
    kind = schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise JobError(f"{table}: the column {name!r} is of type {kind}, expected text")
