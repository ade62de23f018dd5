"""CSVs: every fault by row, line and column, and texts that read back as they were written."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support.server import ROOT
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset, check_class_sizes, label_order
from training.data.reader import read_dataset
from training.errors import DataError

SINGLE = Columns("text", "label")
JOINED = Columns("text", "label", separator="|")
FLAGS = Columns("text", label_columns=("toxic", "rude"))

# Whatever a UTF-8 CSV can hold: no NUL (refused), no lone surrogate (not UTF-8), not only spaces (empty).
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
texts = texts.filter(lambda text: text.strip())


def read(folder: Path, content: str | bytes, columns: Columns = SINGLE) -> Dataset:
    """Read `content` as a CSV."""
    path = folder / "data.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dataset(path, columns)


def faults(folder: Path, content: str | bytes, columns: Columns = SINGLE) -> list[str]:
    """Return the faults that reading `content` finds."""
    with pytest.raises(DataError) as caught:
        read(folder, content, columns)
    assert str(caught.value).startswith(f"{folder / 'data.csv'}: ")
    return caught.value.faults


def dataset(rows: list[tuple[int, ...]], labels: tuple[str, ...], columns: Columns) -> Dataset:
    """Return a data set with these targets and any texts."""
    return Dataset(tuple(f"text {i}" for i in range(len(rows))), tuple(rows), labels, columns.problem_type, columns)


def test_single_label_csv_is_read(tmp_path: Path) -> None:
    """A single-label CSV gives its texts, targets and label names; other columns are ignored."""
    data = read(tmp_path, 'id,label,text\n1,spam,buy now\n2, ham ,"hi, you"\n3,spam, spaced \n')
    assert data.texts == ("buy now", "hi, you", " spaced ")
    assert data.labels == ("ham", "spam")
    assert data.targets == ((1,), (0,), (1,))
    assert data.problem_type == SINGLE_LABEL
    assert data.counts() == {"ham": 1, "spam": 2}


def test_texts_without_labels_are_read(tmp_path: Path) -> None:
    """Without the name of a label column, only texts are read."""
    data = read(tmp_path, "label,text\nspam,buy now\n,hi\n", Columns("text"))
    assert data.texts == ("buy now", "hi")
    assert (data.targets, data.labels) == (((), ()), ())


def test_joined_labels_are_read(tmp_path: Path) -> None:
    """A separator splits the labels in a cell; spaces and repeats are ignored."""
    data = read(tmp_path, "text,label\na,x|y\nb, y \nc,z | x|x\n", JOINED)
    assert data.labels == ("x", "y", "z")
    assert data.targets == ((0, 1), (1,), (0, 2))
    assert data.problem_type == MULTI_LABEL


def test_flag_columns_are_read(tmp_path: Path) -> None:
    """0/1 columns are labels in the order of the flag, not of the file."""
    data = read(tmp_path, "rude,text,toxic\n1,a,0\n0,b,0\n1,c, 1 \n", FLAGS)
    assert data.labels == ("toxic", "rude")
    assert data.targets == ((1,), (), (0, 1))
    assert data.problem_type == MULTI_LABEL


@pytest.mark.parametrize("columns", [SINGLE, Columns("text", "label", labels=("b", "a", "unused"))])
def test_labels_keep_the_order_given_else_the_names_order(tmp_path: Path, columns: Columns) -> None:
    """Label ids follow the order given, or the names' order where none is given."""
    data = read(tmp_path, "text,label\none,b\ntwo,a\n", columns)
    assert data.labels == (columns.labels or ("a", "b"))
    assert [data.labels[row[0]] for row in data.targets] == ["b", "a"]


@pytest.mark.parametrize(
    ("seen", "order"),
    [
        ({"10", "9", "-1"}, ("-1", "9", "10")),
        ({"10", "9", "a"}, ("10", "9", "a")),
        ({"²", "3"}, ("3", "²")),
        ({"--5", "3"}, ("--5", "3")),
    ],
)
def test_label_order_is_by_number_only_among_numbers(seen: set[str], order: tuple[str, ...]) -> None:
    """Whole numbers are ordered by value, other names by text, even those that resemble numbers."""
    assert label_order(seen) == order


