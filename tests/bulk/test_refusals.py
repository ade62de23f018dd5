"""Wrong calls and damaged tables end in one line, and leave nothing under the output's name."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inferer.command import main as command_line
from tests.bulk.conftest import Predict, command
from tests.support.server import ROOT, environment


def parquet(**columns: list[object]) -> bytes:
    """Return a Parquet file of `columns`."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


PACKED = gzip.compress(b"text\n" + os.urandom(9000).hex().encode())
BAD: dict[str, tuple[str, bytes, tuple[str, ...], str]] = {
    "another column": (
        "a.csv",
        b"id,review\n1,good\n",
        (),
        "the column 'text' is missing; the columns are 'id', 'review'",
    ),
    "a column twice": ("a.csv", b"text,text\na,b\n", (), "the header has the column 'text' twice"),
    "an empty file": ("a.csv", b"", (), "is empty; expected a line with the column names"),
    "a stray quote": ("a.csv", b'text\n"good" x\n', (), "a.csv, line 2: broken quoting"),
    "an open quote": ("a.csv", b'text\ngood\n"bad\n', (), "a.csv, line 3: broken quoting"),
    "Latin-1": ("a.csv", "text\ngé\n".encode("latin-1"), (), "is not utf-8"),
    "an unknown encoding": ("a.csv", b"text\na\n", ("--encoding", "utf-9"), "--encoding 'utf-9' is unknown"),
    "half a Parquet file": ("a.parquet", parquet(text=["good"] * 99)[:-40], (), "is not a whole Parquet file"),
    "a column of numbers": ("a.parquet", parquet(text=[1, 2]), (), "the column 'text' is of type int64, expected text"),
    "a truncated gzip": ("a.csv.gz", PACKED[:-500], (), "cannot be read"),
    "an unknown ending": ("a.xlsx", b"", (), "the ending tells no format"),
    "a taken name": (
        "a.csv",
        b"text,predicted_label\na,b\n",
        (),
        "already has the column 'predicted_label': give another --prefix",
    ),
    "an error column": ("a.csv", b"text,error\na,b\n", (), "already has the column 'error': rename it"),
    "a delimiter for JSON": ("a.jsonl", b'{"text": "a"}', ("--delimiter", ";"), "--delimiter is for CSV and TSV"),
    "two characters": ("a.csv", b"text\na\n", ("--delimiter", ";;"), "--delimiter is ';;', expected one character"),
    "no processes": ("a.csv", b"text\na\n", ("--processes", "0"), "--processes is 0, expected a number from 1 to 256"),
    "an unknown column": ("a.csv", b"text\na\n", ("--columns", "logits"), "--columns has 'logits', expected names of"),
    "a threshold": ("a.csv", b"text\na\n", ("--threshold", "0.5"), "threshold"),
    "an output of no format": ("a.csv", b"text\na\n", ("--output", "scored.xlsx"), "the ending tells no format"),
    "an output in no folder": ("a.csv", b"text\na\n", ("--output", "no/s.csv"), "does not exist"),
    "a compressed Parquet": ("a.csv", b"text\na\n", ("--output", "s.parquet.gz"), "Parquet is compressed inside"),
    "an output elsewhere": ("a.csv", b"text\na\n", ("--output", "s3://b/s.csv"), "pip install s3fs"),
    "itself": ("a.csv", b"text\na\n", ("--output", "a.csv", "--overwrite"), "is a file of the input"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_call_ends_in_one_line(case: str, predict: Predict, tmp_path: Path) -> None:
    """The line names the file or the flag, its value and what is expected; nothing is written."""
    name, content, flags, expected = BAD[case]
    (tmp_path / name).write_bytes(content)
    done = predict(tmp_path / name, tmp_path / "scored.csv", *flags)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gone.csv", "gone.csv: does not exist"),
        ("*.csv", "no file matches"),
        ("s3://b/a.csv", "pip install s3fs"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_an_input_that_is_not_there(given: str, expected: str, predict: Predict, tmp_path: Path) -> None:
    """A missing file, a glob without a match and a device end in one line."""
    done = predict(given, tmp_path / "scored.csv")
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr


def test_an_output_that_exists_stays(predict: Predict, tmp_path: Path) -> None:
    """Without --overwrite an existing output is not touched; with it, it is replaced."""
    (tmp_path / "a.csv").write_text("text\ngood\n")
    (tmp_path / "s.csv").write_text("mine")
    done = predict(tmp_path / "a.csv", tmp_path / "s.csv")
    assert (done.returncode, "exists; --overwrite replaces it" in done.stderr) == (2, True)
    assert (tmp_path / "s.csv").read_text() == "mine"
    assert predict(tmp_path / "a.csv", tmp_path / "s.csv", "--overwrite").returncode == 0
    assert (tmp_path / "s.csv").read_text().startswith("text,predicted_label")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of 1 MB, which needs root")
def test_a_full_disk_keeps_what_is_scored(tiny_bundle: Path, tmp_path: Path) -> None:
    """A full disk is named; nothing has the output's name; with room the same command continues."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        (tmp_path / "a.csv").write_text("text\n" + "".join(f"good {number} {'y' * 300}\n" for number in range(5000)))
        line = command(tmp_path / "a.csv", tiny_bundle, disk / "s.csv")
        env = environment(PYTHONPATH=str(ROOT))
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "No space left on device; what is scored is kept, and the same command continues" in done.stderr
        assert not (disk / "s.csv").exists()
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert "continues after " in done.stderr
        assert len((disk / "s.csv").read_text().splitlines()) == 5001
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("text", ["a.csv", "."])
def test_a_file_is_never_a_text(
    text: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inferer predict BUNDLE FILE` is refused with the command that scores the file."""
    (tmp_path / "a.csv").write_text("text\ngood\n")
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["predict", str(tiny_bundle), text]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{text!r} is a " in told.err
    assert f"inferer predict {text} --model {tiny_bundle} --text-column NAME --output SCORED.csv" in told.err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"text\ngood\n", "a.csv, a table and not lines of text"),
        ("a.parquet", parquet(text=["a"]), "a.parquet, a table and not lines of text"),
        ("a.bin", parquet(text=["a"]), "standard input is a Parquet file, not lines of text"),
        ("a.txt", "good\n".encode("utf-16"), "standard input has NUL bytes"),
    ],
)
def test_standard_input_is_never_a_table(
    name: str, content: bytes, expected: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    """A table on standard input is refused in one line, and nothing is scored."""
    (tmp_path / name).write_bytes(content)
    with (tmp_path / name).open("rb") as file:
        line = [command(name, tiny_bundle, tmp_path)[0], "-m", "inferer", str(tiny_bundle), "--json"]
        done = subprocess.run(
            line, stdin=file, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
