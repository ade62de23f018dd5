"""Scored batches as parts of an output, and the parts as one file, with the same bytes however they came about."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from bulk.tables.files import CSV, JSON_LINES, PARQUET, TSV


def encode(batch: pa.RecordBatch, file_format: str) -> bytes:
    """Return `batch` as the bytes of a part: rows of text without a header, or a whole Parquet file."""
    if file_format == PARQUET:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_batches([batch]), sink)
        return sink.getvalue()
    columns = [_cells(batch.column(place)) for place in range(batch.num_columns)]
    text = io.StringIO(newline="")
    if file_format == JSON_LINES:
        names = batch.schema.names
        for cells in zip(*columns, strict=True):
            text.write(json.dumps(dict(zip(names, cells, strict=True)), ensure_ascii=False, default=str) + "\n")
    else:
        writer = csv.writer(text, delimiter=_delimiter(file_format), lineterminator="\n")
        writer.writerows([_csv_cell(cell) for cell in cells] for cells in zip(*columns, strict=True))
    return text.getvalue().encode()


def _cells(column: pa.Array) -> list[object]:
    cells: list[object] = column.to_pylist()
    return [None if cell is None else dict(cell) for cell in cells] if pa.types.is_map(column.type) else cells  # type: ignore[call-overload]


def _csv_cell(cell: object) -> object:
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell).lower() if isinstance(cell, bool) else cell


def _delimiter(file_format: str) -> str:
    return "\t" if file_format == TSV else ","


def join(parts: Sequence[Path], target: IO[bytes], file_format: str, schema: pa.Schema) -> None:
    """Write `parts` as one file into `target`."""
    if file_format == PARQUET:
        with pq.ParquetWriter(target, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, partitioning=None).cast(schema))
        return
    if file_format in (CSV, TSV):
        header = io.StringIO(newline="")
        csv.writer(header, delimiter=_delimiter(file_format), lineterminator="\n").writerow(schema.names)
        target.write(header.getvalue().encode())
    for part in parts:
        with part.open("rb") as file:
            shutil.copyfileobj(file, target, 1 << 20)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under the name `path` as a whole, or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