def test_label_order_is_the_same_in_every_process() -> None:
    """Labels of equal value have the same order under every hash seed."""
    code = "from training.data.dataset import label_order; print(*label_order({'1', '01', '001', '2', '02'}))"
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert orders == {"001 01 1 02 2\n"}


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """A CSV with a byte order mark is read as one without."""
    assert read(tmp_path, "\ufefftext,label\na,x\n").texts == ("a",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(tmp_path: Path, end: str) -> None:
    """The line ends of Unix, Windows and old Macs give the same rows; blank lines are ignored."""
    data = read(tmp_path, end.join(["text,label", "a,x", "", "b,y", ""]))
    assert data.texts == ("a", "b")


def test_a_newline_in_a_quoted_cell_moves_the_lines_and_not_the_rows(tmp_path: Path) -> None:
    """A row after a cell with a newline is named by its own number and its first line."""
    content = 'text,label\n"two\nlines",x\n,x\n\n"three\r\nmore\nlines",\n'
    assert faults(tmp_path, content) == [
        "row 2 (line 4), column 'text': empty text",
        "row 3 (line 6), column 'label': empty label",
    ]
    assert read(tmp_path, 'text,label\n"two\nlines",x\n').texts == ("two\nlines",)


def test_empty_texts_are_named(tmp_path: Path) -> None:
    """A text that is empty, or only spaces, is named by row, line and column."""
    assert faults(tmp_path, "text,label\na,x\n,x\n  ,x\n") == [
        "row 2 (line 3), column 'text': empty text",
        "row 3 (line 4), column 'text': empty text",
    ]


def test_empty_labels_are_named(tmp_path: Path) -> None:
    """An empty label is named by row, line and column; with a separator the fault names the flag that allows it."""
    assert faults(tmp_path, "text,label\na,\nb,x\n") == ["row 1 (line 2), column 'label': empty label"]
    assert faults(tmp_path, "text,label\na,x\nb, \n", JOINED) == [
        "row 2 (line 3), column 'label': empty label (--allow-unlabelled, if it means none of them)"
    ]
    assert faults(tmp_path, "text,label\na,x||y\nb,|x\n", JOINED) == [
        "row 1 (line 2), column 'label': empty label between separators in 'x||y'",
        "row 2 (line 3), column 'label': empty label between separators in '|x'",
    ]


def test_allow_unlabelled_reads_an_empty_cell_as_no_label(tmp_path: Path) -> None:
    """With allow_unlabelled an empty cell means no label; a stray separator is still a fault."""
    columns = Columns("text", "label", separator="|", allow_unlabelled=True)
    assert read(tmp_path, "text,label\na,x\nb,\nc,y\n", columns).targets == ((0,), (), (1,))
    assert len(faults(tmp_path, "text,label\na,x|\n", columns)) == 1


def test_flags_other_than_0_and_1_are_named(tmp_path: Path) -> None:
    """A cell of a 0/1 column with another value is named by row, line and column, with the value."""
    assert faults(tmp_path, "text,toxic,rude\na,0,2\nb,,1\nc,1,true\n", FLAGS) == [
        "row 1 (line 2), column 'rude': '2', expected 0 or 1",
        "row 2 (line 3), column 'toxic': an empty label, expected 0 or 1",
        "row 3 (line 4), column 'rude': 'true', expected 0 or 1",
    ]


def test_a_label_outside_the_names_given_is_named(tmp_path: Path) -> None:
    """A label outside the given names is a fault; a long one is shortened."""
    columns = Columns("text", "label", labels=("x", "y"))
    assert faults(tmp_path, "text,label\na,x\nb,z\n", columns) == [
        "row 2 (line 3), column 'label': label 'z' is not one of x, y"
    ]
    (fault,) = faults(tmp_path, f"text,label\na,{'z' * 500}\n", columns)
    assert fault == f"row 1 (line 2), column 'label': label '{'z' * 59}…' is not one of x, y"


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    """A missing column is named with the existing ones and the most similar of them."""
    assert faults(tmp_path, "txt,Label\na,x\n") == [
        "no column 'text'; the columns are 'txt', 'Label'; did you mean 'txt'?",
        "no column 'label'; the columns are 'txt', 'Label'; did you mean 'Label'?",
    ]
    assert faults(tmp_path, "text,toxic\na,1\n", FLAGS) == ["no column 'rude'; the columns are 'text', 'toxic'"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_columns_between_other_characters_are_recognised(tmp_path: Path, separator: str) -> None:
    """The header tells how columns are separated, also where it has commas, more than separators."""
    header = separator.join(["id", "text", "label", "a,b,c,d,e"])
    rows = [["1", f'"a{separator}, b"', "x", ""], ["2", "c", "y", ""]]
    data = read(tmp_path, "\n".join([header, *map(separator.join, rows)]))
    assert data.texts == (f"a{separator}, b", "c")
    missing = faults(tmp_path, f"id{separator}txt{separator}label\n1{separator}a{separator}x\n")
    assert missing == ["no column 'text'; the columns are 'id', 'txt', 'label'; did you mean 'txt'?"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A header that names a column twice is a fault."""
    assert faults(tmp_path, "text,label,text\na,x,b\n") == ["two columns are called 'text'"]


def test_text_and_label_in_one_column_are_refused(tmp_path: Path) -> None:
    """One column as both text and label is a fault."""
    assert faults(tmp_path, "text\na\n", Columns("text", "text")) == [
        "column 'text' cannot be both the text and a label"
    ]


def test_ragged_rows_are_named(tmp_path: Path) -> None:
    """A row with too few cells is named at its first missing column, one with too many at the last."""
    assert faults(tmp_path, "text,label,note\na,x,n\nb\nc,x\nd,x,n,more\n") == [
        "row 2 (line 3), column 'label': missing from this row, which has 1 cells where the header has 3",
        "row 3 (line 4), column 'note': missing from this row, which has 2 cells where the header has 3",
        "row 4 (line 5), column 'note': the last of the header; there is more in this row, "
        "which has 4 cells where the header has 3",
    ]


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    """A byte that is not UTF-8 is named by row, line and column, also in columns that are not read."""
    remedy = "save the file as UTF-8 (it may be Latin-1: --encoding latin-1, or cp1252)"
    assert faults(tmp_path, b"text,label,note\na,x,n\ncaf\xe9,x,n\nb,x,\xff\n") == [
        f"row 2 (line 3), column 'text': byte 0xe9 is not UTF-8; {remedy}",
        f"row 3 (line 4), column 'note': byte 0xff is not UTF-8; {remedy}",
    ]


def test_a_header_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """A column name that is not UTF-8 is a fault, also of a column that is not read."""
    assert faults(tmp_path, b"text,label,caf\xe9\na,x,n\n") == ["line 1, column 3: the name 'caf\\udce9' is not UTF-8"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_read(tmp_path: Path, encoding: str) -> None:
    """A file in UTF-16 is read by its byte order mark; without one it is refused, its NUL bytes named."""
    content = "text;label\nGrüße;x\nb;y\n"
    mark = "" if encoding == "utf-16" else "\ufeff"
    assert read(tmp_path, (mark + content).encode(encoding)).texts == ("Grüße", "b")
    assert faults(tmp_path, b"\xff\xfea\x00\x00") == ["begins as UTF-16, and is not at byte 4: truncated data"]
    assert faults(tmp_path, content.encode("utf-16-le")) == ["line 1 has a NUL byte; is this a text file in UTF-8?"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('text,label\na,x\n"open,x\nb,y\n', "row 2 (line 3), column 1, '\"open,x\\nb,y\\n'"),
        ('text,label\na,x\nb,"open\n', "row 2 (line 3), column 2, '\"open\\n'"),
        ('text,label\n"two\nlines",x\nb,"y" z\n', "row 2 (line 4), column 2, '\"y\" z\\n'"),
        ('text,label\n"say ""hi""",x\n"a",x\n"b"c,x\n', "row 3 (line 4), column 1, '\"b\"c,x\\n'"),
        ('text,label\ra,x\rb,"open', "row 2 (line 3), column 2, '\"open'"),
        ('text,"label\na,x\n', "row 0 (line 1), column 2, '\"label\\na,x\\n'"),
    ],
)
def test_broken_quoting_is_named_where_it_begins(tmp_path: Path, content: str, place: str) -> None:
    """Broken quoting is named by the row, line and column of the quote at fault, with all line ends."""
    (fault,) = faults(tmp_path, content)
    assert fault.startswith(f"{place}: broken quoting (")


