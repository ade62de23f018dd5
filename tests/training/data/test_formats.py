"""Every file format gives the same data set for the same rows, and names its faults by row and column."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support.server import ROOT
from tests.training.data.workbooks import workbook
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.data.reader import FORMATS, parse_dataset, read_dataset
from training.errors import DataError, TrainingError

SINGLE = Columns("text", "label")
JOINED = Columns("text", "label", separator=";")
FLAGS = Columns("text", label_columns=("toxic", "rude"))

# Whatever a CSV can hold too: no NUL, no half of a surrogate pair, not only spaces.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
texts = texts.filter(lambda text: text.strip())


def as_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return `rows` as a Parquet file."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def as_json_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return `rows` as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    """Return `rows` as a CSV."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def in_format(ending: str, rows: Sequence[dict[str, Any]]) -> bytes:
    """Return `rows` in the format of files that end in `ending`."""
    if ending == ".parquet":
        return as_parquet(rows)
    if ending == ".xlsx":
        return workbook([list(rows[0]), *(list(row.values()) for row in rows)])
    return as_csv(rows, "\t" if ending == ".tsv" else ",") if ending in (".csv", ".tsv") else as_json_lines(rows)


def lines(*rows: str | bytes) -> bytes:
    """Return lines as one content."""
    return b"".join((row.encode() if isinstance(row, str) else row) + b"\n" for row in rows)


def faults(name: str, content: bytes, columns: Columns = SINGLE) -> list[str]:
    """Return the faults of `content` in a file called `name`."""
    with pytest.raises(DataError) as caught:
        parse_dataset(Path(name), content, columns)
    assert str(caught.value).startswith(f"{name}: ")
    return caught.value.faults


# What is read


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
@example(rows=[("two\nlines \u2028 and three", "a\tb")])
def test_the_same_rows_give_the_same_data_in_every_format(rows: list[tuple[str, str]]) -> None:
    """Any texts and labels come back character for character from every format, in one data set."""
    records = [{"id": str(i), "text": text, "label": label} for i, (text, label) in enumerate(rows)]
    found = [parse_dataset(Path(f"data{ending}"), in_format(ending, records), SINGLE) for ending in FORMATS]
    assert found[0].texts == tuple(text for text, _ in rows)
    assert all(data == found[0] for data in found)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_is_read_by_its_ending(tmp_path: Path, ending: str) -> None:
    """A file of every format is read from its path, its ending in any case."""
    path = tmp_path / f"data{ending.upper()}"
    path.write_bytes(in_format(ending, [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]))
    data = read_dataset(path, SINGLE)
    assert (data.texts, data.targets, data.labels) == (("a", "b"), ((0,), (1,)), ("x", "y"))


def test_a_name_without_an_ending_is_read_as_a_csv(tmp_path: Path) -> None:
    """A file without an ending is a CSV, given as a path or as a str."""
    (tmp_path / "data").write_bytes(b"text,label\na,x\n")
    assert read_dataset(tmp_path / "data", SINGLE).texts == ("a",)
    assert read_dataset(str(tmp_path / "data"), SINGLE).texts == ("a",)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".xlsx"])
def test_cells_that_are_no_text_become_text(ending: str) -> None:
    """A whole number, even as a float, is a label without a decimal point; true is 1 and false 0."""
    for values, labels in (([3, 4], ("3", "4")), ([4.0, 4.5], ("4", "4.5")), ([False, True], ("0", "1"))):
        rows = [{"text": "a", "label": values[0]}, {"text": "b", "label": values[1]}]
        assert parse_dataset(Path("data" + ending), in_format(ending, rows), SINGLE).labels == labels


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_flags_may_be_numbers_or_booleans(ending: str) -> None:
    """0/1 columns are read from whole numbers, floats and booleans."""
    rows = [{"text": "a", "toxic": 1, "rude": False}, {"text": "b", "toxic": 0, "rude": True}]
    data = parse_dataset(Path("data" + ending), in_format(ending, rows), FLAGS)
    assert (data.targets, data.problem_type) == (((0,), (1,)), MULTI_LABEL)
    assert faults("data" + ending, in_format(ending, [{"text": "a", "toxic": 0.5, "rude": None}]), FLAGS) == [
        f"row 1{' (line 1)' if ending == '.jsonl' else ''}, column 'toxic': '0.5', expected 0 or 1",
        f"row 1{' (line 1)' if ending == '.jsonl' else ''}, column 'rude': an empty label, expected 0 or 1",
    ]


