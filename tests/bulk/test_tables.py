"""Tables in every format: all columns are kept, and the predictions are those of predict_batch."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inferer import ModelInferer
from tests.bulk.conftest import Predict

TEXTS = ["good film", 'bad, "really"', "two\nlines", "good é", "a\rreturn", "007"]
COLUMNS = ["id", "text", "note"]
ROWS = [[f"{number:03}", text, "x;y" if number % 2 else ""] for number, text in enumerate(TEXTS)]


def as_csv(delimiter: str = ",", header: bool = True, encoding: str = "utf-8") -> bytes:
    """Return the table as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([COLUMNS, *ROWS] if header else ROWS)
    return text.getvalue().encode(encoding)


def as_json_lines() -> bytes:
    """Return the table as JSON Lines."""
    return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in ROWS).encode()


def as_parquet() -> bytes:
    """Return the table as Parquet."""
    sink = io.BytesIO()
    pq.write_table(pa.table({name: [row[i] for row in ROWS] for i, name in enumerate(COLUMNS)}), sink)
    return sink.getvalue()


def as_zst(content: bytes) -> bytes:
    """Return `content` compressed by Zstandard."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


FILES = {
    "rows.csv": as_csv(),
    "semicolons.csv": as_csv(";"),
    "quoted.csv": as_csv(";").replace(b"id;text;note", b'"id";"text";"note"'),
    "rows.tsv": as_csv("\t"),
    "marked.csv": as_csv(encoding="utf-8-sig"),
    "wide.csv": as_csv(encoding="utf-16"),
    "rows.jsonl": as_json_lines(),
    "rows.parquet": as_parquet(),
    "rows.csv.gz": gzip.compress(as_csv()),
    "rows.csv.bz2": bz2.compress(as_csv()),
    "rows.jsonl.zst": as_zst(as_json_lines()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_table_keeps_its_columns_and_gets_predictions(
    name: str, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Each format is read as it is written, and scored as predict_batch does."""
    (tmp_path / name).write_bytes(FILES[name])
    done = predict(tmp_path / name, tmp_path / "scored.parquet")
    assert done.returncode == 0, done.stderr
    assert f"{name}: 6 rows" in done.stderr
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert [list(row) for row in zip(*(scored[column].to_pylist() for column in COLUMNS), strict=True)] == ROWS
    expected = ModelInferer(tiny_bundle).predict_batch(TEXTS)
    assert scored["predicted_label"].to_pylist() == [one.label for one in expected]
    assert scored["predicted_score"].to_pylist() == [one.score for one in expected]
    assert scored["num_tokens"].to_pylist() == [one.num_tokens for one in expected]
    assert scored["truncated"].to_pylist() == [False] * 6
    assert scored["error"].null_count == 6


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_outputs_of_text_read_back(ending: str, predict: Predict, tmp_path: Path) -> None:
    """The scored table is read back with the cells of the input and JSON for scores of all labels."""
    (tmp_path / "rows.csv").write_bytes(as_csv())
    output = tmp_path / f"scored.{ending}"
    assert predict(tmp_path / "rows.csv", output, "--columns", "labels,scores").returncode == 0
    content = output.read_bytes().decode()
    if ending == "jsonl":
        rows = [json.loads(line) for line in content.splitlines()]
        assert sum(rows[0]["predicted_scores"].values()) == pytest.approx(1)
        assert rows[0]["error"] is None
    else:
        reader = csv.DictReader(io.StringIO(content, newline=""), delimiter="\t" if ending == "tsv" else ",")
        rows = list(reader)
        assert sum(json.loads(rows[0]["predicted_scores"]).values()) == pytest.approx(1)
        assert json.loads(rows[0]["predicted_labels"])
    assert [[row[name] for name in COLUMNS] for row in rows] == ROWS


@pytest.mark.parametrize(("ending", "program"), [("gz", "gzip"), ("bz2", "bzip2"), ("zst", "zstd")])
def test_a_compressed_output(ending: str, program: str, predict: Predict, tmp_path: Path) -> None:
    """The output is one stream of the usual program, without a name and a time in it, and has the plain one's bytes."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    (tmp_path / "rows.csv").write_bytes(as_csv())
    for name in ("plain.csv", f"one.csv.{ending}", f"two.csv.{ending}"):
        assert predict(tmp_path / "rows.csv", tmp_path / name).returncode == 0
    packed = (tmp_path / f"one.csv.{ending}").read_bytes()
    assert packed == (tmp_path / f"two.csv.{ending}").read_bytes()
    unpacked = subprocess.run([program, "-dc"], input=packed, capture_output=True, check=True).stdout
    assert unpacked == (tmp_path / "plain.csv").read_bytes()
    again = predict(tmp_path / f"one.csv.{ending}", tmp_path / "again.jsonl", "--prefix", "again_")
    assert "already has the column 'num_tokens'" in again.stderr


def test_a_folder_is_one_table(predict: Predict, tmp_path: Path) -> None:
    """The files of a folder are read by name; hidden ones and other files are not."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "b.csv").write_bytes(as_csv())
    (folder / "a.csv").write_text("id,text,note\n9,good,\n")
    (folder / "_SUCCESS").touch()
    (folder / "readme.md").write_text("not a table")
    done = predict(folder, tmp_path / "scored.csv")
    assert "7 rows in 2 files" in done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scored.csv").read_text(encoding="utf-8"))))
    assert [row["id"] for row in rows] == ["9", "000", "001", "002", "003", "004", "005"]