def test_a_quote_inside_an_unquoted_cell_is_text(tmp_path: Path) -> None:
    """A quote that does not begin a cell belongs to the text."""
    assert read(tmp_path, 'text,label\n5" pipe,x\n').texts == ('5" pipe',)


def test_several_faults_are_told_at_once_in_the_file_s_order(tmp_path: Path) -> None:
    """Faults of different kinds are reported together, in the order of the rows."""
    content = b"text,label,note\n,x,n\na,,n\nb\ncaf\xe9,x,n\n ,,n\nfine,x,n\n"
    found = faults(tmp_path, content)
    assert [fault.split(":")[0] for fault in found] == [
        "row 1 (line 2), column 'text'",
        "row 2 (line 3), column 'label'",
        "row 3 (line 4), column 'label'",
        "row 4 (line 5), column 'text'",
        "row 5 (line 6), column 'text'",
        "row 5 (line 6), column 'label'",
    ]


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path: Path) -> None:
    """Of more than 20 faults the first 20 are shown, with the total."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, "text,label\n" + ",x\n" * 25)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("data.csv: 25 faults:")
    assert lines[20] == "  row 20 (line 21), column 'text': empty text"
    assert lines[21:] == ["  … and 5 more"]


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", " , \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    """A file without a header is called empty."""
    assert faults(tmp_path, content) == ["is empty; expected a header line with the column names"]


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    """A file with a header and no rows says so."""
    assert faults(tmp_path, "text,label\n\n") == ["has a header but no rows"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file is named with the system's reason."""
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path / "none.csv", SINGLE)
    assert str(caught.value) == f"{tmp_path / 'none.csv'}: cannot be read: No such file or directory"


