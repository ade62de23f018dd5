"""The advice at the end of a run that did not work, on data made to provoke each sentence."""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.fruit import COLOURS, FILLERS, command, write_base
from tests.support.server import run_to_end
from training.recipe.recipe import Recipe
from training.report.advice import advice


def record(**changes: Any) -> dict[str, Any]:
    """Return the record of a good run of two labels, with changes to its held-out figures and its recipe."""
    held_out = {
        "accuracy": 0.9,
        "macro_f1": 0.8,
        "intervals": {"accuracy": [0.85, 0.95], "macro_f1": [0.7, 0.9]},
        "baselines": {"largest_class": {"label": "a", "accuracy": 0.8, "macro_f1": 0.44}},
        "labels": {"a": {"n": 80, "given": 85}, "b": {"n": 20, "given": 15}},
    }
    known = Recipe(label_column="label", epochs=3.0, learning_rate=5e-5).as_dict()
    known.pop("labels")  # here those of the figures
    recipe = {name: value for name, value in changes.items() if name in known}
    figures = {name: value for name, value in changes.items() if name not in known and name != "truncated_share"}
    return {
        "recipe": {**known, **recipe},
        "held_out": {**held_out, **figures},
        "max_length": 128,
        "truncated_share": changes.get("truncated_share", 0.0),
    }


def said(made: dict[str, Any], losses: Sequence[float] = (), longest: int = 40) -> list[str]:
    """Return the advice for a record."""
    return advice(made, [{"eval_loss": loss} for loss in losses], longest, 512)


def test_a_run_that_worked_gets_no_advice() -> None:
    """Good figures, a loss that levelled off and whole texts lead to no sentence."""
    assert said(record(), [0.5, 0.3, 0.299]) == []
    assert said(record(), [0.5, 0.3, 0.35]) == []
    assert said(record(), [0.5]) == []
    assert said(record(truncated_share=0.1)) == []


def test_rare_labels_found_without_a_gain_in_accuracy_are_a_success() -> None:
    """Accuracy within the baseline's reach counts as nothing learned only where macro-F1 is too."""
    level = {"accuracy": 0.8, "intervals": {"accuracy": [0.75, 0.85], "macro_f1": [0.6, 0.8]}}
    assert said(record(**level)) == []
    level["intervals"] = {"accuracy": [0.75, 0.85], "macro_f1": [0.4, 0.6]}
    assert said(record(**level)) == [
        "the model does not beat always 'a', accuracy 0.800 (0.750 to 0.850) against 0.800; "
        "try --learning-rate 0.0001 and --epochs 6"
    ]
    assert said(record(**level, learning_rate=3e-4))[0].endswith(
        "try --epochs 6, a --learning-rate below 0.0003, or more rows"
    )


def test_a_multi_label_model_is_compared_by_micro_f1() -> None:
    """Several labels: the model is compared with the commonest label alone, and the head's own rate is offered."""
    figures = {
        "micro_f1": 0.303,
        "labels": {"neutral": {"n": 30, "given": 0}, "joy": {"n": 5, "given": 0}},
        "intervals": {"micro_f1": [0.29, 0.32], "macro_f1": [0.2, 0.3]},
        "baselines": {"no_label": {"micro_f1": 0.0}, "commonest_label": {"label": "neutral", "micro_f1": 0.304}},
    }
    assert said(record(**figures, label_separator="|")) == [
        "the model does not beat always 'neutral', micro-F1 0.303 (0.290 to 0.320) against 0.304; "
        "try --head-learning-rate 0.002 and --epochs 6"
    ]


