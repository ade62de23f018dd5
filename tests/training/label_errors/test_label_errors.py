"""`evaluate --find-label-errors`: planted errors rank first, folds keep equal texts together, mistakes are named."""

from __future__ import annotations

import csv
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tests.support.fruit import COLOURS, FRUITS, rows, write_base
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.evaluate import main
from training.evaluation.predictions import Predictions
from training.label_errors import files, find, out_of_fold
from training.label_errors.folds import fold_of_rows
from training.label_errors.issues import LabelIssue, find_issues
from training.recipe.recipe import Recipe, as_toml
from training.splits.splits import Splits

pytestmark = pytest.mark.usefixtures("own_signals")
SINGLE = Columns("text", "label")
MULTI = Columns("text", label_columns=("a", "b", "c"))
OPTIONS = {"epochs": 8.0, "batch_size": 8, "learning_rate": 0.003, "max_length": 24}


def dataset(targets: list[tuple[int, ...]], texts: tuple[str, ...] = (), columns: Columns = SINGLE) -> Dataset:
    """Return a data set of the labels a, b, c."""
    texts = texts or tuple(f"text {i}" for i in range(len(targets)))
    return Dataset(texts, tuple(targets), ("a", "b", "c"), columns.problem_type, columns)


def checkpoint(folder: Path, recipe: Recipe | None, labels: tuple[str, ...], problem_type: str = SINGLE_LABEL) -> Path:
    """Write what a search reads of a checkpoint: the labels and the recipe, and weights that it never opens."""
    folder.mkdir()
    config = {"id2label": {str(i): label for i, label in enumerate(labels)}, "problem_type": problem_type}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    if recipe is not None:
        (folder / "recipe.toml").write_text(as_toml(recipe))
        (folder / "training.json").write_text(json.dumps({"recipe": recipe.as_dict()}))
    return folder


def written(path: Path, *lines: tuple[object, ...], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def listed(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table of errors."""
    with (folder / files.TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts given scores of 0.9 and 0.05 in the place of training."""

    def use(best: list[int]) -> None:
        def predict(_recipe: Recipe, data: Dataset, *_: Any) -> Predictions:
            scores = np.full((len(data), 3), 0.05)
            scores[np.arange(len(data)), best] = 0.9
            return Predictions(scores, scores > 0.5)

        monkeypatch.setattr(out_of_fold, "predict_out_of_fold", predict)

    return use


# Folds


@pytest.mark.parametrize("columns", [SINGLE, MULTI])
def test_a_fold_has_its_share_of_each_label(columns: Columns) -> None:
    """Each fold has the same share of each label's rows, by the seed alone."""
    data = dataset([(0,)] * 20 + [(1,)] * 10 + [(2,)] * 5, columns=columns)
    found = fold_of_rows(data, 5, 0)
    counts = [list(data.subset(np.flatnonzero(found == fold).tolist()).counts().values()) for fold in range(5)]
    assert counts == [[4, 2, 1]] * 5
    assert found.tolist() == fold_of_rows(data, 5, 0).tolist() != fold_of_rows(data, 5, 1).tolist()


@pytest.mark.parametrize("columns", [SINGLE, MULTI])
def test_equal_texts_share_a_fold(columns: Columns) -> None:
    """Rows with a text that counts as the same are in one fold, whatever their labels."""
    texts = tuple(f"{'Some  text' if i % 2 else 'some TEXT '} {i // 4}" for i in range(80))
    found = fold_of_rows(dataset([(i % 3,) for i in range(80)], texts, columns), 4, 0)
    assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 80, 4))
    assert set(found.tolist()) == {0, 1, 2, 3}