def test_dictionary_columns_of_parquet_are_read() -> None:
    """A dictionary column of Parquet, such as pandas' categories, is read as its values."""
    table = pa.table({"text": ["a", "b", "c"], "label": pa.array(["y", "x", "y"]).dictionary_encode()})
    out = io.BytesIO()
    pq.write_table(table, out)
    data = parse_dataset(Path("data.parquet"), out.getvalue(), SINGLE)
    assert [data.labels[row[0]] for row in data.targets] == ["y", "x", "y"]


# Lists of labels


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_lists_of_labels_make_the_problem_multi_label(tmp_path: Path, ending: str) -> None:
    """A label column of lists is multi-label without a separator, and is written as a CSV that reads back the same."""
    rows = [{"text": "a", "label": ["x", " y"]}, {"text": "b", "label": ["y"]}, {"text": "c", "label": ["x", "x"]}]
    data = parse_dataset(Path("data" + ending), in_format(ending, rows), SINGLE)
    assert (data.targets, data.labels, data.problem_type) == (((0, 1), (1,), (0,)), ("x", "y"), MULTI_LABEL)
    assert data.columns == Columns("text", "label", separator="|")
    write_csv(tmp_path / "written.csv", data)
    assert read_dataset(tmp_path / "written.csv", data.columns) == data


def test_an_empty_list_needs_allow_unlabelled() -> None:
    """An empty list of labels is a fault without allow_unlabelled."""
    content = as_json_lines([{"text": "a", "label": ["x"]}, {"text": "b", "label": []}, {"text": "c", "label": None}])
    assert faults("data.jsonl", content) == [
        "row 2 (line 2), column 'label': empty list of labels (--allow-unlabelled, if it means none of them)",
        "row 3 (line 3), column 'label': empty label (--allow-unlabelled, if it means none of them)",
    ]
    columns = Columns("text", "label", allow_unlabelled=True)
    assert parse_dataset(Path("data.jsonl"), content, columns).targets == ((0,), (), ())


def test_what_is_wrong_in_a_list_is_named() -> None:
    """Labels with the separator, empty or nested labels, and cells other than lists are named by row."""
    cells: list[Any] = [["x|y"], ["x", " "], [["x"]], "x", ["x", 3]]
    content = as_json_lines([{"text": "a", "label": cell} for cell in cells])
    assert faults("data.jsonl", content) == [
        "row 1 (line 1), column 'label': label 'x|y' contains '|', the separator of labels in a CSV; rename it, "
        "or give another separator",
        "row 2 (line 2), column 'label': label 2 of its list is empty",
        "row 3 (line 3), column 'label': label 1 of its list holds a list, expected text or a number",
        "row 4 (line 4), column 'label': 'x' is not a list, as in other rows",
    ]


def test_lists_and_joined_labels_mix_where_a_separator_is_given() -> None:
    """With a separator a cell may be a list or joined text; labels of a list may not contain the separator."""
    content = as_json_lines([{"text": "a", "label": "x;y"}, {"text": "b", "label": ["y", "z|z"]}])
    data = parse_dataset(Path("data.jsonl"), content, JOINED)
    assert (data.targets, data.labels, data.columns) == (((0, 1), (1, 2)), ("x", "y", "z|z"), JOINED)
    assert len(faults("data.jsonl", as_json_lines([{"text": "a", "label": ["x;y"]}]), JOINED)) == 1


