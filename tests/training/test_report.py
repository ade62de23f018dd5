"""The files of an evaluation: figures, wrong rows, pictures; and a checkpoint's model card."""

from __future__ import annotations

import csv
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.recipe.recipe import Recipe
from training.report import pictures
from training.report.evaluation_report import write_mistakes, write_report
from training.report.metrics import measure
from training.report.model_card import model_card
from training.report.pictures import draw_confusion, draw_curves, draw_lengths

SINGLE = Dataset(
    ("=1+1", 'two\nlines, quoted "so"', "@x", "-y", "fine"),
    ((0,), (1,), (1,), (0,), (2,)),
    ("a", "b", "c"),
    SINGLE_LABEL,
    Columns("text", "label"),
)
SCORES = np.array([[0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.9, 0.06, 0.04], [0.2, 0.1, 0.7], [0.1, 0.1, 0.8]])
ANSWERS = Predictions(SCORES, np.eye(3, dtype=bool)[SCORES.argmax(axis=1)])
MULTI = Dataset(
    ("one", "two", "three", "four"),
    ((0,), (0, 1), (), (2,)),
    ("x", "y", "z"),
    MULTI_LABEL,
    Columns("text", "label", separator=";", allow_unlabelled=True),
)
MULTI_SCORES = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.6], [0.7, 0.95, 0.1], [0.2, 0.2, 0.8]])
MULTI_ANSWERS = Predictions(MULTI_SCORES, MULTI_SCORES >= 0.5)


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG in pixels."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    return int(width), int(height)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The drawn figures, whose words and bars a test can inspect."""
    figures: list[Figure] = []
    save = pictures._save
    monkeypatch.setattr(pictures, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def words(figure: Figure) -> str:
    """Return all words in a picture."""
    return "\n".join(text.get_text() for text in figure.findobj(lambda o: hasattr(o, "get_text")))


def test_the_report_has_the_figures_and_the_facts(tmp_path: Path) -> None:
    """report.json holds the figures and the facts; the folder has it, the picture and the mistakes."""
    metrics = write_report(tmp_path, SINGLE, ANSWERS, {"model": "größe", "threshold": None})
    assert metrics == measure(SINGLE, ANSWERS)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found == {"model": "größe", "threshold": None, "problem_type": SINGLE_LABEL, **metrics}
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "confusion_matrix.png", "misclassified.csv"}


def test_mistakes_come_most_confident_first_with_texts_as_they_are(tmp_path: Path) -> None:
    """misclassified.csv has each wrong row by its number, the most confident first, its text unchanged and quoted."""
    write_mistakes(tmp_path / "m.csv", SINGLE, ANSWERS)
    assert rows(tmp_path / "m.csv") == [
        {"row": "3", "text": "@x", "true": "b", "given": "a", "score_given": "0.9", "score_true": "0.06"},
        {"row": "4", "text": "-y", "true": "a", "given": "c", "score_given": "0.7", "score_true": "0.2"},
        {"row": "1", "text": "=1+1", "true": "a", "given": "b", "score_given": "0.6", "score_true": "0.3"},
    ]
    assert '"=1+1"' in (tmp_path / "m.csv").read_text()
    others = [(row[0] + 1) % 3 for row in SINGLE.targets]
    write_mistakes(tmp_path / "n.csv", SINGLE, Predictions(SCORES, np.eye(3, dtype=bool)[others]))
    assert {row["text"] for row in rows(tmp_path / "n.csv")} == set(SINGLE.texts)


def test_multi_label_mistakes_name_missed_and_wrong_labels(tmp_path: Path) -> None:
    """A multi-label row names its missed and its wrong labels; the row farthest off comes first."""
    write_mistakes(tmp_path / "m.csv", MULTI, MULTI_ANSWERS)
    first, second = rows(tmp_path / "m.csv")
    assert first == {
        "row": "3", "text": "three", "true": "", "given": "x;y", "missed": "", "wrong": "x;y",
        "lowest_score_missed": "", "highest_score_wrong": "0.95",
    }  # fmt: skip
    assert second == {
        "row": "2", "text": "two", "true": "x;y", "given": "z", "missed": "x;y", "wrong": "z",
        "lowest_score_missed": "0.3", "highest_score_wrong": "0.6",
    }  # fmt: skip


