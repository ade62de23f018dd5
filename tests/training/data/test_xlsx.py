"""Excel workbooks: the first sheet is read, and what a cell cannot give is named by row."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from pathlib import Path

import pytest

from tests.training.data.workbooks import Formula, workbook
from training.data.dataset import Columns, Dataset
from training.data.reader import parse_dataset
from training.errors import DataError, TrainingError

COLUMNS = Columns("text", "label")
HEADER = ("text", "label")


def read(content: bytes, columns: Columns = COLUMNS) -> Dataset:
    """Return the data set in a workbook."""
    return parse_dataset(Path("a.xlsx"), content, columns)


def faults(content: bytes) -> list[str]:
    """Return the faults of a workbook."""
    with pytest.raises(DataError) as caught:
        read(content)
    return caught.value.faults


def test_text_numbers_and_booleans_are_read() -> None:
    """Text, whole and other numbers, and booleans are read; blank rows and columns without a name are left out."""
    rows = [
        ("id", *HEADER, None, "note"),
        (1, "a", 3, None, "x"),
        (),
        (None, 2.5, 4.0),
        (3, True, 3, "beside"),
        (None,),
    ]
    data = read(workbook(rows))
    assert data.texts == ("a", "2.5", "1")
    assert [data.labels[row[0]] for row in data.targets] == ["3", "4", "3"]


def test_faults_have_the_number_of_the_row_in_the_sheet() -> None:
    """Dates, error values, formulas without a value and empty cells are named by row, sheet row and column."""
    rows = [
        HEADER, ("a", "x"), (), (datetime.date(2026, 1, 2), "x"), ("b", Formula("#N/A")), ("c", Formula("=B2")),
        ("d", None), (datetime.time(3, 4), "y"), ("e", "y"),
    ]  # fmt: skip
    expected = "expected text or a number: format the column as text"
    assert faults(workbook(rows)) == [
        f"row 2 (line 4), column 'text': holds the date or time 2026-01-02 00:00:00, {expected}",
        "row 3 (line 5), column 'label': holds the error #N/A",
        "row 4 (line 6), column 'label': holds a formula without its value: open the file in a spreadsheet program and "
        "save it",
        "row 5 (line 7), column 'label': empty label",
        f"row 6 (line 8), column 'text': holds the date or time 03:04:00, {expected}",
    ]


def test_a_formula_with_its_value_is_read() -> None:
    """The value that a spreadsheet program saved with a formula is read, beside empty cells too."""
    content = workbook([HEADER, ("a", "x"), ("b", Formula("=B2")), ("", "y")])
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            part = old.read(name).replace(b'<c r="B3"><f>B2</f><v /></c>', b'<c r="B3" t="str"><f>B2</f><v>x</v></c>')
            assert name != "xl/worksheets/sheet1.xml" or b"<v>x</v>" in part
            new.writestr(name, part)
    data = read(out.getvalue(), Columns("text", "label", drop_empty=True))
    assert [data.labels[row[0]] for row in data.targets] == ["x", "x"]


def test_a_second_sheet_with_the_columns_is_refused() -> None:
    """Another sheet is left unread, unless it has the columns: then the sheets are named."""
    rows = [HEADER, ("a", "x"), ("b", "y")]
    assert len(read(workbook(rows, [("notes",), ("text",)], []))) == 2
    assert faults(workbook(rows, [("notes",)], rows)) == [
        "has the columns in the sheets 'Sheet1' and 'Sheet3': leave them in one, the first"
    ]
    assert faults(workbook([("notes", "more")], rows)) == [
        f"no column '{name}'; the columns are 'notes', 'more'; sheet 'Sheet2' has all of them: make it the first"
        for name in HEADER
    ]


def test_wrong_dimensions_do_not_cut_the_table() -> None:
    """A sheet that notes too small a size is read whole."""
    content = workbook([HEADER, ("a", "x"), ("b", "y")])
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1:A1"'))
    assert out.getvalue() != content
    assert len(read(out.getvalue())) == 2


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"text,label\na,x\n", "not an .xlsx workbook, or a damaged one: "),
        (workbook([HEADER, ("a", "x")])[:-40], "not an .xlsx workbook, or a damaged one: "),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "has a password, or is an .xls by another name: save it as .xlsx without a"),
        (workbook([]), "sheet 'Sheet1': the first row is empty; expected the column names"),
        (workbook([(), HEADER, ("a", "x")]), "sheet 'Sheet1': the first row is empty; expected the column names"),
        (workbook([HEADER]), "has a header but no rows"),
    ],
)
def test_what_is_not_a_table_is_refused(content: bytes, fault: str) -> None:
    """Other bytes, a damaged or encrypted workbook, and a sheet without a header or rows are one fault."""
    (found,) = faults(content)
    assert found.startswith(fault)


def test_openpyxl_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without openpyxl the one line has the command that installs it."""
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(TrainingError, match="^a.xlsx: reading .xlsx needs openpyxl: pip install openpyxl$"):
        read(b"")
