"""CSV and TSV in an encoding that the user names."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from tests.support.fruit import parts_of
from training.__main__ import main
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.data.reader import parse_dataset, read_dataset
from training.errors import DataError, TrainingError
from training.recipe.recipe import Recipe, as_toml, read_recipe
from training.report.next_steps import next_commands
from training.run.job import NOT_OF_IDENTITY
from training.splits.splits import read_splits

COLUMNS = Columns("text", "label")
TEXT = "text,label\ncafé “au lait”,é\nб€,x\n"


def faults(content: bytes, encoding: str, name: str = "a.csv") -> str:
    """Return the error of a file."""
    with pytest.raises(TrainingError) as caught:
        parse_dataset(Path(name), content, COLUMNS, encoding)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "café"), ("cp1252", "“café” €"), ("shift_jis", "表ソ能, 日本語"), ("koi8-r", "бык"),
        ("gb18030", "你好😀"), ("utf-16-le", "Grüße"), ("utf-8", "é"), ("UTF_8", "é"), ("iso2022_jp", "日本語"),
    ],
)  # fmt: skip
def test_a_table_in_an_encoding_is_read(tmp_path: Path, encoding: str, text: str) -> None:
    """Texts, labels and quoted delimiters come back as they were, between tabs too."""
    path = tmp_path / "a.csv"
    path.write_bytes(f'text,label\n"{text}",x\nb,"{text}"\n'.encode(encoding))
    data = read_dataset(path, COLUMNS, encoding)
    assert (data.texts, set(data.labels)) == ((text, "b"), {"x", text})
    content = f"text\tlabel\n{text}\tx\n".encode(encoding)
    assert parse_dataset(Path("a.tsv"), content, COLUMNS, encoding).texts == (text,)


def test_bytes_of_another_encoding_are_named_by_line() -> None:
    """A byte that the encoding has not is named with its line."""
    content = b"text,label\na,x\nb\x81,y\n"
    assert faults(content, "cp1252") == "a.csv: line 3: byte 0x81 is not cp1252; give another --encoding"
    assert faults("text,label\ncafé,x\n".encode("latin-1"), "ascii").startswith("a.csv: line 2: byte 0xe9 is not ascii")


@pytest.mark.parametrize(
    ("content", "encoding", "own"),
    [
        (TEXT.encode(), "latin-1", "UTF-8"),
        (codecs.BOM_UTF8 + b"text,label\na,x\n", "cp1252", "UTF-8"),
        (TEXT.encode("utf-16"), "latin-1", "UTF-16"),
        (TEXT.encode("utf-16"), "utf-8", "UTF-16"),
    ],
)
def test_a_file_that_tells_its_own_encoding_contradicts_another(content: bytes, encoding: str, own: str) -> None:
    """A byte order mark, and text beyond ASCII that is UTF-8, contradict another encoding."""
    assert faults(content, encoding) == f"a.csv: is {own}, but --encoding is {encoding}: leave it out"


def test_a_mark_of_the_same_encoding_is_left_out() -> None:
    """A byte order mark of the encoding itself is left out of the first name."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        mark = codecs.BOM_UTF8 if encoding == "utf-8" else b""
        assert len(parse_dataset(Path("a.csv"), mark + TEXT.encode(encoding), COLUMNS, encoding)) == 2


@pytest.mark.parametrize("name", ["latin-15x", "base64", "rot13", "", "a\0b"])
def test_an_unknown_encoding_is_refused(name: str) -> None:
    """An unknown name, and a codec that is not of text, are refused with examples."""
    expected = f"--encoding is {name!r}, expected the name of an encoding, such as latin-1, cp1252 or shift_jis"
    assert faults(b"text,label\na,x\n", name) == expected


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".xlsx"])
def test_other_formats_have_their_own_encoding(tmp_path: Path, ending: str) -> None:
    """JSON Lines, Parquet, workbooks and folders of texts refuse an encoding."""
    assert faults(b"", "latin-1", f"a{ending}") == f"a{ending}: has the ending {ending}; --encoding is for CSV and TSV"
    with pytest.raises(DataError, match="is a folder of texts, which are UTF-8"):
        read_dataset(tmp_path, COLUMNS, "latin-1")


def test_a_wrong_encoding_stops_the_command_before_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown encoding, and one for a data set of the hub, are an error of one line."""
    assert main(["--data", "none.csv", "--encoding", "latin-15x"]) == 2
    assert "--encoding is 'latin-15x', expected" in capsys.readouterr().err
    assert main(["--dataset", "none", "--encoding", "latin-1"]) == 2
    assert "--encoding is for CSV and TSV" in capsys.readouterr().err


def test_the_files_of_a_run_are_utf8_and_read_without_the_encoding(tmp_path: Path) -> None:
    """Held-out rows of a Latin-1 table are written as UTF-8; the next commands lack the encoding, the recipe has it."""
    path = tmp_path / "a.csv"
    path.write_bytes(("text,label\n" + "".join(f"café {i},é{i % 2}\n" for i in range(20))).encode("latin-1"))
    recipe = Recipe(file=path, encoding="latin-1", text_column="text", label_column="label", output=tmp_path / "o")
    held_out = read_splits(recipe).held_out
    assert held_out.texts[0].startswith("café")
    write_csv(tmp_path / "held_out.csv", held_out)
    again: Dataset = read_dataset(tmp_path / "held_out.csv", held_out.columns)
    assert (again.texts, again.labels) == (held_out.texts, held_out.labels)
    assert parts_of(again).train.labels == ("é0", "é1")
    assert not any("latin" in line for line in next_commands(recipe.as_dict(), tmp_path / "o", calibrates=False))
    (tmp_path / "r.toml").write_text(as_toml(recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml").encoding == "latin-1"
    assert "encoding" in NOT_OF_IDENTITY  # the rows are compared