def test_without_a_mistake_there_is_a_header_alone(tmp_path: Path) -> None:
    """If every row is right, misclassified.csv has only its header."""
    write_mistakes(tmp_path / "m.csv", SINGLE.subset([1, 4]), Predictions(SCORES[[1, 4]], ANSWERS.chosen[[1, 4]]))
    assert (tmp_path / "m.csv").read_text().splitlines() == ['"row","text","true","given","score_given","score_true"']


# Pictures


def test_the_matrix_counts_true_labels_by_row(tmp_path: Path, drawn: list[Figure]) -> None:
    """The matrix has a row per true label, shaded by the share of the row, counts in its cells, and all names."""
    draw_confusion(tmp_path / "c.png", SINGLE, ANSWERS)
    (image,) = drawn[0].axes[0].images
    np.testing.assert_allclose(image.get_array(), [[0, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 1]])
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["a (2)", "b (2)", "c (1)"]
    cells = {text.get_position(): text.get_text() for text in drawn[0].axes[0].texts}
    assert cells == {(1, 0): "1", (2, 0): "1", (0, 1): "1", (1, 1): "1", (2, 2): "1"}
    assert "2 of 5 rows correct" in words(drawn[0])
    assert min(size(tmp_path / "c.png")) > 300


def test_the_bars_of_a_multi_label_picture_are_the_counts(tmp_path: Path, drawn: list[Figure]) -> None:
    """A multi-label picture has bars per label, the commonest first: found, missed and wrong."""
    draw_confusion(tmp_path / "c.png", MULTI, MULTI_ANSWERS)
    widths = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert widths == [1, 0, 1, 1, 1, 0, 1, 1, 1]  # x, y, z: found; missed; predicted for rows without it
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["x (2)", "y (1)", "z (1)"]


@pytest.mark.slow
@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
@pytest.mark.parametrize("count", [2, 28, 300])
def test_many_labels_and_strange_names_are_drawn(tmp_path: Path, problem_type: str, count: int) -> None:
    """Two or hundreds of labels are drawn, in a picture of bounded size, in any script."""
    strange = ("$a_b$ & <x>", "日本語のとても長いラベルの名前です、本当に長い")
    labels = (*strange, *(f"label {i}" for i in range(count - 2)))
    data = Dataset(("t",) * count, tuple((i,) for i in range(count)), labels, problem_type, Columns("text", "label"))
    draw_confusion(tmp_path / "c.png", data, predictions_from_logits(np.eye(count) * 3, problem_type))
    assert max(size(tmp_path / "c.png")) < 5000


