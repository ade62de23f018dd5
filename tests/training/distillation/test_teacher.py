"""Teachers: checkpoints, several of them, tables; and real runs that learn from one."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from inferer.scoring import sigmoid, softmax
from tests.support.architectures import LABELS, TEXTS, checkpoint, checkpoint_logits
from tests.support.fruit import COLOURS, command, rows, write_base, write_table
from tests.support.server import run_to_end
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.distillation.teacher import seen_notes, teacher_logits
from training.errors import TrainingError
from training.recipe.recipe import Recipe


def labelled(labels: tuple[str, ...], kind: str = SINGLE_LABEL) -> Dataset:
    """Return a data set of two texts with these labels."""
    columns = Columns("text", "label", separator="|" if kind == MULTI_LABEL else None, numeric=kind == REGRESSION)
    return Dataset(("a", "b"), ((0,), (1,)), labels, kind, columns)


@pytest.fixture
def teacher(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single-label checkpoint of random weights."""
    return Path(shutil.copytree(checkpoint(tmp_path_factory, "bert"), tmp_path / "teacher"))


def change(folder: Path, **fields: Any) -> None:
    """Change fields of a checkpoint's config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")


def test_a_teachers_labels_are_found_by_name(teacher: Path) -> None:
    """The scores are those of the checkpoint, in the order of the run's labels."""
    order = (2, 0, 1)
    found = teacher_logits(Recipe(teacher=(str(teacher),)), labelled(tuple(LABELS[i] for i in order)), TEXTS, None)
    expected = softmax(checkpoint_logits(teacher, TEXTS).astype(float))[:, list(order)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(softmax(found.astype(float)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL])
def test_several_teachers_have_the_mean_of_their_scores(
    teacher: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, kind: str
) -> None:
    """Two checkpoints teach the mean of their scores, by softmax or by label."""
    other = Path(shutil.copytree(checkpoint(tmp_path_factory, "distilbert"), tmp_path / "other"))
    for folder in (teacher, other):
        change(folder, problem_type=kind)
    found = teacher_logits(Recipe(teacher=(str(teacher), str(other))), labelled(LABELS, kind), TEXTS, None)
    activation = softmax if kind == SINGLE_LABEL else sigmoid
    scores = [activation(checkpoint_logits(folder, TEXTS).astype(float)) for folder in (teacher, other)]
    np.testing.assert_allclose(activation(found.astype(float)), np.mean(scores, axis=0), atol=1e-6)


def test_a_table_teaches_its_probabilities() -> None:
    """Probabilities become logits that give them back, 0 and 1 finite ones; NaN stays."""
    values = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [np.nan] * 3])
    found = teacher_logits(Recipe(teacher=("p.csv",)), labelled(LABELS), TEXTS[:3], values)
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(softmax(found[:2].astype(float)), values[:2], atol=1e-5)
    several = teacher_logits(Recipe(teacher=("p.csv",)), labelled(LABELS, MULTI_LABEL), TEXTS[:3], values)
    np.testing.assert_allclose(sigmoid(several[:2].astype(float)), values[:2], atol=1e-5)


