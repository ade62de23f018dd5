"""JSON Lines as a table: one object a line, UTF-8, blank lines aside. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from training.data.table import BYTE_ORDER_MARK, Fault, Row, Table, check_no_nul, clip, row_place
from training.errors import DataError

_KINDS = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def json_lines_table(source: Path | str, content: bytes) -> Table:
    """Return the table in `content`: its columns are the keys of all objects, its cells what JSON gives.

    A line that is no JSON, no object, or not UTF-8 is a fault of the table. Raises DataError for what has no line, and
    for one JSON array.
    """
    check_no_nul(source, content)
    content = content.removeprefix(BYTE_ORDER_MARK)
    if content.lstrip().startswith(b"["):
        raise DataError(
            source, ["begins with a JSON array; expected JSON Lines: one object a line, no [ ] around them"]
        )
    rows: list[Row] = []
    faults: list[Fault] = []
    names: dict[str, None] = {}  # a set that keeps its order
    number = 0
    # Of the bytes: str.splitlines would cut at U+2028 too, which JSON allows inside a string.
    for line, raw in enumerate(content.splitlines(), start=1):
        if not raw.strip():
            continue
        number += 1
        try:
            cells = _object(raw)
        except ValueError as error:
            faults.append(Fault(number, f"{row_place(number, line)}: {error}"))
            continue
        names.update(dict.fromkeys(cells))
        rows.append(Row(number, cells, line))
    if not number:
        raise DataError(source, ["is empty; expected one JSON object a line"])
    return Table(source, tuple(names), rows, faults)


def _object(raw: bytes) -> dict[str, object]:
    """Return the object in one line; raises ValueError with what is wrong."""
    try:
        found = json.loads(raw.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise ValueError(
            f"character {error.start + 1} is byte 0x{byte:02x}, not UTF-8; save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(found, dict):
        kind = _KINDS.get(type(found), "a number")
        raise ValueError(f'is {kind}, expected an object such as {{"text": "…"}}')  # noqa: TRY004  as the others
    return found


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"has the key '{clip(key)}' twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"is not JSON: {name} is no JSON value; write null")
