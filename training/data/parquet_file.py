"""Parquet and other Arrow tables as our tables. Rows have numbers, but no lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inferer.errors import first_line
from training.data.location import redacted
from training.data.table import Fault, Row, Table, not_utf8
from training.errors import DataError, TrainingError

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_table(source: Path | str, content: bytes, wanted: Sequence[str]) -> Table:
    """Return the table in `content`: the names of all columns, the cells of the columns `wanted`.

    Other columns are not decoded: they may hold vectors or images. Raises DataError for a file that is not Parquet or
    is damaged, TrainingError without pyarrow.
    """
    try:
        import pyarrow as pa  # not at the top: reading CSVs does not need it
        import pyarrow.parquet as pq
    except ImportError as error:
        raise TrainingError(f"{redacted(source)}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        found = file.read(columns=[name for name in names if name in wanted and names.count(name) == 1])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last for a damaged column name
        raise DataError(source, [f"not a Parquet file, or a damaged one: {first_line(error)}"]) from error
    return arrow_table(source, names, found)


def arrow_table(source: Path | str, names: Sequence[str], found: pa.Table) -> Table:
    """Return the columns in `found` as a table with the column names `names`.

    A column of a type other than text, number, boolean or lists of these is a fault of the table.
    """
    faults: list[Fault] = []
    columns = {}
    for name in found.column_names:
        column = found[name]
        if not _readable(column.type):
            faults.append(Fault(0, f"column '{name}' holds {column.type}, expected text or numbers, or lists of text"))
            continue
        try:
            columns[name] = column.to_pylist()
        except UnicodeDecodeError:
            columns[name] = [_cell(i, name, value, faults) for i, value in enumerate(column, start=1)]
    rows = [Row(i + 1, {name: cells[i] for name, cells in columns.items()}) for i in range(found.num_rows)]
    return Table(source, names, rows, faults)


def _readable(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return not types.is_list(kind.value_type) and _readable(kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    number = types.is_integer(kind) or types.is_floating(kind)
    return bool(text or number or types.is_boolean(kind) or types.is_null(kind))


def _cell(number: int, name: str, value: pa.Scalar, faults: list[Fault]) -> object:
    """Return one cell of a column with bytes that are not UTF-8."""
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        bad = not_utf8(error.object.decode("utf-8", "surrogateescape"))
        faults.append(Row(number, {}).fault(name, bad or str(error)))
        return "?"  # a stand-in, so that the cell is not a second fault
