"""Excel workbooks for tests: cells as they are given, with any text that .xlsx can hold."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from openpyxl import Workbook

# Characters that XML has not, and what would read as one of their escapes.
_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)|[\x00-\x1f\ufffe\uffff]")


def workbook(*sheets: Sequence[Sequence[Any]]) -> bytes:
    """Return a workbook with these sheets of rows; a str is text even where it begins with "="."""
    book = Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, start=1):
        sheet = book.create_sheet(f"Sheet{number}")
        for y, row in enumerate(rows, start=1):
            for x, value in enumerate(row, start=1):
                cell = sheet.cell(y, x)
                if isinstance(value, Formula):
                    cell.value = value
                elif isinstance(value, str):
                    cell._value = _ESCAPED.sub(lambda one: f"_x{ord(one[0]):04X}_", value)
                    cell.data_type = "s"
                else:
                    cell.value = value
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


class Formula(str):
    """A formula or an error value, as openpyxl takes it: "=A1", "#N/A"."""

    __slots__ = ()