def test_lists_keep_the_labels_given() -> None:
    """Given labels fix the order and the allowed names of lists."""
    columns = Columns("text", "label", labels=("y", "x"))
    content = as_json_lines([{"text": "a", "label": ["x"]}, {"text": "b", "label": ["x", "y"]}])
    assert parse_dataset(Path("data.jsonl"), content, columns).targets == ((1,), (0, 1))
    content += as_json_lines([{"text": "c", "label": ["z"]}])
    assert faults("data.jsonl", content, columns) == ["row 3 (line 3), column 'label': label 'z' is not one of y, x"]


# Rows left out, and ratings


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_with_an_empty_text_are_left_out_and_counted(ending: str) -> None:
    """With drop_empty rows without text are left out and counted; subsets keep the count."""
    cells = [("a", "x"), ("", ""), (" ", "z"), ("b", "y")]
    rows = [{"id": "1", "text": text, "label": label} for text, label in cells]
    data = parse_dataset(Path("data" + ending), in_format(ending, rows), Columns("text", "label", drop_empty=True))
    assert (data.texts, data.labels, data.dropped) == (("a", "b"), ("x", "y"), 2)
    assert (data.subset([1]).texts, data.subset([1]).dropped) == (("b",), 2)
    assert len(faults("data" + ending, in_format(ending, rows))) == 3


def test_a_file_of_empty_texts_alone_is_refused() -> None:
    """With drop_empty a file of empty texts is a fault."""
    columns = Columns("text", "label", drop_empty=True)
    assert faults("a.csv", b"text,label\n ,x\n,y\n", columns) == ["the text is empty in all of its 2 rows"]


@pytest.mark.parametrize("ending", FORMATS)
def test_ratings_become_two_labels(tmp_path: Path, ending: str) -> None:
    """With positive_from a rating is positive from that number up, and is written by name."""
    rows = [{"text": "a", "label": 4.0}, {"text": "b", "label": 3.0}, {"text": "c", "label": 5.0}]
    columns = Columns("text", "label", positive_from=4)
    data = parse_dataset(Path("data" + ending), in_format(ending, rows), columns)
    assert (data.targets, data.labels, data.problem_type) == (
        ((1,), (0,), (1,)),
        ("negative", "positive"),
        SINGLE_LABEL,
    )
    write_csv(tmp_path / "written.csv", data)
    assert read_dataset(tmp_path / "written.csv", data.columns) == data


def test_ratings_take_the_two_names_given() -> None:
    """Two labels given with positive_from are the names, the low one first; another number of labels is refused."""
    content = b"text,label\na,-1.5\nb,+2e0\n"
    columns = Columns("text", "label", positive_from=0, labels=("bad", "good"))
    data = parse_dataset(Path("a.csv"), content, columns)
    assert (data.targets, data.labels) == (((0,), (1,)), ("bad", "good"))
    with pytest.raises(TrainingError, match="positive_from makes two labels, the low one first; given are a, b, c"):
        parse_dataset(Path("a.csv"), content, Columns("text", "label", positive_from=0, labels=("a", "b", "c")))


def test_a_rating_that_is_no_number_is_named() -> None:
    """With positive_from a cell other than a finite number is named by row."""
    content = b"text,label\na,4\nb,good\nc,\nd,nan\ne,1_0\nf,1e999\n"
    assert faults("a.csv", content, Columns("text", "label", positive_from=4)) == [
        "row 2 (line 3), column 'label': 'good', expected a number",
        "row 3 (line 4), column 'label': an empty label, expected a number",
        "row 4 (line 5), column 'label': 'nan', expected a number",
        "row 5 (line 6), column 'label': '1_0', expected a number",
        "row 6 (line 7), column 'label': '1e999', expected a number",
    ]


