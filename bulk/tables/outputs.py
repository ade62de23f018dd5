"""Scored batches as parts of an output, and the parts as one file, with the same bytes however they came about."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
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
    rows = zip(*columns, strict=True)
    if file_format == JSON_LINES:
        names = batch.schema.names
        objects = (dict(zip(names, cells, strict=True)) for cells in rows)
        return "".join(json.dumps(one, ensure_ascii=False, default=str) + "\n" for one in objects).encode()
    return _csv_lines(([_csv_cell(cell) for cell in cells] for cells in rows), file_format)


def _csv_lines(rows: Iterable[Sequence[object]], file_format: str) -> bytes:
    """Return `rows` as lines that end in a line feed; csv quotes a carriage return only if its own lines end in one."""
    line = io.StringIO(newline="")
    writer = csv.writer(line, delimiter="\t" if file_format == TSV else ",")
    lines = []
    for row in rows:
        writer.writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n"))
        line.seek(0)
        line.truncate()
    return "".join(f"{one}\n" for one in lines).encode()


def _cells(column: pa.Array) -> list[object]:
    cells: list[object] = column.to_pylist()
    return [None if cell is None else dict(cell) for cell in cells] if pa.types.is_map(column.type) else cells  # type: ignore[call-overload]


def _csv_cell(cell: object) -> object:
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell).lower() if isinstance(cell, bool) else cell


def join(parts: Sequence[Path], target: IO[bytes], file_format: str, schema: pa.Schema) -> None:
    """Write `parts` as one file into `target`."""
    if file_format == PARQUET:
        with pq.ParquetWriter(target, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, partitioning=None).cast(schema))
        return
    if file_format in (CSV, TSV):
        target.write(_csv_lines([schema.names], file_format))
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
