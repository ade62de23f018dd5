"""Parquet as record batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from bulk.errors import JobError
from bulk.tables.batches import MOST_BYTES, MOST_ROWS, ROW_FAULT
from bulk.tables.files import File


@contextmanager
def _opened(path: File) -> Iterator[pq.ParquetFile]:
    """Open `path`; an error of its content in the block becomes a JobError."""
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise JobError(f"{path}: is not a whole Parquet file: {reason}") from error


def parquet_schema(path: File) -> tuple[pa.Schema, int]:
    """Return the columns of `path` and its number of rows. Raises JobError for a damaged file."""
    with _opened(path) as file:
        return file.schema_arrow.remove_metadata(), file.metadata.num_rows


def parquet_batches(path: File) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of at most MOST_ROWS rows and about MOST_BYTES bytes."""
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=MOST_ROWS):
            faults = pa.nulls(batch.num_rows, pa.string())
            schema = batch.schema.remove_metadata().append(pa.field(ROW_FAULT, pa.string()))
            whole = pa.record_batch([*batch.columns, faults], schema=schema)
            rows = max(1, batch.num_rows * MOST_BYTES // max(MOST_BYTES, batch.nbytes))
            yield from (whole.slice(start, rows) for start in range(0, batch.num_rows, rows))