# Faults


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a.docx", "has the ending .docx, expected .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .xlsx"),
        ("a.xls", "has the ending .xls: save it as .xlsx or CSV"),
        ("a.ods", "has the ending .ods: save it as .xlsx or CSV"),
        ("a.csv.gz", "is packed, by its ending .gz: unpack it first"),
        ("a.tar.zst", "is packed, by its ending .zst: unpack it first"),
    ],
)
def test_an_ending_that_is_not_known_is_refused(tmp_path: Path, name: str, fault: str) -> None:
    """An unknown ending is refused with the known ones, a packed file with advice."""
    assert faults(name, b"text,label\na,x\n") == [fault]
    with pytest.raises(DataError, match=fault.split(",", maxsplit=1)[0]):
        read_dataset(tmp_path / name, SINGLE)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_missing_column_is_named_in_every_format(ending: str) -> None:
    """A missing column is named with the most similar existing one."""
    content = in_format(ending, [{"text": "a", "Label": "x"}])
    fault = "no column 'label'; the columns are 'text', 'Label'; did you mean 'Label'?"
    assert faults("data" + ending, content) == [fault]


def test_many_columns_are_not_all_told() -> None:
    """Of many columns the first 30 are listed and the others counted."""
    (fault,) = faults("a.jsonl", as_json_lines([{"text": "a", **{f"column {i}": 1 for i in range(40)}}]))
    assert fault.count("'column ") == 29
    assert "'column 28' and 11 more" in fault


@pytest.mark.parametrize("ending", FORMATS)
def test_empty_texts_and_labels_are_named_in_every_format(ending: str) -> None:
    """An empty text and an empty label are named by row, and by line where the format has lines."""
    content = in_format(ending, [{"text": " ", "label": "x"}, {"text": "b", "label": ""}])
    first, second = {".csv": (2, 3), ".tsv": (2, 3), ".xlsx": (2, 3), ".parquet": (0, 0)}.get(ending, (1, 2))
    assert faults("data" + ending, content) == [
        f"row 1{f' (line {first})' if first else ''}, column 'text': empty text",
        f"row 2{f' (line {second})' if second else ''}, column 'label': empty label",
    ]


def test_a_tsv_has_tabs() -> None:
    """Tabs alone separate the cells of a TSV, also in its faults."""
    data = parse_dataset(Path("a.tsv"), b'text\tlabel\na, b\tx\n"two\tcells"\ty\n', SINGLE)
    assert data.texts == ("a, b", "two\tcells")
    assert faults("a.tsv", b"text,label\na,x\n")[0].endswith("; the columns of a .tsv must be separated by tabs")
    assert faults("a.tsv", b'text\tlabel\na\t"open\n')[0].startswith("row 1 (line 2), column 2, '\"open\\n': broken")


def test_a_missing_column_is_told_before_broken_quoting() -> None:
    """Broken quoting does not hide a missing column, and other faults are reported with it."""
    assert faults("a.csv", b'txt,label\na,x\n"b,y\n')[0].startswith("no column 'text'")
    found = faults("a.csv", b'text,label\n,x\n"b,y\n')
    assert [fault.split(":")[0] for fault in found] == [
        "row 1 (line 2), column 'text'",
        "row 2 (line 3), column 1, '\"b,y\\n'",
    ]


