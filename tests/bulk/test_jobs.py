"""Jobs that are killed and started again, and the engine's promises."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk.errors import JobError
from bulk.models import model_at, portable
from bulk.scoring import ScoreOptions, default_columns, output_schema, score
from bulk.tables import batches
from bulk.tables.parquet_table import parquet_batches
from inferer import ModelInferer
from tests.bulk.conftest import Predict, command
from tests.support import tiny
from tests.support.server import ROOT, environment

ROWS = 20_000
KILLS = 20 if os.environ.get("SOAK") else 4


def table(path: Path, rows: int = ROWS) -> Path:
    """Write a CSV of texts of several lengths, some of them equal and some bad."""
    words = ("good", "bad", "film", "plot", "odd")
    rng = random.Random(0)
    with path.open("w") as file:
        file.write("id,text\n")
        for number in range(rows):
            text = " ".join(rng.choices(words, k=rng.randint(0, 30)))
            file.write(f"{number},{text}\n")
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "csv.gz", "jsonl.zst"])
def test_a_killed_job_continues_with_the_same_bytes(
    ending: str, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """After kills at random moments the output has the bytes of an unbroken run, and no folder is left."""
    rows = table(tmp_path / "rows.csv")
    whole = tmp_path / f"whole.{ending}"
    assert predict(rows, whole).returncode == 1
    output = tmp_path / f"scored.{ending}"
    folder = output.with_name(output.name + ".unfinished")
    rng = random.Random(1)
    kills = 0
    for _ in range(KILLS):
        env = environment(PYTHONPATH=str(ROOT))
        line = command(rows, tiny_bundle, output)
        with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as process:
            before = len(list(folder.glob("part-*")))
            while process.poll() is None and len(list(folder.glob("part-*"))) <= before:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            kills += process.poll() is None
            process.kill()
        if output.exists():
            break
    assert kills > 1
    if not output.exists():
        done = predict(rows, output)
        assert done.returncode == 1, done.stderr
        assert "continues after " in done.stderr
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (whole, output)}
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([rows.name, whole.name, output.name])


def test_ctrl_c_says_how_to_continue(tiny_bundle: Path, tmp_path: Path, predict: Predict) -> None:
    """SIGINT ends the job with one line; the same command continues; another one is refused by the change."""
    rows = table(tmp_path / "rows.csv")
    line = command(rows, tiny_bundle, tmp_path / "s.csv")
    env = environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
        folder = tmp_path / "s.csv.unfinished"
        while not (folder / "part-00000000").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "inferer: stopped; the same command continues"
    assert "Traceback" not in said
    done = predict(rows, tmp_path / "s.csv", "--prefix", "my_")
    assert (done.returncode, "prefix was 'predicted_' and is 'my_'" in done.stderr) == (2, True), done.stderr
    with rows.open("a") as file:
        file.write("20000,more\n")
    done = predict(rows, tmp_path / "s.csv")
    assert (done.returncode, "input was '" in done.stderr) == (2, True), done.stderr


def test_processes_give_the_bytes_of_one(predict: Predict, tmp_path: Path) -> None:
    """Two processes write what one writes."""
    rows = table(tmp_path / "rows.csv", 9000)
    predict(rows, tmp_path / "one.csv")
    predict(rows, tmp_path / "two.csv", "--processes", "2")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> ModelInferer:
    """The tiny bundle's model."""
    return ModelInferer(tiny_bundle)