def test_remedies_that_were_in_use_are_not_offered_again() -> None:
    """A label that is never predicted in spite of balanced weights needs more rows; the offers fit the options."""
    labels = {"a": {"n": 80, "given": 100}, "b": {"n": 20, "given": 0}, "c": {"n": 0, "given": 0}}
    (sentence,) = said(record(labels=labels))
    assert sentence == (
        "'b' was never predicted, and held-out rows have it; try --class-weights balanced, or more rows of it"
    )
    assert said(record(labels=labels, class_weights="balanced"))[0].endswith("try more rows of it")
    cut = record(truncated_share=0.25)
    assert said(cut, longest=700)[0].endswith("are cut; try --max-length 512 or --truncation head_tail")
    cut["max_length"], cut["recipe"]["truncation"] = 512, "tail"
    assert said(cut, longest=700)[0].endswith("try texts split into shorter ones")


def test_numbers_without_relation_to_the_true_ones() -> None:
    """A regression whose rank correlation may be 0 has learned nothing."""
    figures = {"mse": 1.0, "spearman": 0.1, "intervals": {"spearman": [-0.1, 0.3]}, "labels": {}}
    assert said(record(**figures))[0].startswith("the numbers predicted do not follow the true ones")
    assert said(record(**{**figures, "intervals": {"spearman": [0.05, 0.3]}})) == []


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer."""
    return write_base(tmp_path_factory.mktemp("base"))


def notes(base: Path, folder: Path, rows: list[tuple[str, str]], *flags: str) -> tuple[list[str], str]:
    """Train on `rows` of text and label; return the notes at the end, and the model card."""
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    arguments = command(folder / "rows.csv", base, folder / "m", "--label-column", "label", *flags)
    done = run_to_end(sys.executable, "-m", "training", *arguments, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    found = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert json.loads((folder / "m" / "training.json").read_text(encoding="utf-8"))["advice"] == found
    return found, (folder / "m" / "README.md").read_text(encoding="utf-8")


def texts(count: int, length: int) -> list[str]:
    """Return texts of random words."""
    rng = random.Random(0)
    return [" ".join(rng.choices(FILLERS, k=length)) for _ in range(count)]


@pytest.mark.slow
def test_texts_that_say_nothing_about_the_label(base: Path, tmp_path: Path) -> None:
    """Trained on random texts, a model does not beat the commonest label and never predicts the rare one."""
    rows = [(text, "rare" if i % 8 == 0 else "common") for i, text in enumerate(texts(200, 6))]
    found, card = notes(base, tmp_path, rows, "--epochs", "1", "--learning-rate", "1e-5")
    assert found[0].startswith("the model does not beat always 'common', accuracy 0.")
    assert found[0].endswith("; try --learning-rate 0.0001 and --epochs 2")
    assert found[1].startswith("'rare' was never predicted, and held-out rows have it; try --class-weights balanced")
    assert "## Notes" in card
    assert found[1] in card


@pytest.mark.slow
def test_labels_that_are_numbers_and_a_loss_that_still_falls(base: Path, tmp_path: Path) -> None:
    """Stars learned as names, in too few epochs, are told as such."""
    rows = [(f"{COLOURS[i % 3]} {text}", str(i % 3 + 1)) for i, text in enumerate(texts(300, 3))]
    found, _ = notes(base, tmp_path, rows, "--epochs", "2")
    assert any(one.startswith("the loss still fell in the last epoch, from ") for one in found)
    assert any(one.startswith("'1', '2', '3' in column 'label' are names to this model") for one in found)


@pytest.mark.slow
def test_joined_labels_and_long_texts(base: Path, tmp_path: Path) -> None:
    """Labels joined in a cell and texts longer than the model reads are seen, each with the option that helps."""
    labels = ("anger", "fear", "joy", "anger|fear", "fear|joy")
    rows = [(text, labels[i % 5]) for i, text in enumerate(texts(200, 25))]
    found, _ = notes(base, tmp_path, rows, "--epochs", "1", "--max-length", "16")
    joined = "'anger|fear', 'fear|joy' look like several labels each; if they are, try --label-separator '|'"
    assert joined in found
    cut = "100% of the texts are longer than the 16 tokens that the model reads, and are cut; "
    assert f"{cut}try --max-length 27 or --truncation head_tail" in found