def test_faults_of_json_lines_are_named_by_line() -> None:
    """Lines that are not JSON objects in UTF-8, and missing keys, are named by row and line."""
    content = lines(
        '{"text": "a", "label": "x"}',
        "",
        '{"text": "b", "label": }',
        '["b", "x"]',
        b'{"text": "caf\xe9", "label": "x"}',
        '{"text": "b"}',
        '{"text": "b", "text": "c", "label": "x"}',
        '{"text": {"en": "b"}, "label": "x"}',
        '{"text": "b", "label": NaN}',
        '{"text": "\\ud800", "label": "x"}',
        '{"text": "a\\u0000b", "label": 1e999}',
        "[" * 100_000,
        "7",
    )
    assert faults("a.jsonl", content) == [
        "row 2 (line 3): is not JSON: Expecting value (character 24)",
        'row 3 (line 4): is a list, expected an object such as {"text": "…"}',
        "row 4 (line 5): character 14 is byte 0xe9, not UTF-8; save the file as UTF-8",
        "row 5 (line 6), column 'label': missing from this row",
        "row 6 (line 7): has the key 'text' twice",
        "row 7 (line 8), column 'text': holds an object, expected text or a number",
        "row 8 (line 9): is not JSON: NaN is not a JSON value; write null",
        "row 9 (line 10), column 'text': holds half of a surrogate pair, \\ud800, which is not a character",
        "row 10 (line 11), column 'text': holds a NUL character",
        "row 10 (line 11), column 'label': holds inf, expected a finite number",
        "row 11 (line 12): is nested too deeply",
        'row 12 (line 13): is a number, expected an object such as {"text": "…"}',
    ]


def test_what_other_keys_hold_is_no_fault() -> None:
    """Keys that are not read may hold anything and may be missing; a byte order mark is ignored."""
    content = b"\xef\xbb\xbf" + lines('{"text": "a", "label": "x", "meta": {"n": [1]}}', '{"text": "b", "label": "y"}')
    assert parse_dataset(Path("a.jsonl"), content, SINGLE).texts == ("a", "b")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_json_lines_is_read(end: bytes) -> None:
    """The line ends of Unix, Windows and old Macs give the same rows; blank lines are ignored."""
    content = end.join([b'{"text": "a", "label": "x"}', b"", b'{"text": "b", "label": "y"}', b""])
    assert parse_dataset(Path("a.jsonl"), content, SINGLE).texts == ("a", "b")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty; expected one JSON object per line"),
        (b"\n \n", "is empty; expected one JSON object per line"),
        (b'[{"text": "a"}]', "begins with a JSON array; expected JSON Lines: one object per line, without [ ]"),
        ("{}".encode("utf-16-le"), "line 1 has a NUL byte; is this a text file in UTF-8?"),
        (b"text,label\n", "row 1 (line 1): is not JSON: Expecting value (character 1)"),
    ],
)
def test_what_is_no_json_lines_is_refused(content: bytes, fault: str) -> None:
    """An empty file, a JSON array, UTF-16 and a CSV are refused as JSON Lines, each by name."""
    assert faults("a.json", content) == [fault]


def test_damaged_parquet_is_refused() -> None:
    """A file that is not Parquet, or is cut, is refused in one line."""
    content = as_parquet([{"text": "a", "label": "x"}])
    for damaged in (b"", b"text,label\n", content[:-10], content[4:], content[:40] + content[60:]):
        (fault,) = faults("a.parquet", damaged)
        assert fault.startswith("not a Parquet file, or a damaged one: ")
        assert "\n" not in fault


def test_parquet_with_any_byte_changed_is_data_or_faults() -> None:
    """A Parquet file with any byte changed is read or refused with faults; nothing else is raised."""
    content = as_parquet([{"text": f"text {i}", "label": ["x"]} for i in range(3)])
    for place in range(len(content)):
        with contextlib.suppress(DataError):
            changed = content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :]
            assert isinstance(parse_dataset(Path("a.parquet"), changed, SINGLE), Dataset)


def test_parquet_without_rows_is_refused() -> None:
    """A Parquet file with columns and no rows says so."""
    out = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), out)
    assert faults("a.parquet", out.getvalue()) == ["has no rows"]


