"""Parquet as a table, and any Arrow table as ours. No torch here. Rows have numbers, and no lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.location import redacted
from training.data.table import Fault, Row, Table, not_utf8
from training.errors import DataError, TrainingError

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_table(source: Path | str, content: bytes, wanted: Sequence[str]) -> Table:
    """Return the table in `content`, its names those of the file, its cells those of the columns `wanted`.

    The other columns are not decoded: they may hold vectors or images. Raises DataError for what is no Parquet or is
    damaged, and for a wanted column of a type that is no text, number, boolean or list of them.
    """
    try:
        import pyarrow as pa  # not at the top: who reads CSVs alone need not have it
        import pyarrow.parquet as pq
    except ImportError as error:
        raise TrainingError(f"{redacted(source)}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        once = [name for name in wanted if names.count(name) == 1]  # of the others the reading of labels tells
        found = file.read(columns=[name for name in names if name in once])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last by a damaged column name
        reason = str(error).strip().splitlines()[0]
        raise DataError(source, [f"is no Parquet file, or a damaged one: {reason}"]) from error
    return arrow_table(source, names, found)


def arrow_table(source: Path | str, names: Sequence[str], found: pa.Table) -> Table:
    """Return `found`, some columns of a table whose columns are `names`, as a Table."""
    faults: list[Fault] = []
    columns = {}
    for name in found.column_names:
        column = found[name]
        if not _readable(column.type):
            faults.append(Fault(0, f"column '{name}' holds {column.type}, expected text or numbers, or lists of text"))
            continue
        columns[name] = _cells(name, column, faults)
    rows = [Row(i + 1, {name: cells[i] for name, cells in columns.items()}) for i in range(found.num_rows)]
    return Table(source, names, rows, faults)


def _readable(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return not types.is_list(kind.value_type) and _readable(kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(
        text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    )


def _cells(name: str, column: pa.ChunkedArray, faults: list[Fault]) -> list[object]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_cell(i, name, value, faults) for i, value in enumerate(column, start=1)]


def _cell(number: int, name: str, value: pa.Scalar, faults: list[Fault]) -> object:
    """Return one cell of a column that has bytes which are not UTF-8."""
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        bad = not_utf8(error.object.decode("utf-8", "surrogateescape"))
        faults.append(Row(number, {}).fault(name, bad or str(error)))
        return "?"  # in place of it, so that it is no second fault