def test_an_encoding_holds_for_every_file(predict: Predict, tmp_path: Path) -> None:
    """--encoding applies to all files of a folder."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes("text\ngood é\n".encode("cp1252"))
    assert predict(folder, tmp_path / "s.csv", "--encoding", "cp1252").returncode == 0
    assert (tmp_path / "s.csv").read_text(encoding="utf-8").count("good é,") == 2


def test_without_a_header_columns_have_numbers(predict: Predict, tmp_path: Path) -> None:
    """--no-header names the columns column_1, column_2, …"""
    (tmp_path / "rows.csv").write_bytes(as_csv(header=False))
    done = predict(tmp_path / "rows.csv", tmp_path / "s.csv", "--no-header", "--text-column", "column_2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.csv").read_text(encoding="utf-8").startswith("column_1,column_2,column_3,predicted_label,")


def test_types_of_json_lines_are_those_of_the_whole_file(predict: Predict, tmp_path: Path) -> None:
    """A column of whole and other numbers is of numbers; one of mixed values keeps them as JSON; a gap is null."""
    rows = ['{"text": "good", "n": 1, "mixed": [1, "a"]}', '{"text": "bad", "n": 2.5, "mixed": "b", "late": true}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    assert predict(tmp_path / "rows.jsonl", tmp_path / "s.parquet").returncode == 0
    scored = pq.read_table(tmp_path / "s.parquet")
    assert scored["n"].to_pylist() == [1.0, 2.5]
    assert scored["mixed"].to_pylist() == ['[1, "a"]', '"b"']
    assert scored["late"].to_pylist() == [None, True]


def test_bad_rows_keep_their_places(predict: Predict, tmp_path: Path) -> None:
    """A row without a usable text has its reason in `error`; the others are scored; the exit code tells."""
    (tmp_path / "rows.csv").write_text("id,text\n1,good\n2,\n3\n4,bad,more,c d\n5," + "x" * 200 + "\n6,bad\n")
    done = predict(tmp_path / "rows.csv", tmp_path / "s.jsonl", "--max-text-chars", "100")
    assert done.returncode == 1
    assert "6 rows, 4 with an error" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["error"] for row in rows] == [
        None,
        "the text is empty",
        "line 4 has 1 cells where the header has 2",
        'line 5 has 4 cells where the header has 2; without a column: ["more", "c d"]',
        "the text has 200 characters, at most 100 are allowed",
        None,
    ]
    assert rows[0]["predicted_label"]
    assert rows[1]["predicted_label"] is None


def test_half_a_character_is_a_fault(predict: Predict, tmp_path: Path) -> None:
    """Half of a surrogate pair, which JSON can hold and a table cannot, is the fault of its row alone."""
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n{"text": "bad \\ud83d", "id": 7}\n')
    assert predict(tmp_path / "rows.jsonl", tmp_path / "s.parquet").returncode == 1
    scored = pq.read_table(tmp_path / "s.parquet")
    fault = "line 2 has half of a surrogate pair, \\ud83d, which is not a character"
    assert scored["error"].to_pylist() == [None, fault]
    assert scored["text"].to_pylist() == ["good", "bad ?"]
    assert scored["id"].to_pylist() == [None, 7]


def test_a_table_without_rows_has_its_columns(predict: Predict, tmp_path: Path) -> None:
    """A header alone gives a header alone."""
    (tmp_path / "rows.csv").write_text("id,text\n")
    assert predict(tmp_path / "rows.csv", tmp_path / "s.csv").returncode == 0
    assert (tmp_path / "s.csv").read_text() == "id,text,predicted_label,predicted_score,num_tokens,truncated,error\n"


def test_bad_lines_of_json_and_nulls_keep_their_places(predict: Predict, tmp_path: Path) -> None:
    """A line that is not a JSON object, and a null text, are rows with an error."""
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n{"text": \n[1]\n{"text": null}\n')
    assert predict(tmp_path / "rows.jsonl", tmp_path / "s.jsonl").returncode == 1
    errors = [json.loads(line)["error"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert errors[0] is None
    assert errors[1].startswith("line 2 is not JSON: ")
    assert errors[1].endswith('; without a column: {"text":')
    assert errors[2] == ("line 3 is not a JSON object; expected one with the columns of a row; without a column: [1]")
    assert errors[3] == "the text is null"


def test_on_error_stop_ends_before_an_output(predict: Predict, tmp_path: Path) -> None:
    """--on-error stop names the first bad row and leaves nothing under the output's name."""
    (tmp_path / "rows.csv").write_text("id,text\n1,good\n2,\n")
    done = predict(tmp_path / "rows.csv", tmp_path / "s.csv", "--on-error", "stop")
    assert done.returncode == 2
    assert "row 2: the text is empty" in done.stderr
    assert not (tmp_path / "s.csv").exists()
