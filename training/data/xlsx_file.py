"""The first sheet of an Excel workbook (.xlsx) as a table, with the column names in its first row."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inferer.errors import first_line
from training.data.location import redacted
from training.data.table import Fault, Row, Table
from training.errors import DataError, TrainingError

_NOT_COMPUTED = "holds a formula without its value: open the file in a spreadsheet program and save it"
_OLD_OR_ENCRYPTED = b"\xd0\xcf\x11\xe0"  # an OLE file: .xls, or .xlsx with a password


def xlsx_table(source: Path | str, content: bytes, wanted: Sequence[str]) -> Table:
    """Return the table in `content`: the cells of the columns `wanted` in the first visible sheet, blank rows left out.

    A row's line is its number in the sheet. Faults of rows: dates, error values such as #N/A, and formulas without a
    computed value. Raises DataError for what is not a workbook, and where another sheet has the columns too;
    TrainingError without openpyxl.
    """
    try:
        import openpyxl  # noqa: F401  not at the top: other formats do not need it
    except ImportError as error:
        raise TrainingError(f"{redacted(source)}: reading .xlsx needs openpyxl: pip install openpyxl") from error
    if content.startswith(_OLD_OR_ENCRYPTED):
        raise DataError(source, ["has a password, or is an .xls by another name: save it as .xlsx without a password"])
    try:
        with _sheets(content) as sheets:
            return _table(source, content, sheets, wanted)
    except DataError:
        raise
    except Exception as error:  # openpyxl has no error of its own for damaged files
        raise DataError(source, [f"not an .xlsx workbook, or a damaged one: {first_line(error)}"]) from error


def _table(source: Path | str, content: bytes, sheets: Sequence[Any], wanted: Sequence[str]) -> Table:
    if not sheets:
        raise DataError(source, ["has no sheet with cells"])
    lines = _lines(sheets[0])
    names = _names(next(lines, ()))
    if not any(names):
        raise DataError(source, [f"sheet '{sheets[0].title}': the first row is empty; expected the column names"])
    others = [sheet.title for sheet in sheets[1:] if set(wanted) <= set(_names(next(_lines(sheet), ())))]
    if others and set(wanted) <= set(names):
        listed = " and ".join(f"'{title}'" for title in (sheets[0].title, *others))
        raise DataError(source, [f"has the columns in the sheets {listed}: leave them in one, the first"])
    hint = f"; sheet '{others[0]}' has all of them: make it the first" if others else ""
    rows: list[Row] = []
    faults: list[Fault] = []
    formulas: set[tuple[int, str]] | None = None
    number = 0
    for line, cells in enumerate(lines, start=2):
        if all(cell.value is None for cell in cells):
            continue
        number += 1
        values = {name: cell for name, cell in zip(names, cells, strict=False) if name in wanted}
        row = Row(number, {name: _value(values.get(name)) for name in names if name in wanted}, line)
        if None in row.cells.values() and formulas is None:
            formulas = _formulas(content, names, wanted)
        found = [row.fault(name, fault) for name, cell in values.items() if (fault := _fault(cell))]
        found += [row.fault(name, _NOT_COMPUTED) for name in row.cells if (line, name) in (formulas or ())]
        faults += found
        if not found:
            rows.append(row)
    return Table(source, [name for name in names if name], rows, faults, hint, "has a header but no rows")


@contextmanager
def _sheets(content: bytes, *, formulas: bool = False) -> Iterator[list[Any]]:
    """Yield the visible sheets; their cells hold values, or with `formulas` the formulas behind them."""
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions that openpyxl leaves out
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=not formulas)
        try:
            yield [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        finally:
            book.close()


def _lines(sheet: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of each row, the first row of the sheet first."""
    sheet.reset_dimensions()  # some programs write wrong ones, which would cut the table
    yield from sheet.iter_rows()


def _names(cells: Sequence[Any]) -> list[str]:
    """Return the column names in the cells of a header; "" stands for an empty cell."""
    return ["" if cell.value is None else str(_value(cell)) for cell in cells]


def _value(cell: Any) -> object:
    from openpyxl.utils.escape import unescape

    value = None if cell is None else cell.value
    return unescape(value) if isinstance(value, str) else value  # _x000D_ is a carriage return


def _fault(cell: Any) -> str | None:
    if cell.data_type == "e":
        return f"holds the error {cell.value}"
    if cell.value is None or isinstance(cell.value, str | int | float):
        return None
    return f"holds the date or time {cell.value}, expected text or a number: format the column as text"


def _formulas(content: bytes, names: Sequence[str], wanted: Sequence[str]) -> set[tuple[int, str]]:
    """Return line and column of each formula in the columns `wanted` of the first sheet that has no value."""
    found = set()
    with _sheets(content, formulas=True) as formulas, _sheets(content) as values:
        pairs = zip(_lines(formulas[0]), _lines(values[0]), strict=True)
        for line, (written, shown) in enumerate(pairs, start=1):
            for name, one, other in zip(names, written, shown, strict=False):
                if name in wanted and one.data_type == "f" and other.value is None:
                    found.add((line, name))
    return found