def test_types_of_parquet_that_cannot_be_read_are_named() -> None:
    """A wanted column of another type is named with the type; other columns may have any type or share a name."""
    table = pa.table(
        [pa.array(["a"]), pa.array([[[1]]]), pa.array([b"x"]), pa.array([{"a": 1}]), pa.array([1]), pa.array([2])],
        names=["text", "nested", "bytes", "object", "twice", "twice"],
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    assert parse_dataset(Path("a.parquet"), out.getvalue(), Columns("text")).texts == ("a",)
    for name, kind in (
        ("nested", "list<element: list<element: int64>>"),
        ("bytes", "binary"),
        ("object", "struct<a: int64>"),
    ):
        expected = f"column '{name}' holds {kind}, expected text or numbers, or lists of text"
        assert faults("a.parquet", out.getvalue(), Columns("text", name)) == [expected]
    assert faults("a.parquet", out.getvalue(), Columns("text", "twice")) == ["two columns are called 'twice'"]
    lists = as_parquet([{"text": ["a"], "label": "x"}])
    assert faults("a.parquet", lists) == ["row 1, column 'text': holds a list, expected text or a number"]


def test_parquet_text_that_is_not_utf8_is_named() -> None:
    """A string column with a byte that is not UTF-8 is named by its row, once, and other rows are read."""
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"caf\xe9"], pa.binary()).buffers())
    out = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "label": ["x", "y"]}), out)
    assert faults("a.parquet", out.getvalue()) == [
        "row 2, column 'text': byte 0xe9 is not UTF-8; save the file as UTF-8 (it may be Latin-1)"
    ]


@settings(max_examples=300)
@given(
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]),
    content=st.one_of(st.binary(max_size=60), st.text('{}[]":,\t\n\\u0dtexlab ', max_size=60).map(str.encode)),
    columns=st.sampled_from([SINGLE, JOINED, FLAGS, Columns("text"), Columns("text", "label", positive_from=1)]),
)
def test_any_bytes_are_data_or_faults(name: str, content: bytes, columns: Columns) -> None:
    """Any bytes are read or refused with faults; nothing else is raised."""
    head = {"a.csv": b"text,label,toxic,rude\n", "a.tsv": b"text\tlabel\ttoxic\trude\n"}.get(name, b"")
    for given_content in (content, head + content):
        with contextlib.suppress(DataError):
            assert isinstance(parse_dataset(Path(name), given_content, columns), Dataset)


def test_readers_are_free_of_torch_and_of_what_they_do_not_need() -> None:
    """Reading a CSV imports neither torch nor datasets, pyarrow, fsspec or openpyxl."""
    code = (
        "import sys; from pathlib import Path; from training.data.dataset import Columns\n"
        "from training.data.reader import parse_dataset\n"
        "parse_dataset(Path('a.csv'), b'text,label\\na,x\\n', Columns('text', 'label'))\n"
        "print({'torch', 'datasets', 'pyarrow', 'fsspec', 'pandas', 'openpyxl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_real_data_is_the_same_in_every_format(test_data: Path) -> None:
    """Real multi-label comments, as lists in Parquet and JSON Lines, equal those of their CSV."""
    path = test_data / "go_emotions" / "sample.csv"
    joined = read_dataset(path, Columns("text", "labels", separator="|"))
    rows = [
        {"text": text, "labels": [joined.labels[i] for i in row]}
        for text, row in zip(joined.texts, joined.targets, strict=True)
    ]
    for ending in (".jsonl", ".parquet"):
        assert parse_dataset(Path("data" + ending), in_format(ending, rows), Columns("text", "labels")) == joined


def test_real_reviews_without_a_text_are_left_out(test_data: Path) -> None:
    """Real reviews without text are dropped and counted, and stars become two labels."""
    path = next((test_data / "clothing_reviews").glob("*.csv"))
    data = read_dataset(path, Columns("Review Text", "Rating", drop_empty=True, positive_from=4))
    assert data.dropped > 0
    assert len(data) + data.dropped == 1000
    assert data.labels == ("negative", "positive")
    assert min(data.counts().values()) > 100
