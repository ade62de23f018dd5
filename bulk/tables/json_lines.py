"""JSON Lines as record batches, with one type per column over the whole file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from bulk.tables.batches import Batches, left_over
from bulk.tables.files import File, open_bytes

_INT64 = 2**63
# A column with values of several types, or with lists and objects, stays JSON text.
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string(), "json": pa.string()}


def _lines(path: File) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """Yield the number of each line, its object, and instead of one its fault. Blank lines are left out."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, None, f"line {number} is not JSON: {error}{_whole(line)}"
                continue
            if isinstance(value, dict):
                yield number, *_clean(value, number)
            else:
                fault = f"line {number} is not a JSON object; expected one with the columns of a row"
                yield number, None, fault + _whole(line)


def _whole(line: bytes) -> str:
    return left_over(line.decode("utf-8", "replace").strip())


def _clean(row: dict[str, Any], number: int) -> tuple[dict[str, Any], str | None]:
    """Return `row` without halves of surrogate pairs, which no table can hold, and the fault if there was one."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        whole = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(whole), f"line {number} has half of a surrogate pair, {half}, which is not a character"
    return row, None


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    return "str" if isinstance(value, str) else "json"


def json_kinds(path: File, kinds: dict[str, str]) -> int:
    """Read the whole file; add the type of each column to `kinds`, and return the number of rows."""
    rows = 0
    for _, value, _ in _lines(path):
        rows += 1
        for name, cell in (value or {}).items():
            if cell is None:
                kinds.setdefault(name, "")
                continue
            old, new = kinds.get(name) or _kind(cell), _kind(cell)
            kinds[name] = old if old == new else "float" if {old, new} == {"int", "float"} else "json"
    return rows


def json_schema(kinds: dict[str, str]) -> pa.Schema:
    """Return the columns of `kinds`."""
    return pa.schema([pa.field(name, _TYPES[kind or "str"]) for name, kind in kinds.items()])


def json_batches(path: File, kinds: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows; a line that is not a JSON object has a fault."""
    batches = Batches(json_schema(kinds))
    for _, value, fault in _lines(path):
        row = value or {}
        yield from batches.add([_cell(row.get(name), kind) for name, kind in kinds.items()], fault)
    yield from batches.rest()


def _cell(value: object, kind: str) -> object:
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    if kind == "float":
        return float(value)  # type: ignore[arg-type]
    return value
