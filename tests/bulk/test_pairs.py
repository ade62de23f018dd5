"""Tables of pairs, and of a model that gives a number."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bulk.errors import JobError
from bulk.scoring import ScoreOptions, score
from inferer import ModelInferer
from tests.support import tiny
from tests.support.server import ROOT, environment

ROWS = [("good", "odd"), ("good", ""), ("good", "bad bad"), ("", "bad"), ("good", "odd")]


def run(table: Path, bundle: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Score a table with columns a and b."""
    given = ["--model", str(bundle), "--text-column", "a", "--output", str(output), "--processes", "1", *flags]
    command = [sys.executable, "-m", "bulk", str(table), *given]
    env = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(command, cwd=table.parent, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV of pairs, two of them without a text."""
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *ROWS])
    return tmp_path / "pairs.csv"


def test_a_table_of_pairs_has_the_models_answers(table: Path, inference_bundle: Path, tmp_path: Path) -> None:
    """Each row has the prediction of its pair; a row without a text has its error, which names the text."""
    done = run(table, inference_bundle, tmp_path / "scored.csv", "--text-pair-column", "b")
    assert done.returncode == 1, done.stderr
    with (tmp_path / "scored.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    model = ModelInferer(inference_bundle, intra_op_threads=1)
    for row, (first, second) in zip(rows, ROWS, strict=True):
        if first and second:
            expected = model.predict(first, second)
            assert (row["predicted_label"], float(row["predicted_score"])) == (expected.label, expected.score)
    assert [row["error"] for row in rows] == ["", "the second text is empty", "", "the first text is empty", ""]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "the model reads pairs: give --text-pair-column, the column of the second texts"),
        (("--text-pair-column", "c"), "the column 'c' is missing; the columns are 'a', 'b'"),
        (("--text-pair-column", "a"), "the column 'a' cannot be both texts of a pair"),
        (("--text-pair-column", "b", "--truncation", "head"), "expected one of longest_first"),
    ],
)
def test_faults_of_columns_are_named(
    table: Path, inference_bundle: Path, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    """A missing column, the same one twice and a wrong truncation end the job in a line before the work."""
    done = run(table, inference_bundle, tmp_path / "scored.csv", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "scored.csv").exists()


def test_pairs_for_a_model_of_one_text_are_refused(table: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """A second column for a model that reads one text is refused, in the command and in the engine."""
    done = run(table, tiny_bundle, tmp_path / "scored.csv", "--text-pair-column", "b")
    assert (done.returncode, "but the model reads one text" in done.stderr) == (2, True)
    batch = pa.record_batch({"a": ["x"], "b": ["y"]})
    with pytest.raises(JobError, match="but the model reads one text"):
        list(score([batch], ModelInferer(tiny_bundle, intra_op_threads=1), ScoreOptions("a", text_pair_column="b")))


def test_a_number_has_no_summary(table: Path, tmp_path: Path) -> None:
    """A regression's numbers go into the table; a summary, which shows scores from 0 to 1, is refused."""
    bundle = tiny.write_rank_bundle(tmp_path / "bundle", activation="none")
    done = run(table, bundle, tmp_path / "scored.csv", "--text-pair-column", "b", "--summary", "report.html")
    assert (done.returncode, "the model gives other numbers" in done.stderr) == (2, True)
    assert run(table, bundle, tmp_path / "scored.csv", "--text-pair-column", "b").returncode == 1
    with (tmp_path / "scored.csv").open(newline="") as file:
        assert [row["predicted_score"] for row in csv.DictReader(file)] == ["2.0", "", "-3.0", "", "2.0"]