def test_teachers_that_cannot_teach(teacher: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Other labels, another kind, a bundle, a missing folder and an encoder without a head are named."""
    name = str(teacher)

    def refusal(given: str, dataset: Dataset) -> str:
        with pytest.raises(TrainingError) as caught:
            teacher_logits(Recipe(teacher=(given,)), dataset, TEXTS, None)
        return str(caught.value)

    listed = f"teacher {name}: its labels are {', '.join(LABELS)}; it "
    assert refusal(name, labelled((*LABELS, "more"))) == f"{listed}lacks 'more'"
    assert refusal(name, labelled(LABELS[:2])) == f"{listed}has {LABELS[2]!r} too"
    kinds = "is a single-label classifier; the data is for a multi-label classifier"
    assert refusal(name, labelled(LABELS, MULTI_LABEL)) == f"teacher {name}: {kinds}"
    bundle = "is a bundle; give the checkpoint that it was exported from"
    assert refusal(str(tiny_bundle), labelled(LABELS)) == f"teacher {tiny_bundle}: {bundle}"
    assert "no such folder" in refusal(str(tmp_path / "nowhere"), labelled(LABELS))
    assert "classifier.weight" in refusal(str(write_base(tmp_path / "base")), labelled(LABELS))


def test_a_teacher_reads_what_the_data_has(teacher: Path) -> None:
    """A model of pairs does not teach single texts, and one of ours for single texts does not teach pairs."""
    pairs = replace(labelled(LABELS), columns=Columns("text", "label", text_pair_column="second"))
    (teacher / "training.json").write_text(json.dumps({"recipe": {}}), encoding="utf-8")
    with pytest.raises(TrainingError, match="reads single texts; the data has pairs$"):
        teacher_logits(Recipe(teacher=(str(teacher),)), pairs, [("a", "b")], None)
    change(teacher, inferer_text_pair=True)
    with pytest.raises(TrainingError, match="reads pairs; the data has single texts$"):
        teacher_logits(Recipe(teacher=(str(teacher),)), labelled(LABELS), TEXTS, None)
    found = teacher_logits(Recipe(teacher=(str(teacher),)), pairs, [("ok", "bags"), ("bags", "ok")], None)
    assert found.shape == (2, len(LABELS))
    assert not np.array_equal(found[0], found[1])


def test_a_teacher_that_has_seen_the_held_out_texts_is_named(teacher: Path) -> None:
    """A checkpoint that held out other texts, or does not say which, gets a warning; the same texts get none."""
    recipe, data = Recipe(teacher=(str(teacher),)), labelled(("x", "y"))
    assert "does not say which texts it has seen" in seen_notes(recipe, data)[0]
    (teacher / "training.json").write_text(json.dumps({"recipe": {"text_column": "text"}}), encoding="utf-8")
    write_csv(teacher / "held_out.csv", data.subset([1]))
    assert "did not hold out 1 of the 2 texts held out here" in seen_notes(recipe, data)[0]
    assert seen_notes(recipe, data.subset([1])) == []


@pytest.mark.slow
def test_a_run_learns_what_its_teacher_says(tmp_path: Path) -> None:
    """With alpha 1 a model follows a table that swaps two colours; the labels alone would teach the contrary."""
    base, table = write_base(tmp_path / "base"), write_table(tmp_path / "fruit.csv")
    swapped = {"red": "green", "green": "red", "blue": "blue"}
    with (tmp_path / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *COLOURS])
        for text, colour, _ in rows(160):
            writer.writerow([text, *(0.98 if one == swapped[str(colour)] else 0.01 for one in COLOURS)])
    given = command(table, base, tmp_path / "m", "--label-column", "colour", "--epochs", "12")
    taught = ("--teacher", str(tmp_path / "scores.csv"), "--alpha", "1", "--temperature", "1")
    done = run_to_end(sys.executable, "-m", "training", *given, *taught, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert f"learning from {tmp_path / 'scores.csv'} (temperature 1, alpha 1)" in done.stderr
    with (tmp_path / "m" / "misclassified.csv").open(encoding="utf-8", newline="") as file:
        wrong = list(csv.DictReader(file))
    held_out = json.loads((tmp_path / "m" / "training.json").read_text(encoding="utf-8"))["held_out"]
    found = [row for row in wrong if swapped[row["true"]] == row["given"]]
    assert len(found) > 0.9 * held_out["n"] * 0.7  # red and green are about four fifths of the rows


@pytest.mark.slow
def test_a_run_learns_from_texts_without_labels(tmp_path: Path) -> None:
    """Twelve labelled rows teach little; a teacher's scores of further texts teach nearly all that it knows."""
    base, table = write_base(tmp_path / "base"), write_table(tmp_path / "fruit.csv")
    (tmp_path / "more.csv").write_text("\n".join(["text", *(text for text, _, _ in rows(400))]), encoding="utf-8")

    def run(name: str, *flags: str) -> float:
        given = command(table, base, tmp_path / name, "--label-column", "colour", *flags)
        done = run_to_end(sys.executable, "-m", "training", *given, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / name / "training.json").read_text(encoding="utf-8"))
        return float(record["held_out"]["accuracy"])

    whole, few = run("whole", "--epochs", "12"), ("--train-rows", "12")
    alone = run("alone", *few)
    taught = run("taught", *few, "--teacher", str(tmp_path / "whole"), "--unlabelled", str(tmp_path / "more.csv"))
    assert whole > 0.9
    assert taught > alone + 0.1
    assert taught > whole - 0.1
