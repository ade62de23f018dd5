"""Rows that know their file and line, and cells as text: the form that every format is read into."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CLIP = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_BYTE = re.compile("[\udc80-\udcff]")  # surrogateescape's mark of a byte that is not UTF-8


@dataclass(frozen=True)
class Fault:
    """A fault of one row; row 0 stands for the header."""

    row: int
    message: str


@dataclass(frozen=True)
class Row:
    """One row: column -> cell.

    number: counts the data rows from 1. line: of the file, from 1, where the row begins, in formats with lines. file:
    the row's own file, where each row has one; faults name it instead of the row.
    """

    number: int
    cells: Mapping[str, object]
    line: int | None = None
    file: str | None = None

    def fault(self, column: str, message: str) -> Fault:
        """Return a fault of this row, with its place before `message`."""
        where = self.file or f"{row_place(self.number, self.line)}, column '{column}'"
        return Fault(self.number, f"{where}: {message}")


@dataclass(frozen=True)
class Table:
    """Column names and readable rows.

    faults: of unreadable rows and of the names. hint: replaces the suggestion of a similar name beside a missing
    column. without_rows: the message for a table without rows.
    """

    source: Path | str
    names: Sequence[str]
    rows: Sequence[Row]
    faults: Sequence[Fault] = ()
    hint: str = ""
    without_rows: str = "has no rows"


def row_place(number: int, line: int | None) -> str:
    """Return a row's name in faults."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


def cell_text(cell: object) -> str:
    """Return a cell as text: null is empty, true and false are 1 and 0, a whole number has no decimal point.

    Raises ValueError for other types, and for text that a CSV in UTF-8 cannot hold: held-out rows are written as one.
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        if "\x00" in cell:
            raise ValueError("holds a NUL character")
        if not cell.isascii() and (lone := _SURROGATE.search(cell)):
            raise ValueError(f"holds half of a surrogate pair, \\u{ord(lone[0]):04x}, which is not a character")
        return cell
    if isinstance(cell, int):  # True and False too
        return str(int(cell))
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise ValueError(f"holds {cell}, expected a finite number")
        return str(int(cell)) if cell.is_integer() else repr(cell)
    kind = "a list" if isinstance(cell, list) else "an object" if isinstance(cell, dict) else type(cell).__name__
    raise ValueError(f"holds {kind}, expected text or a number")


def not_utf8(text: str, hint: str = "") -> str | None:
    """Return the fault of a `text` decoded with surrogateescape, None where its bytes were UTF-8. hint: its remedy."""
    if not (bad := _BAD_BYTE.search(text)):
        return None
    return f"byte 0x{ord(bad[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8 (it may be Latin-1{hint})"


def text_bytes(source: Path | str, content: bytes) -> bytes:
    """Return `content` in UTF-8 without a byte order mark; UTF-16 is known by its mark.

    Raises DataError for damaged UTF-16, and for a NUL byte, a sign of UTF-16 without a mark or of a binary.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise DataError(source, [f"begins as UTF-16, and is not at byte {error.start}: {error.reason}"]) from error
    if b"\x00" in content:
        line = content.count(b"\n", 0, content.index(b"\x00")) + 1
        raise DataError(source, [f"line {line} has a NUL byte; is this a text file in UTF-8?"])
    return content.removeprefix(BYTE_ORDER_MARK)


def clip(text: str) -> str:
    """Return `text` short enough for a message."""
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"
