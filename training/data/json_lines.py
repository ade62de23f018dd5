"""JSON Lines as a table: one object per line, UTF-8, blank lines ignored.

Read with the standard library: pyarrow turns "2020-01-01" into a timestamp, refuses numbers beside strings, and stops
at the first fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from training.data.table import Fault, Row, Table, clip, row_place, text_bytes
from training.errors import DataError

_KINDS = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def json_lines_table(source: Path | str, content: bytes) -> Table:
    """Return the table in `content`: its columns are the keys of all objects, its faults lines that are not objects.

    Raises DataError for an empty file and for a JSON array.
    """
    content = text_bytes(source, content)
    if content.lstrip().startswith(b"["):
        raise DataError(source, ["begins with a JSON array; expected JSON Lines: one object per line, without [ ]"])
    rows: list[Row] = []
    faults: list[Fault] = []
    names: dict[str, None] = {}  # an ordered set
    # Bytes are split, because str.splitlines would also split at U+2028, which JSON allows inside a string.
    lines = [(line, raw) for line, raw in enumerate(content.splitlines(), start=1) if raw.strip()]
    if not lines:
        raise DataError(source, ["is empty; expected one JSON object per line"])
    for number, (line, raw) in enumerate(lines, start=1):
        try:
            cells = _object(raw)
        except ValueError as error:
            faults.append(Fault(number, f"{row_place(number, line)}: {error}"))
            continue
        names.update(dict.fromkeys(cells))
        rows.append(Row(number, cells, line))
    return Table(source, tuple(names), rows, faults)


def _object(raw: bytes) -> dict[str, object]:
    """Return the object in one line. Raises ValueError with the fault."""
    try:
        found = json.loads(raw.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        what = f"character {error.start + 1} is byte 0x{raw[error.start]:02x}, not UTF-8; save the file as UTF-8"
        raise ValueError(what) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
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
    raise ValueError(f"is not JSON: {name} is not a JSON value; write null")