def test_rows_of_a_group_share_a_fold() -> None:
    """Groups stay whole; their number bounds the folds."""
    data = replace(dataset([(i % 3,) for i in range(30)]), groups=tuple(str(i // 3) for i in range(30)))
    found = fold_of_rows(data, 5, 0)
    assert all(len(set(found[i : i + 3])) == 1 for i in range(0, 30, 3))
    with pytest.raises(TrainingError, match="--folds is 11, expected 2 to 10, the groups of --data"):
        fold_of_rows(data, 11, 0)


def test_a_fold_that_takes_all_rows_of_a_label_is_named(tmp_path: Path) -> None:
    """Groups may put every row of a label into one fold: an error before any training."""
    data = dataset([(0,), (1,), (2,)] * 4)
    with pytest.raises(TrainingError, match="fold 2: label 'c' has no row to train on"):
        out_of_fold.predict_out_of_fold(Recipe(), data, np.array([0, 0, 1, 1, 1, 1] * 2), tmp_path)


@pytest.mark.parametrize(
    ("targets", "texts", "folds", "fault"),
    [
        ([(0,)] * 9 + [(1,)] * 9 + [(2,)] * 3, (), 5, "label 'c' has 3 different texts, fewer than --folds 5: give"),
        ([(0,), (1,), (2,), (0,), (1,)], (), 2, "label 'c' has 1 different text, fewer than --folds 2: give more rows"),
        ([(0,), (0,), (1,), (1,)], (), 2, "label 'c' has 0 different texts"),
        ([(0,), (1,), (2,)] * 2, ("x", "y", "z", "X ", "Y", "Z"), 2, "label 'a' has 1 different text"),
        ([(0,), (1,), (2,)], (), 4, "--folds is 4, expected 2 to 3, the different texts of --data"),
    ],
)  # fmt: skip
def test_a_label_with_fewer_texts_than_folds_is_named(
    targets: list[tuple[int, ...]], texts: tuple[str, ...], folds: int, fault: str
) -> None:
    """More folds than a label has different texts is an error that names both."""
    with pytest.raises(TrainingError, match=fault):
        fold_of_rows(dataset(targets, texts), folds, 0)


def test_a_multi_label_model_may_have_a_label_without_rows() -> None:
    """A label that no row has needs no fold, one with too few rows does."""
    targets: list[tuple[int, ...]] = [(0, 1), (0,), (1,), ()]
    assert set(fold_of_rows(dataset(targets, columns=MULTI), 2, 0).tolist()) == {0, 1}
    with pytest.raises(TrainingError, match="label 'c' has 1 different text"):
        fold_of_rows(dataset([*targets, (2,)], columns=MULTI), 2, 0)


def test_a_fold_is_trained_on_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is predicted once, by a model that saw neither it nor its text; validation rows are apart from both."""
    numbers = [i // 2 if i < 20 else i for i in range(60)]
    data = dataset([(i % 3,) for i in range(60)], tuple(f"text {n}" for n in numbers))
    seen: list[Splits] = []

    def predict(recipe: Recipe, parts: Splits) -> Predictions:
        assert recipe.target.parent == tmp_path
        seen.append(parts)
        found = [[int(str(text).split()[1])] * 3 for text in parts.held_out.texts]
        return Predictions(np.array(found, dtype=float), np.ones((len(found), 3), dtype=bool))

    monkeypatch.setattr(out_of_fold, "train_and_predict", predict)
    recipe = Recipe(validation_share=0.2, keep_best=True)
    scores = out_of_fold.predict_out_of_fold(recipe, data, np.arange(60) // 3 % 5, tmp_path).scores
    assert scores[:, 0].tolist() == numbers
    for parts in seen:
        assert parts.validation is not None
        texts = [set(one.texts) for one in (parts.train, parts.validation, parts.held_out)]
        assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]


# Confident learning


def test_the_lowest_score_of_a_given_label_comes_first() -> None:
    """Single-label: the rows that the scores contradict, the lowest score of the given label first."""
    targets: list[tuple[int, ...]] = [(i % 3,) for i in range(60)]
    scores = np.full((60, 3), 0.05)
    scores[np.arange(60), [i % 3 for i in range(60)]] = 0.9
    targets[7], targets[20] = (2,), (0,)  # truly 1 and 2
    scores[20] = 0.01, 0.01, 0.98
    assert find_issues(dataset(targets), scores) == [
        LabelIssue(20, (0,), (2,), 0.01, 0.98),
        LabelIssue(7, (2,), (1,), 0.05, 0.9),
    ]


def test_multi_label_suggests_the_set_with_its_wrong_marks_changed() -> None:
    """Multi-label: a wrong label is taken away, a missing one is added; a label that all rows have is not judged."""
    true = np.zeros((60, 3), dtype=bool)
    true[:30, 0] = true[::2, 1] = True
    true[:, 2] = True
    scores = np.where(true, 0.9, 0.1)
    scores[:, 2] = 0.2
    scores[40, 0] = 0.03
    given = true.copy()
    given[40, 0], given[4, 1] = True, False
    targets: list[tuple[int, ...]] = [tuple(np.flatnonzero(row).tolist()) for row in given]
    found = find_issues(dataset(targets, columns=MULTI), scores)
    assert [(one.row, one.given, one.suggested) for one in found] == [(40, (0, 1, 2), (1, 2)), (4, (0, 2), (0, 1, 2))]
    assert [one.score_given for one in found] == pytest.approx([0.03, 0.1])


# The command


def test_the_files_and_the_summary(
    tmp_path: Path, certain: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has each error with its row in the file, the record the counts; the summary shows them."""
    lines = [(f"text {i}", COLOURS[i % 3]) for i in range(30)]
    lines[4] = ("=a text\nof two lines", "blue")
    data = written(tmp_path / "d.csv", *lines[:2], ("", "red"), *lines[2:])
    recipe = Recipe(file=data, text_column="text", label_column="label", seed=7)
    model = checkpoint(tmp_path / "m", recipe, COLOURS)
    certain([i % 3 for i in range(30)])
    out = tmp_path / "out"
    command = [str(model), "--data", str(data), "--drop-empty", find.FLAG, "--output", str(out)]
    assert main([*command, "--folds", "3"]) == 0
    assert listed(out) == [
        {"row": "6", "text": "=a text\nof two lines", "given_label": "blue", "suggested_label": "green",
         "score_given": "0.05", "score_suggested": "0.9"},
    ]  # fmt: skip
    record = json.loads((out / files.RECORD).read_text(encoding="utf-8"))
    versions = record.pop("versions")
    assert {"cleanlab", "torch"} <= set(versions)
    assert record.pop("out_of_fold") == pytest.approx({"accuracy": 29 / 30, "macro_f1": 0.9665}, abs=1e-3)
    assert record == {
        "data": "d.csv", "rows": 30, "found": 1, "folds": 3, "seed": 7,
        "labels": {"red": {"rows": 10, "found": 0}, "green": {"rows": 9, "found": 0}, "blue": {"rows": 11, "found": 1}},
    }  # fmt: skip
    said = capsys.readouterr().out
    assert said.startswith("1 of 30 rows may have a wrong label; out of fold, 96.7% of the rows")
    assert "  row 6, blue -> green (0.90): =a text of two lines\n" in said
    assert said.endswith(f"next: read {out / files.TABLE}, correct the table, and train again\n")
    assert main(command) == 2
    assert "is there already; choose another, or say --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    certain([i % 3 if i != 4 else 2 for i in range(30)])
    assert main([*command, "--overwrite"]) == 0
    assert capsys.readouterr().out.count("\n") > 1
    assert listed(out) == []


@pytest.mark.parametrize(
    ("changes", "flags", "fault"),
    [
        ({}, ["--folds", "1"], "--folds is 1, expected 2 or more"),
        ({}, ["--folds", "11"], "label 'blue' has 10 different texts, fewer than --folds 11: give --folds 10"),
        ({}, ["--threshold", "0.5"], "--find-label-errors works on scores, and takes no --threshold"),
        ({"recipe": None}, [], "has no recipe.toml; --find-label-errors trains as it says, and needs a checkpoint of"),
        ({"problem_type": REGRESSION}, [], "is a regression; --find-label-errors is for models of labels"),
        ({"labels": ("red", "green")}, [], "label 'blue' is not one of red, green"),
        ({"labels": (*COLOURS, "mauve")}, [], "label 'mauve' has 0 different texts, fewer than --folds 5"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], flags: list[str], fault: str
) -> None:
    """A mistake ends with 2 and a sentence, before any training, and nothing is written."""
    data = written(tmp_path / "d.csv", *((f"text {i}", COLOURS[i % 3]) for i in range(30)))
    recipe = Recipe(file=data, text_column="text", label_column="label", base_model=str(tmp_path / "none"))
    model = checkpoint(tmp_path / "m", **{"recipe": recipe, "labels": COLOURS, **changes})
    assert main([str(model), "--data", str(data), find.FLAG, "--output", str(tmp_path / "out"), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("evaluate: ")
    assert fault in said
    assert {path.name for path in tmp_path.iterdir()} == {"m", "d.csv"}


def test_flags_that_need_another(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flag needs an output and a checkpoint, --folds needs the flag."""
    for flags, fault in (
        ([find.FLAG], "--find-label-errors needs --output FOLDER"),
        (["--folds", "3"], "--folds is for --find-label-errors"),
        ([find.FLAG, "--output", str(tmp_path / "o")], "is a bundle; --find-label-errors needs the checkpoint"),
    ):
        assert main([str(tiny_bundle), "--data", "d.csv", *flags]) == 2
        assert fault in capsys.readouterr().err


def test_without_cleanlab_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without cleanlab the command says how to install it, before any training."""
    monkeypatch.delitem(sys.modules, "training.label_errors.issues")
    for name in [name for name in sys.modules if name.split(".")[0] == "cleanlab"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    data = written(tmp_path / "d.csv", *((f"text {i}", COLOURS[i % 3]) for i in range(30)))
    model = checkpoint(tmp_path / "m", Recipe(file=data, text_column="text", label_column="label"), COLOURS)
    assert main([str(model), "--data", str(data), find.FLAG, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "evaluate: --find-label-errors needs cleanlab: pip install cleanlab\n"
    assert not (tmp_path / "out").exists()


def test_an_interrupt_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during a fold ends with 130 and leaves no file."""

    def interrupted(_recipe: Recipe, _data: Dataset, _folds: Any, work: Path) -> None:
        (work / "fold-1.unfinished").mkdir()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(out_of_fold, "predict_out_of_fold", interrupted)
    data = written(tmp_path / "d.csv", *((f"text {i}", COLOURS[i % 3]) for i in range(30)))
    model = checkpoint(tmp_path / "m", Recipe(file=data, text_column="text", label_column="label"), COLOURS)
    assert main([str(model), "--data", str(data), find.FLAG, "--output", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.endswith("evaluate: interrupted; nothing was written\n")
    assert {path.name for path in tmp_path.iterdir()} == {"m", "d.csv"}


# Real training


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.mark.slow
def test_planted_errors_come_first(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 240 colours twelve are flipped: ten of them at least are in the first twelve rows, with the truth."""
    lines = [(text, str(colour)) for text, colour, _ in rows(240)]
    flipped = {i: lines[i][1] for i in range(7, 240, 20)}
    for i, colour in flipped.items():
        lines[i] = (lines[i][0], COLOURS[(COLOURS.index(colour) + 1) % 3])
    data = written(tmp_path / "d.csv", *lines)
    recipe = Recipe(file=data, text_column="text", label_column="label", base_model=str(base), **OPTIONS)
    model = checkpoint(tmp_path / "m", recipe, COLOURS)
    out = tmp_path / "out"
    assert main([str(model), "--data", str(data), find.FLAG, "--folds", "3", "--output", str(out)]) == 0
    first = {int(one["row"]) - 1: one["suggested_label"] for one in listed(out)[: len(flipped)]}
    assert len(first.items() & flipped.items()) >= 10
    assert "fold 2 of 3: training on 160 texts, 80 to predict\n" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {files.TABLE, files.RECORD}
    assert {path.name for path in tmp_path.iterdir()} == {"m", "d.csv", "out"}


@pytest.mark.slow
def test_planted_errors_of_several_labels_come_first(tmp_path: Path, base: Path) -> None:
    """Of fruits, six marks are flipped: five of them at least are in the first six rows, with the true set."""
    lines = [[text, *(int(fruit in fruits) for fruit in FRUITS)] for text, _, fruits in rows(240)]
    true = {i: "|".join(rows(240)[i][2]) for i in range(10, 240, 40)}
    for i in true:
        lines[i][1 + i // 40 % 2] = 1 - int(lines[i][1 + i // 40 % 2])
    data = written(tmp_path / "d.csv", *map(tuple, lines), header=("text", *FRUITS))
    recipe = Recipe(file=data, text_column="text", label_columns=FRUITS, base_model=str(base), **OPTIONS)
    recipe = replace(recipe, epochs=16.0)  # fewer leave pears half learned
    model = checkpoint(tmp_path / "m", recipe, FRUITS, MULTI_LABEL)
    out = tmp_path / "out"
    assert main([str(model), "--data", str(data), find.FLAG, "--folds", "3", "--output", str(out)]) == 0
    first = {int(one["row"]) - 1: one["suggested_label"] for one in listed(out)[: len(true)]}
    assert len(first.items() & true.items()) >= 5
