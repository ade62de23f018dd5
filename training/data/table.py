"""A table as any format gives it: rows that can name themselves in a fault, and cells as text. No torch here.

csv_file.py, json_lines.py, parquet_file.py, text_folder.py and hub_data.py make tables; labelled.py reads texts and
labels from one. What the columns mean is not known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CLIP = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_BYTE = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8


@dataclass(frozen=True)
class Fault:
    """What is wrong in one row; `row` is its number, 0 for what stands above the rows."""

    row: int
    message: str


@dataclass(frozen=True)
class Row:
    """One row: a cell for each column that it has.

    number: of the data rows, from 1; a header does not count. line: of the file, from 1, where the row begins; None
    where the format has no lines. file: the row's own file, where each has one; it names the row then.
    """

    number: int
    cells: Mapping[str, object]
    line: int | None = None
    file: str | None = None

    def fault(self, column: str, message: str) -> Fault:
        """Return the fault `message`, with the place in front."""
        where = self.file or f"{row_place(self.number, self.line)}, column '{column}'"
        return Fault(self.number, f"{where}: {message}")


@dataclass(frozen=True)
class Table:
    """Column names and the rows that could be read.

    source: a file, a folder or an address, as faults name it. faults: rows that could not be read, and names. hint:
    what is told beside a missing column in place of the nearest name. without_rows: what is told where there are none.
    """

    source: Path | str
    names: Sequence[str]
    rows: Sequence[Row]
    faults: Sequence[Fault] = ()
    hint: str = ""
    without_rows: str = "has no rows"


def row_place(number: int, line: int | None) -> str:
    """Return how a fault names a row."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


def cell_text(cell: object) -> str:
    """Return a cell as text: null is empty, true and false are 1 and 0, a whole number has no decimal point.

    Raises ValueError, which says what the cell holds, for anything that is no text and no number, and for text that
    a CSV in UTF-8 could not hold: the held-out rows are written as one.
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        if "\x00" in cell:
            raise ValueError("holds a NUL character")
        if not cell.isascii() and (lone := _SURROGATE.search(cell)):
            raise ValueError(f"holds half of a surrogate pair, \\u{ord(lone[0]):04x}, which is no character")
        return cell
    if isinstance(cell, int):  # True and False too
        return str(int(cell))
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise ValueError(f"holds {cell}, expected a finite number")
        return str(int(cell)) if cell.is_integer() else repr(cell)
    kind = "a list" if isinstance(cell, list) else "an object" if isinstance(cell, dict) else type(cell).__name__
    raise ValueError(f"holds {kind}, expected text or a number")


def not_utf8(text: str) -> str | None:
    """Return what is wrong with a `text` decoded with surrogateescape, None where its bytes were UTF-8."""
    bad = _BAD_BYTE.search(text)
    if bad is None:
        return None
    return f"byte 0x{ord(bad[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8 (it may be Latin-1)"


def check_no_nul(source: Path | str, content: bytes) -> None:
    """Raise DataError where `content` has a NUL byte: it is UTF-16 then, or no text at all."""
    if b"\x00" in content:
        line = content.count(b"\n", 0, content.index(b"\x00")) + 1
        raise DataError(source, [f"line {line} has a NUL byte; is this a text file in UTF-8?"])


def clip(text: str) -> str:
    """Return `text` short enough for a message."""
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"