def curves_of(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of a picture by their names."""
    lines = [line for axes in figure.axes for line in axes.lines]
    return {
        str(line.get_label()).partition(":")[0]: [tuple(map(float, p)) for p in line.get_xydata()] for line in lines
    }


def test_curves_have_the_points_that_are_there(tmp_path: Path, drawn: list[Figure]) -> None:
    """Each loss and metric is a curve of the epochs that have it; missing, None and NaN leave a point out."""
    epochs: list[dict[str, Any]] = [
        {"epoch": 1.0, "step": 9, "train_loss": 0.9, "eval_loss": 0.8, "learning_rate": 1e-4, "accuracy": 0.5},
        {"epoch": 2.0, "step": 18, "train_loss": 0.5, "eval_loss": None, "macro_f1": float("nan"), "note": "x"},
        {"epoch": 3.0, "step": 27, "kept": True, "eval_loss": 0.7, "accuracy": 0.75},
    ]
    draw_curves(tmp_path / "c.png", epochs)
    assert curves_of(drawn[0]) == {
        "training loss": [(1, 0.9), (2, 0.5)],
        "evaluation loss": [(1, 0.8), (3, 0.7)],
        "accuracy": [(1, 0.5), (3, 0.75)],
    }


def test_curves_that_are_the_same_are_one(tmp_path: Path, drawn: list[Figure]) -> None:
    """Curves with the same values in all epochs are drawn once under both names; one that differs once is apart."""
    epochs = [
        {"epoch": 1.0, "eval_loss": 0.9, "log_loss": 0.9 + 1e-8, "accuracy": 0.5, "micro_f1": 0.5, "macro_f1": 0.5},
        {"epoch": 2.0, "eval_loss": 0.8, "log_loss": 0.8 - 1e-8, "accuracy": 0.7, "micro_f1": 0.7, "macro_f1": 0.6},
    ]
    draw_curves(tmp_path / "c.png", epochs)
    assert curves_of(drawn[0]) == {
        "evaluation loss = log loss": [(1, 0.9), (2, 0.8)],
        "accuracy = micro-F1": [(1, 0.5), (2, 0.7)],
        "macro-F1": [(1, 0.5), (2, 0.6)],
    }


@pytest.mark.parametrize(
    "epochs", [[{"epoch": 1.0, "train_loss": 0.5, "accuracy": 0.7}], [{"epoch": 0.3, "accuracy": 0.7}], []]
)
def test_one_epoch_is_a_point_and_an_empty_half_says_so(
    tmp_path: Path, drawn: list[Figure], epochs: list[dict[str, Any]]
) -> None:
    """A single epoch is a mark inside the picture, and a half without curves says so."""
    draw_curves(tmp_path / "c.png", epochs)
    for axes in drawn[0].axes:
        for line in axes.lines:
            assert line.get_marker() not in (None, "None", "")
            ((x, y),) = line.get_xydata()
            assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
            assert axes.get_ylim()[0] < y < axes.get_ylim()[1]
        assert bool(axes.lines) != ("none recorded" in "".join(text.get_text() for text in axes.texts))
    assert size(tmp_path / "c.png")[0] > 800


def test_the_histogram_of_lengths_names_the_share_that_is_cut(tmp_path: Path, drawn: list[Figure]) -> None:
    """Each text is in a bar, the line is at the end of max_length, and the title has the share beyond it."""
    lengths = [3] * 5 + [9] * 3 + [10] * 1 + [11] * 1
    draw_lengths(tmp_path / "l.png", lengths, 9)
    axes = drawn[0].axes[0]
    bars = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axes.patches if bar.get_height()}
    assert bars == {3: 5, 9: 3, 10: 1, 11: 1}
    assert axes.lines[0].get_xdata()[0] == 9.5
    assert axes.get_title().startswith("20.0% of 10 texts (2) are longer than max_length 9 and are cut")
    draw_lengths(tmp_path / "l.png", lengths, 512)
    assert drawn[1].axes[0].get_title().startswith("0.0% of 10 texts (0)")
    assert drawn[1].axes[0].get_xlim()[1] < 20  # a line far to the right does not squeeze the bars


# The model card


def record(**changes: Any) -> dict[str, Any]:
    """Return a run's record."""
    recipe = {
        "name": "demo",
        "output": "/home/me/checkpoints/demo",
        "file": "/home/me/data/mails.csv",
        "text_column": "the text",
        "label_column": "label",
        "labels": ["a", "b|c", "c"],
        "lists": {},
        "base_model": "embedded",
        "max_length": 64,
        "learning_rate": 5e-5,
    }
    whole = {
        "recipe": recipe,
        "train_rows": 1200,
        "validation_rows": 34,
        "calibration_rows": 0,
        "held_out": measure(SINGLE, ANSWERS),
        "versions": {"python": "3.11", "torch": "2.13.0"},
        "advice": ["'b' was never predicted"],
        "seeds": [3, 4],
        "data": {
            "file": "/home/me/data/mails.csv",
            "rows": 1300,
            "dropped": 7,
            "duplicates": 2,
            "counts": {"a": 9, "b|c": 8},
        },
    }
    return {**whole, **changes, "recipe": {**recipe, **changes.get("recipe", {})}}


def test_the_card_has_data_figures_and_recipe(tmp_path: Path) -> None:
    """The card has labels, rows of each part, figures with interval, n and baseline, recipe, pictures and versions."""
    found = record()
    card = model_card("demo", SINGLE_LABEL, found, {"confusion_matrix.png": "Which label is taken for which"})
    low, high = found["held_out"]["intervals"]["accuracy"]
    for line in (
        "| 1 | b |",
        "| file | mails.csv |",
        "| rows | 1,300 |",
        "| rows dropped | 7 |",
        "| duplicate texts | 2 |",
        "| trained on | 1,200 |",
        "| validation | 34 |",
        "| held out, for the figures | 5 |",
        "| b\\|c | 8 |",
        f"| accuracy | 0.4000 | {low:.4f} to {high:.4f} | 5 | 0.4000 |",
        "| labels | a, b\\|c, c |",
        "| learning_rate | 5e-05 |",
        "| seeds | 3, 4 |",
        "![Which label is taken for which](confusion_matrix.png)",
        "  --eval <this folder>/held_out.csv --text-column 'the text' --label-column label",
    ):
        assert line in card.splitlines(), line
    assert "calibration |" not in card
    assert "Made with python 3.11, torch 2.13.0." in card
    assert "exactly one of the labels" in card
    assert "any number of the labels" in model_card(
        "demo", MULTI_LABEL, record(held_out=measure(MULTI, MULTI_ANSWERS)), {}
    )


def test_the_card_leaves_out_options_at_their_defaults() -> None:
    """The card has the options that differ from their defaults, and those that every reader wants."""
    given = Recipe(
        file="mails.csv", text_column="text", label_column="topic", output=Path("demo"), warmup_ratio=0.3,
        epochs=4.0, learning_rate=1e-4, early_stopping=0,
        keep_best=True, class_weights={"a": 1.5, "b": 2.0}, validation_share=0.1,
    )  # fmt: skip
    found = record(seeds=[0])
    card = model_card("demo", SINGLE_LABEL, {**found, "recipe": given.as_dict()}, {})
    table = card.split("## Recipe\n\n")[1].split("\n\n")[0]
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == [
        "output", "file", "text_column", "label_column", "validation_share", "base_model", "max_length", "epochs",
        "batch_size", "learning_rate", "warmup_ratio", "class_weights.a", "class_weights.b", "keep_best", "seed",
    ]  # fmt: skip


def test_the_card_begins_with_front_matter(tmp_path: Path) -> None:
    """The front matter has the task, the tags and a base model of the hub, and is valid YAML."""
    for base, line in (
        ("embedded", 'base_model: "sentence-transformers/all-MiniLM-L6-v2"'),
        ("google/bert_uncased_L-2_H-128_A-2", 'base_model: "google/bert_uncased_L-2_H-128_A-2"'),
        (str(tmp_path), None),
        ("/gone/some-base", None),
    ):
        card = model_card("x", SINGLE_LABEL, record(recipe={"base_model": base}), {})
        _, front, rest = card.split("---\n", 2)
        lines = front.splitlines()
        assert "pipeline_tag: text-classification" in lines
        assert lines[lines.index("tags:") + 1 :] == ["- text-classification", "- single-label"]
        assert [one for one in lines if one.startswith("base_model")] == ([line] if line else [])
        assert rest.startswith("\n# x\n")


def test_the_card_has_no_path_of_this_machine(tmp_path: Path) -> None:
    """The card names no folder of the machine, whichever option of the recipe has a path."""
    base = tmp_path / "base-model"
    base.mkdir()
    changes = {"base_model": str(base), "test_file": f"{tmp_path}/secret/test.csv", "file": "s3://mails/one.csv"}
    card = model_card("demo", SINGLE_LABEL, record(recipe=changes), {})
    assert not re.search(r"/home|/tmp|secret|" + re.escape(str(tmp_path)), card)
    for name in ("test.csv", "one.csv", "demo", "base-model"):
        assert f"| {name} |" in card