def test_a_cell_longer_than_the_csv_module_s_default_is_read(tmp_path: Path) -> None:
    """A document longer than 131,072 characters is not truncated."""
    document = "word " * 40_000 + "end"
    assert read(tmp_path, f"text,label\n{document},x\n").texts == (document,)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=6), crlf=st.booleans(), mark=st.booleans())
def test_what_the_csv_module_writes_is_read_back(
    tmp_path: Path, rows: list[tuple[str, str]], crlf: bool, mark: bool
) -> None:
    """Any texts and labels written as a CSV read back character for character; labels are stripped."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n" if crlf else "\n", quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *rows]
    )
    data = read(tmp_path, ("\ufeff" if mark else "") + out.getvalue())
    assert list(data.texts) == [text for text, _ in rows]
    assert [data.labels[row[0]] for row in data.targets] == [label.strip() for _, label in rows]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(texts, min_size=1, max_size=6), seed=st.randoms(use_true_random=False))
@pytest.mark.parametrize(
    "columns",
    [
        Columns("text", "label", labels=("b", "a, c", 'd"')),
        Columns("text", "label", separator="|", labels=("b", "a, c", 'd"'), allow_unlabelled=True),
        Columns("text", label_columns=("b", "a, c", 'd"')),
    ],
    ids=["single", "joined", "flags"],
)
def test_write_csv_is_read_back_the_same(tmp_path: Path, columns: Columns, found: list[str], seed: object) -> None:
    """A data set written as a CSV is read back equal, by the columns that read the original."""
    if columns.problem_type == SINGLE_LABEL:
        targets = [(seed.randrange(3),) for _ in found]  # type: ignore[attr-defined]
    else:
        targets = [tuple(i for i in range(3) if seed.random() < 0.5) for _ in found]  # type: ignore[attr-defined]
    data = Dataset(tuple(found), tuple(targets), ("b", "a, c", 'd"'), columns.problem_type, columns)
    write_csv(tmp_path / "written.csv", data)
    assert read_dataset(tmp_path / "written.csv", columns) == data


def test_a_small_class_is_refused_in_single_label(tmp_path: Path) -> None:
    """A single-label class with fewer rows than the split needs is named with both numbers."""
    data = dataset([(0,)] * 5 + [(1,)] * 4 + [(2,)], ("big", "small", "one", "none"), SINGLE)
    with pytest.raises(DataError) as caught:
        check_class_sizes(data, {"test": 0.2}, tmp_path)
    assert caught.value.faults == [
        "label 'small' has 4 rows; a split with test share 0.2 needs 5",
        "label 'one' has 1 row; a split with test share 0.2 needs 5",
        "label 'none' has 0 rows; a split with test share 0.2 needs 5",
    ]
    assert check_class_sizes(dataset([(0,)] * 5 + [(1,)] * 5, ("a", "b"), SINGLE), {"test": 0.2}, tmp_path) == []


def test_a_small_class_only_warns_in_multi_label(tmp_path: Path) -> None:
    """A multi-label class with fewer rows than the split needs gives a warning and no error."""
    data = dataset([(0, 1)] + [(0,)] * 5, ("a", "b"), JOINED)
    assert check_class_sizes(data, {"test": 0.2}, tmp_path) == [
        "label 'b' has 1 row; a split with test share 0.2 needs 5"
    ]


@pytest.mark.parametrize(
    ("rows", "labels", "columns", "fault"),
    [
        ([(0,)] * 9, ("a",), SINGLE, "only one label, 'a'; a classifier needs at least 2"),
        ([(0,)] * 9, ("a",), JOINED, "only one label, 'a'; a classifier needs at least 2"),
        (
            [(0,), ()] * 9,
            ("a",),
            Columns("text", label_columns=("a",)),
            "only one label, 'a'; a classifier needs at least 2; give a 0/1 column as --label-column",
        ),
        ([()] * 9, (), JOINED, "no label in any row; a classifier needs at least 2"),
        ([(0, 1)], ("a", "b"), JOINED, "has 1 rows; a split with test share 0.2 needs 5"),
    ],
)
def test_data_that_no_split_can_share_is_refused(
    tmp_path: Path, rows: list[tuple[int, ...]], labels: tuple[str, ...], columns: Columns, fault: str
) -> None:
    """Data with fewer than two labels, or fewer rows than the split needs, is refused."""
    with pytest.raises(DataError) as caught:
        check_class_sizes(dataset(rows, labels, columns), {"test": 0.2}, tmp_path)
    assert caught.value.faults == [fault]
