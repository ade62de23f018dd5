"""The input of a job: one table from one or more files, looked through once before any work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from bulk.errors import JobError
from bulk.tables.addresses import RemoteFile
from bulk.tables.batches import check_text_columns
from bulk.tables.csv_table import count_rows, csv_batches, csv_layout, same_layout
from bulk.tables.files import CSV, JSON_LINES, TSV, File, find, one_format
from bulk.tables.json_lines import json_batches, json_kinds, json_schema
from bulk.tables.parquet_table import parquet_batches, parquet_schema

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Input:
    """A table. rows: their number. layout: for people. batches: yields the rows with a column ROW_FAULT."""

    files: tuple[File, ...]
    file_format: str
    layout: str
    schema: pa.Schema
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]

    def fingerprint(self) -> str:
        """Return a SHA-256 that another content of a file would change."""
        digest = hashlib.sha256()
        for path in self.files:
            version = path.version() if isinstance(path, RemoteFile) else None
            if version is not None:
                digest.update(f"{path.name}\0{version}\0".encode())
                continue
            with path.open("rb") as file:
                digest.update(f"{path.name}\0".encode())
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()


def read_input(
    given: str,
    text_columns: Sequence[str],
    file_format: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    *,
    header: bool = True,
) -> Input:
    """Look through the table `given`, a file, a folder or a glob. Raises JobError with the first fault of a file.

    text_columns: the column of the texts, or both columns of pairs.
    """
    files = find(given)
    found = one_format(files, file_format)
    if found not in (CSV, TSV):
        for flag, value in (("--delimiter", delimiter), ("--encoding", encoding), ("--no-header", not header or None)):
            if value is not None:
                raise JobError(f"{flag} is for CSV and TSV; {files[0]} is {found}")
    if found in (CSV, TSV):
        first = csv_layout(files[0], found, list(text_columns), delimiter, encoding, header=header)
        layouts = [first, *(same_layout(path, first, encoding) for path in files[1:])]
        schema, told = first.schema, str(first)
        check_text_columns(schema, text_columns, str(files[0]))
        rows = sum(count_rows(path, layout) for path, layout in zip(files, layouts, strict=True))
        streams = [partial(csv_batches, path, layout) for path, layout in zip(files, layouts, strict=True)]
    elif found == JSON_LINES:
        kinds: dict[str, str] = {}
        rows = sum(json_kinds(path, kinds) for path in files)
        schema, told = json_schema(kinds), "one JSON object per line"
        streams = [partial(json_batches, path, kinds) for path in files]
        check_text_columns(schema, text_columns, str(files[0]))
    else:
        looks = [parquet_schema(path) for path in files]
        schema, rows, told = looks[0][0], sum(count for _, count in looks), "Parquet"
        for path, (other, _) in zip(files, looks, strict=True):
            if other != schema:
                raise JobError(f"{path}: its columns or their types differ from those of {files[0]}")
        streams = [partial(parquet_batches, path) for path in files]
        check_text_columns(schema, text_columns, str(files[0]))
    return Input(tuple(files), found, told, schema, rows, lambda: _chained(streams))


def _chained(streams: Sequence[Callable[[], Iterator[pa.RecordBatch]]]) -> Iterator[pa.RecordBatch]:
    for stream in streams:
        yield from stream()
