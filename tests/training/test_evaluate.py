"""`python -m training.evaluate` on checkpoints and bundles: equal figures, and faults found before torch."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support import tiny
from tests.support.architectures import (
    LABELS,
    LONG_TEXT,
    TEXTS,
    checkpoint,
    checkpoint_logits,
    copy_of,
    run_export,
    torch_logits,
    write_checkpoint,
)
from tests.support.server import ROOT, environment, run_to_end
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.evaluate import main
from training.evaluation.checkpoint_logits import load_model
from training.evaluation.predictions import predictions_from_logits

NO_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "export"):
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Blocked())
from training.evaluate import main
sys.exit(main(sys.argv[1:]))
"""
ALL_TEXTS = (
    *TEXTS,
    LONG_TEXT,
    "two\nlines\r\nof text",
    'the "quoted", box',
    *(f"the box number {i} was open" for i in range(7)),
)
MULTI = {"problem_type": MULTI_LABEL}
pytestmark = pytest.mark.usefixtures("own_signals")


def labelled(path: Path, folder: Path, *, multi: bool) -> np.ndarray:
    """Write ALL_TEXTS with labels, most of them as the checkpoint in `folder` predicts; return its logits."""
    logits = torch_logits(folder, ALL_TEXTS)
    chosen = predictions_from_logits(logits, MULTI_LABEL if multi else SINGLE_LABEL).chosen
    chosen[:3] = chosen[:3, [1, 2, 0]]
    targets = tuple(tuple(np.flatnonzero(row).tolist()) for row in chosen)
    columns = Columns("text", "label", separator="|" if multi else None, allow_unlabelled=multi)
    write_csv(path, Dataset(ALL_TEXTS, targets, LABELS, columns.problem_type, columns))
    return logits


def evaluated(target: Path, *arguments: object) -> dict[str, Any]:
    """Evaluate into `target` and return the report."""
    assert main([str(argument) for argument in (*arguments, "--output", target)]) == 0
    found: dict[str, Any] = json.loads((target / "report.json").read_text(encoding="utf-8"))
    return found