def test_equal_texts_are_computed_once(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dedupe the model sees each text of a job once; the predictions are the same without."""
    model = ModelInferer(tiny_bundle)
    seen: list[str] = []
    original = model.predict_batch

    def noted(texts: list[str], **options: object) -> object:
        seen.extend(texts)
        return original(texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "predict_batch", noted)
    parts = [pa.record_batch({"text": texts}) for texts in (["good", "bad", "good", None, "good"], ["odd", "bad"])]
    once = list(score(parts, model, ScoreOptions("text")))
    assert seen == ["bad", "good", "odd"]
    seen.clear()
    each = list(score(parts, model, ScoreOptions("text", dedupe=False)))
    assert len(seen) == 6
    assert once == each


def test_kept_answers_are_of_the_same_model_and_options(multi_bundle: Path) -> None:
    """Another model, truncation or threshold gets answers of its own, and faulty texts keep their errors."""
    words = "good bad odd film " * 40
    (batch,) = pa.table({"text": [words, "good", "", words, "bad"]}).to_batches()
    models = ModelInferer(multi_bundle), ModelInferer(multi_bundle, {"max_length": 5})
    for model in models * 2:
        for truncation in ("head", "tail", "error"):
            for threshold in (None, 0.3, 0.9):
                kept, computed = (
                    list(score([batch], model, ScoreOptions("text", None, "", truncation, threshold, dedupe=dedupe)))
                    for dedupe in (True, False)
                )
                assert kept == computed


def test_the_engine_takes_batches_of_anyone(model: ModelInferer) -> None:
    """`score` maps record batches without a column of faults, one by one, and keeps their columns."""

    def given() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            yield pa.record_batch({"n": [number, number], "text": ["good", "bad"]})

    scored = list(score(given(), model, ScoreOptions("text", columns=("label",))))
    assert [batch.column("n").to_pylist() for batch in scored] == [[0, 0], [1, 1], [2, 2]]
    assert scored[0].schema == output_schema(given().__next__().schema, ScoreOptions("text", columns=("label",)))
    assert scored[0].schema.names == ["n", "text", "predicted_label", "error"]


def test_the_columns_follow_the_model(model: ModelInferer, multi_bundle: Path, tmp_path: Path) -> None:
    """A multi-label model adds its labels, and one that may abstain says whether it did."""
    assert default_columns(model) == ("label", "score", "num_tokens", "truncated")
    multi = ModelInferer(multi_bundle)
    options = ScoreOptions("text", columns=default_columns(multi))
    (scored,) = score([pa.record_batch({"text": ["good"]})], multi, options)
    assert scored.column("predicted_labels").to_pylist() == [list(multi.predict("good").labels)]
    careful = ModelInferer(tiny.write_bundle(tmp_path / "careful", abstain_threshold=0.99))
    options = ScoreOptions("text", columns=default_columns(careful))
    (scored,) = score([pa.record_batch({"text": ["odd film", None]})], careful, options)
    assert scored.column("predicted_abstained").to_pylist() == [careful.predict("odd film").abstained, None]
    assert careful.predict("odd film").abstained


def test_rows_of_parquet_are_bounded_in_bytes(tmp_path: Path) -> None:
    """Long texts of a Parquet file come in batches of few rows, all of them and in order."""
    texts = [f"{number} " + "x" * (batches.MOST_BYTES // 4) for number in range(9)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = list(parquet_batches(tmp_path / "a.parquet"))
    assert max(batch.num_rows for batch in found) < 5
    assert [text for batch in found for text in batch.column("text").to_pylist()] == texts


def test_a_name_of_the_input_is_not_given_twice() -> None:
    """A column that the input has already is refused before any work."""
    with pytest.raises(JobError, match="already has the column 'num_tokens': rename it"):
        output_schema(pa.schema({"text": pa.string(), "num_tokens": pa.int64()}), ScoreOptions("text"))


def test_a_batch_is_bounded_in_rows_and_bytes() -> None:
    """Many short rows, or a few long ones, fill a batch."""
    collected = batches.Batches(pa.schema({"text": pa.string()}))
    sizes = [batch.num_rows for _ in range(2 * batches.MOST_ROWS) for batch in collected.add(["a"], None)]
    assert sizes == [batches.MOST_ROWS] * 2
    long = "x" * (batches.MOST_BYTES // 4)
    assert [batch.num_rows for _ in range(8) for batch in collected.add([long], None)] == [4, 4]
    assert list(collected.rest()) == []


def test_options_for_another_machine_hold_the_content_of_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    """A configuration file travels by its content, and means the same there."""
    file = tmp_path / "config.json"
    file.write_text('{"max_length": 4}')
    given = {"config": str(file), "quantize": True}
    sent = portable(given)
    file.unlink()
    assert sent == {"config": {"max_length": 4}, "quantize": True}
    assert model_at(tiny_bundle, sent, 1).max_length == 4
    assert portable(sent) == sent
    assert portable({}) == {}