def without_scores(report: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that do not depend on the last digits of the scores."""
    numeric = ("model", "kind", "tokens", "max_length", "abstained", "threshold", "log_loss", "intervals")
    return {key: value for key, value in report.items() if key not in numeric}


@pytest.fixture(scope="module")
def multi_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label checkpoint with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("multi") / "bert", "bert", problem_type=MULTI_LABEL)


@pytest.mark.slow
@pytest.mark.parametrize("multi", [False, True])
def test_a_checkpoint_and_its_fp32_bundle_agree(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    multi_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    multi: bool,
) -> None:
    """A checkpoint and its fp32 bundle have the same figures and mistakes as torch has text by text."""
    folder = multi_checkpoint if multi else checkpoint(tmp_path_factory, "bert")
    logits = labelled(tmp_path / "data.csv", folder, multi=multi)
    flags = ["--data", tmp_path / "data.csv", *(["--label-separator", "|", "--allow-unlabelled"] if multi else [])]
    assert run_export(folder, tmp_path / "bundle", "--scheme", "fp32") == 0
    one = evaluated(tmp_path / "one", folder, *flags)
    table = capsys.readouterr().out
    two = evaluated(tmp_path / "two", tmp_path / "bundle", *flags)
    assert without_scores(one) == without_scores(two)
    assert (one["kind"], two["kind"]) == ("checkpoint", "bundle")
    assert one["n"] == len(ALL_TEXTS)
    assert one["truncated"] == 1
    chosen = predictions_from_logits(logits, MULTI_LABEL if multi else SINGLE_LABEL).chosen
    right = (chosen[:3] == chosen[:3, [1, 2, 0]]).all(axis=1).sum() + len(ALL_TEXTS) - 3
    assert one["accuracy"] == pytest.approx(right / len(ALL_TEXTS))
    assert f"{one['accuracy']:.4f}" in table
    assert "1 of 16 texts were truncated" in table
    mistakes = []
    for name in ("one", "two"):
        with (tmp_path / name / "misclassified.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        mistakes.append([[row["row"], row["text"], row["true"], row["given"]] for row in rows])
    assert mistakes[0] == mistakes[1]
    assert len(mistakes[0]) == len(ALL_TEXTS) - right
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "report.json", "confusion_matrix.png", "misclassified.csv", "token_lengths.png",
    }  # fmt: skip


def test_the_logits_of_a_batch_are_those_of_each_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In padded batches, in any order, texts get the logits that torch computes for each alone."""
    folder = checkpoint(tmp_path_factory, "roberta")
    found = checkpoint_logits(folder, ALL_TEXTS, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch_logits(folder, ALL_TEXTS), atol=2e-5)


def test_lengths_count_whole_texts_and_tokens_are_truncated(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Lengths count the whole text; tokens are at most max_length, truncated as in the checkpoint's training."""
    folder = checkpoint(tmp_path_factory, "bert")
    loaded = load_model(folder)
    encoded = loaded.encoder.encode([LONG_TEXT])
    assert encoded.lengths[0] > loaded.encoder.max_length == len(encoded.rows[0]["input_ids"]) == 64
    both = load_model(copy_of(folder, tmp_path / "both", inferer_truncation="head_tail"))
    assert (loaded.encoder.truncation, both.encoder.truncation) == ("head", "head_tail")
    with pytest.raises(TrainingError, match="inferer_truncation is 'middle' in config.json, expected head, tail or"):
        load_model(copy_of(folder, tmp_path / "odd", inferer_truncation="middle"))


def test_a_weight_that_is_missing_is_named(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A checkpoint that lacks weights, or cannot be read, is refused."""
    folder = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "more", num_hidden_layers=3)
    with pytest.raises(TrainingError, match="missing weights: bert.encoder.layer.2.* and 11 more"):
        load_model(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(TrainingError, match=f"checkpoint {folder}: cannot be loaded: "):
        load_model(folder)


# The tiny bundle, with scores computed by hand


def table(path: Path, *rows: tuple[str, ...], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_bundle_abstaining_is_measured_by_its_best_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle that abstains is measured by its best label, and the report counts its abstentions."""
    bundle = tiny.write_bundle(tmp_path / "b", abstain_threshold=0.6)
    data = table(tmp_path / "d.csv", ("good", "pos"), ("bad", "neg"), ("good bad odd odd", "other"), ("plain", "neg"))
    report = evaluated(tmp_path / "r", bundle, "--data", data)
    assert report["accuracy"] == 0.75  # of three equal scores the first label counts, which is not neg
    assert (report["abstained"], report["truncated"]) == (1, 0)
    assert "1 of 4 texts are below the bundle's abstain threshold" in capsys.readouterr().out
    assert not (tmp_path / "r" / "token_lengths.png").exists()


def test_a_bundles_thresholds_decide_unless_one_is_given(multi_bundle: Path, tmp_path: Path) -> None:
    """Multi-label uses the bundle's threshold for each label; --threshold replaces them."""
    # good: pos 0.88, neg 0.5, other 0.5; its thresholds are 0.5 for pos and other, 0.9 for neg
    columns = ("--label-columns", "other,pos,neg")
    header = ("text", "other", "pos", "neg")
    data = table(tmp_path / "d.csv", ("good", "1", "1", "0"), ("good", "0", "1", "0"), header=header)
    own = evaluated(tmp_path / "own", multi_bundle, "--data", data, *columns)
    assert [own["labels"][label]["given"] for label in tiny.LABELS] == [2, 0, 2]
    assert (own["accuracy"], own["threshold"]) == (0.5, "the bundle's")
    one = evaluated(tmp_path / "one", multi_bundle, "--data", data, *columns, "--threshold", "0.7")
    assert [one["labels"][label]["given"] for label in tiny.LABELS] == [2, 0, 0]
    assert one["threshold"] == 0.7


def test_texts_that_a_bundle_refuses_are_named_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that the bundle rejects ends the run with 2 and its row, and an unreadable bundle with its message."""
    bundle = tiny.write_bundle(tmp_path / "b", truncation="error")
    data = table(tmp_path / "d.csv", ("good", "pos"), ("bad " * 9, "neg"), ("odd", "other"))
    assert main([str(bundle), "--data", str(data), "--output", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"evaluate: {data}: row 2, column 'text': ")
    assert "11 tokens" in said
    (bundle / "tokenizer.json").write_text("{")
    assert main([str(bundle), "--data", str(data)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("evaluate: bundle ")
    assert "tokenizer.json" in said
    assert not (tmp_path / "r").exists()


def test_the_demo_bundle_has_the_figures_of_its_training(demo_bundle: Path, tmp_path: Path) -> None:
    """The demo's int8 bundle has about the figures of its training on its held-out rows."""
    held_out = ROOT / "checkpoints" / "query_type" / "held_out.csv"
    recorded = json.loads((held_out.parent / "training.json").read_text(encoding="utf-8"))["held_out"]
    command = [sys.executable, "-m", "training.evaluate", demo_bundle, "--data", held_out, "--output", "r"]
    done = run_to_end(*map(str, command), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    assert report["n"] == recorded["n"]
    assert report["accuracy"] == pytest.approx(recorded["accuracy"], abs=0.01)
    assert f"{report['n']}/{report['n']}" in done.stderr  # the bar at its end
    assert re.search(rf"  accuracy +{report['accuracy']:.4f} ", done.stdout)


# Columns, and mistakes


def bare_checkpoint(folder: Path, recipe: dict[str, Any] | None = None, **config: Any) -> Path:
    """Write a folder that looks like a checkpoint until its weights are read."""
    folder.mkdir()
    names = {str(i): label for i, label in enumerate(LABELS)}
    content = {"id2label": names, "problem_type": SINGLE_LABEL, **config}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    (folder / "model.safetensors").write_bytes(b"")
    if recipe is not None:
        (folder / "training.json").write_text(json.dumps({"recipe": recipe}))
    return folder


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of torch by `evaluate` raise ImportError."""
    monkeypatch.setitem(sys.modules, "training.evaluation.checkpoint_logits", None)


@pytest.mark.parametrize(
    ("recipe", "header", "row", "flags"),
    [
        ({"text_column": "Title", "label_column": "Kind"}, ("Title", "Kind"), ("x", "brand"), ()),
        ({"text_column": None, "label_column": None, "lists": {"a": "b"}}, ("text", "label"), ("x", "brand"), ()),
        (
            {"text_column": "Title", "label_column": "Kind"},
            ("t", "k"),
            ("x", "brand"),
            ("--text-column", "t", "--label-column", "k"),
        ),
        (None, ("text", "label"), ("x", "brand"), ()),
        (
            {"text_column": "t", "label_column": "k", "label_separator": ";", "allow_unlabelled": True},
            ("t", "k"),
            ("x", ""),
            (),
        ),
        ({"text_column": "t", "label_columns": list(LABELS)}, ("t", *LABELS), ("x", "1", "0", "1"), ()),
        (
            {"text_column": "t", "label_columns": list(LABELS)},
            ("t", "k"),
            ("x", "other|brand"),
            ("--label-column", "k", "--label-separator", "|"),
        ),
    ],
    ids=["recipe", "lists", "flags", "none", "separator", "columns", "other columns"],
)
def test_columns_are_those_of_the_flags_then_of_the_recipe(
    tmp_path: Path,
    no_torch: None,
    recipe: dict[str, Any] | None,
    header: tuple[str, ...],
    row: tuple[str, ...],
    flags: tuple[str, ...],
) -> None:
    """Columns come from the flags, else from the checkpoint's recipe, else they are text and label."""
    multi = any(key in (recipe or {}) for key in ("label_separator", "label_columns"))
    folder = bare_checkpoint(tmp_path / "m", recipe, problem_type=MULTI_LABEL if multi else SINGLE_LABEL)
    with pytest.raises(ImportError, match="training.evaluation.checkpoint_logits halted"):
        main([str(folder), "--data", str(table(tmp_path / "d.csv", row, header=header)), *flags])


@pytest.mark.parametrize(
    ("config", "row", "flags", "fault"),
    [
        (
            {},
            ("x", "nobrand"),
            (),
            "row 1 (line 2), column 'label': label 'nobrand' is not one of retailer, brand, other",
        ),
        ({}, (" ", "brand"), (), "row 1 (line 2), column 'text': empty text"),
        (
            {},
            ("x", "brand"),
            ("--text-column", "txt"),
            "no column 'txt'; the columns are 'text', 'label'; did you mean",
        ),
        ({}, ("x", "brand"), ("--label-separator", "|"), "the model is single-label: give --label-column alone"),
        ({}, ("x", "brand"), ("--threshold", "0.3"), "--threshold is 0.3, but the model is single-label"),
        ({}, ("x", "brand"), ("--threshold", "3"), "--threshold is 3.0, expected 0 to 1"),
        ({}, ("x", "brand"), ("--allow-unlabelled",), "--allow-unlabelled is for multi-label data"),
        ({}, ("x", "brand"), ("--overwrite",), "--overwrite needs --output FOLDER"),
        ({}, ("x", "brand"), ("--label-column", " "), "--label-column is ' ', expected a name"),
        ({}, ("x", "brand"), ("--label-column", "a", "--label-columns", "b"), "give either --label-column, or"),
        (MULTI, ("x", "brand"), (), "the model is multi-label: give --label-column with --label-separator"),
        (MULTI, ("x", "1"), ("--label-columns", "label,label"), "--label-columns name a column twice: label,label"),
        (
            MULTI,
            ("x", "1"),
            ("--label-columns", "label", "--label-separator", "|"),
            "--label-columns name the labels themselves",
        ),
        (MULTI, ("x", "1"), ("--label-columns", "label"), "4 faults"),
        ({"problem_type": "ranking"}, ("x", "brand"), (), "problem_type is 'ranking', expected"),
        ({"id2label": {"0": "a"}}, ("x", "a"), (), "id2label is {'0': 'a'}, expected at least two labels"),
        ({"id2label": {"0": "a", "1": "a"}}, ("x", "a"), (), "id2label names a label twice"),
    ],
)
def test_mistakes_are_found_before_torch(
    tmp_path: Path,
    no_torch: None,
    capsys: pytest.CaptureFixture[str],
    config: dict[str, Any],
    row: tuple[str, ...],
    flags: tuple[str, ...],
    fault: str,
) -> None:
    """A mistake in flags, folder or data ends with 2 and a message, without torch, and nothing is written."""
    folder = bare_checkpoint(tmp_path / "m", **config)
    data = table(tmp_path / "d.csv", row)
    assert main([str(folder), "--data", str(data), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("evaluate: ")
    assert fault in said
    assert {path.name for path in tmp_path.iterdir()} == {"m", "d.csv"}


@pytest.mark.slow
def test_only_running_a_checkpoint_imports_torch(tmp_path: Path) -> None:
    """The command's own modules do not import torch, and a fault of the data ends it before that."""
    folder = bare_checkpoint(tmp_path / "m")
    for row, code, last in (
        ("nobrand", 2, "label 'nobrand' is not one of retailer, brand, other"),
        ("brand", 1, "ImportError: torch was imported"),
    ):
        data = table(tmp_path / "d.csv", ("x", row))
        done = run_to_end(sys.executable, "-c", NO_TORCH, str(folder), "--data", str(data))
        assert (done.returncode, done.stderr.splitlines()[-1][-len(last) :]) == (code, last)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is missing, not a folder, or without config, weights or valid JSON is named with its fault."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    broken = bare_checkpoint(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    bare = bare_checkpoint(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    for name, fault in (
        ("none", "does not exist; expected a checkpoint or a bundle"),
        ("file", "is not a folder; expected a checkpoint or a bundle"),
        ("empty", "has no config.json"),
        ("broken", "config.json cannot be read: "),
        ("bare", "has neither weights (*.safetensors, pytorch_model*.bin) nor inferer.json"),
    ):
        assert main([str(tmp_path / name), "--data", "d.csv"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("evaluate: ")
        assert fault in said
        assert said.count("\n") == 1


def test_a_checkpoint_that_does_not_say_its_kind_is_what_the_columns_say(
    tmp_path: Path, no_torch: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a problem_type in config.json the columns decide, and a note says so."""
    folder = bare_checkpoint(tmp_path / "m", problem_type=None)
    data = table(tmp_path / "d.csv", ("x", "brand|other"))
    with pytest.raises(ImportError, match="checkpoint_logits"):
        main([str(folder), "--data", str(data), "--label-separator", "|"])
    assert capsys.readouterr().err == f"note: {folder} has no problem_type; by the columns it is {MULTI_LABEL}\n"


def test_a_report_replaces_only_a_report(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--overwrite replaces an existing report, and never a model or any other folder."""
    data = table(tmp_path / "d.csv", ("good", "pos"), ("bad", "neg"))
    arguments = [str(tiny_bundle), "--data", str(data), "--output"]
    report = evaluated(tmp_path / "r", *arguments[:-1])
    assert main([*arguments, str(tmp_path / "r")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert evaluated(tmp_path / "r", *arguments[:-1], "--overwrite") == report
    model = bare_checkpoint(tmp_path / "m")
    (model / "report.json").write_text("{}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()
    for folder in (model, other):
        before = sorted(path.name for path in folder.iterdir())
        assert main([*arguments, str(folder), "--overwrite"]) == 2
        assert "choose another" in capsys.readouterr().err
        assert sorted(path.name for path in folder.iterdir()) == before


def test_without_an_output_nothing_is_written(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --output the table is printed and no file written."""
    data = table(tmp_path / "d.csv", ("good\ngood", "pos"), ("bad", "neg"))
    monkeypatch.chdir(tmp_path)
    assert main([str(tiny_bundle), "--data", "d.csv"]) == 0
    said = capsys.readouterr()
    assert re.search("  accuracy +1.0000 ", said.out)
    assert "wrote" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


@pytest.mark.slow
def test_control_c_ends_with_130_and_no_report(tmp_path: Path, tiny_bundle: Path) -> None:
    """Control-C while a bundle runs ends with 130 and a line, and leaves no report."""
    data = table(tmp_path / "d.csv", *[("good bad odd", "pos")] * 300)
    command = [
        sys.executable,
        "-m",
        "training.evaluate",
        str(tiny_bundle),
        "--data",
        str(data),
        "--output",
        str(tmp_path / "r"),
    ]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while b" 0/300 [" not in said:
            said += process.stderr.read1(4096)
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
    assert process.returncode == 130
    assert said.endswith(b"\nevaluate: interrupted; nothing was written\n")
    assert b"Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]
