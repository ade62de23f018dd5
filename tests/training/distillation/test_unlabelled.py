"""Texts without labels, tables of probabilities, and the options that go together with a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.fruit import write_table
from training.data.dataset import Dataset
from training.errors import DataError, TrainingError
from training.recipe.checks import check_recipe
from training.recipe.recipe import Recipe, as_toml, read_recipe
from training.splits.splits import Splits, read_splits


def splits(tmp_path: Path, **options: object) -> Splits:
    """Return the parts of a run on the colours, with the other options given."""
    table = write_table(tmp_path / "fruit.csv")
    recipe = Recipe(file=table, text_column="text", label_column="colour", output=tmp_path / "m", **options)  # type: ignore[arg-type]
    return read_splits(check_recipe(recipe))


def test_unlabelled_texts_are_new_and_each_once(tmp_path: Path) -> None:
    """Texts that are trained on, or held out in any part, are left out of the unlabelled ones, as are repetitions."""
    first = splits(tmp_path, validation_share=0.2, keep_best=True)
    assert first.validation is not None
    inside = [part.texts[0] for part in (first.train, first.held_out, first.validation)]
    lines = ["text", *map(str, inside), "quite new", "  Quite  NEW ", "another"]
    (tmp_path / "more.csv").write_text("\n".join(lines), encoding="utf-8")
    found = splits(
        tmp_path, validation_share=0.2, keep_best=True, teacher=("somewhere",), unlabelled=tmp_path / "more.csv"
    )
    assert found.unlabelled.texts == ("quite new", "another")
    assert found.unlabelled.probabilities is None
    assert "2 texts of more.csv were left out: they are among the held-out ones" in found.notes
    assert found.train == first.train


def test_unlabelled_texts_have_the_encoding_of_the_data(tmp_path: Path) -> None:
    """A CSV without labels is read in --encoding, and JSON Lines are UTF-8 always."""
    (tmp_path / "more.csv").write_bytes("text\nÜberaus neu\n".encode("latin-1"))
    (tmp_path / "more.jsonl").write_text('{"text": "Überaus neu"}', encoding="utf-8")
    for name in ("more.csv", "more.jsonl"):
        found = splits(tmp_path, teacher=("somewhere",), unlabelled=tmp_path / name, encoding="latin-1")
        assert found.unlabelled.texts == ("Überaus neu",)


def test_held_out_rows_of_another_run_are_utf8(tmp_path: Path) -> None:
    """Beside data in Latin-1 the rows that a run held out are read as the UTF-8 that they are."""
    table = write_table(tmp_path / "fruit.csv")
    table.write_text(table.read_text(encoding="utf-8").replace("word1 ", "größer "), encoding="latin-1")
    (tmp_path / "held_out.csv").write_text("text,colour\nÜberaus neu,red\nEtwas,green\nnichts,blue\n", encoding="utf-8")
    recipe = Recipe(
        file=table, test_file=tmp_path / "held_out.csv", text_column="text", label_column="colour",
        output=tmp_path / "m", encoding="latin-1",
    )  # fmt: skip
    found = read_splits(check_recipe(recipe))
    assert found.held_out.texts[0] == "Überaus neu"
    assert any("größer" in text for text in found.train.texts)


def test_a_folder_of_texts_learns_from_tables_and_texts(tmp_path: Path) -> None:
    """Data without a text column is joined by further texts and by a table of probabilities in a column `text`."""
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "data" / label / f"{i}.txt").write_text(f"{label} {i}", encoding="utf-8")
    (tmp_path / "more.csv").write_text("text\nquite new\n", encoding="utf-8")
    (tmp_path / "scores.csv").write_text("text,a,b\nquite new,0.5,0.5\n", encoding="utf-8")
    given = {"file": tmp_path / "data", "output": tmp_path / "m"}
    for taught in (
        {"teacher": ("somewhere",), "unlabelled": tmp_path / "more.csv"},
        {"teacher": (str(tmp_path / "scores.csv"),)},
    ):
        found = read_splits(check_recipe(Recipe(**given, **taught)))  # type: ignore[arg-type]
        assert found.unlabelled.texts == ("quite new",)


def test_probabilities_belong_to_their_texts_and_labels(tmp_path: Path) -> None:
    """A table's columns are found by label; texts that it lacks have NaN, and those it adds come behind."""
    train = splits(tmp_path).train
    row = f"{str(train.texts[3]).upper()},0.1,0.2,0.7"
    (tmp_path / "scores.csv").write_text(f"text,green,red,blue\n{row}\nnew,0,0,1.004\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'blue': 1.004, expected a probability from 0 to 1$"):
        splits(tmp_path, teacher=(str(tmp_path / "scores.csv"),))
    (tmp_path / "scores.csv").write_text(f"text,green,red,blue\n{row}\nnew,0.25,0.25,0.5\n", encoding="utf-8")
    found = splits(tmp_path, teacher=(str(tmp_path / "scores.csv"),))
    values = found.unlabelled.probabilities
    assert (train.labels, found.unlabelled.texts) == (("blue", "green", "red"), ("new",))
    assert values is not None
    assert values.shape == (len(train) + 1, 3)
    assert values[3].tolist() == [0.7, 0.1, 0.2]
    assert values[-1].tolist() == [0.5, 0.25, 0.25]
    assert np.isnan(values[[i for i in range(len(train)) if i != 3]]).all()
    told = f"{len(train) - 1} of {len(train)} training texts are not in scores.csv, and learn from their labels alone"
    assert told in found.notes


def test_labels_that_are_independent_need_not_add_up_to_1(tmp_path: Path) -> None:
    """Probabilities of a multi-label table may have any sum."""
    table = write_table(tmp_path / "fruit.csv")
    (tmp_path / "scores.csv").write_text("text,apple,pear\nnew,0.9,0.8\n", encoding="utf-8")
    recipe = Recipe(
        file=table, text_column="text", label_columns=("apple", "pear"), output=tmp_path / "m",
        teacher=(str(tmp_path / "scores.csv"),),
    )  # fmt: skip
    values = read_splits(check_recipe(recipe)).unlabelled.probabilities
    assert values is not None
    assert values[-1].tolist() == [0.9, 0.8]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,green,red\nx,0.5,0.5\n", "no column 'blue'; the columns are 'text', 'green', 'red'"),
        ("text,green,red,blue\nx,0.5,0.4,0.05\n", r"row 1 \(line 2\), column 'red': these and others add up to 0.95"),
        ("text,green,red,blue\nx,half,0.4,0.1\n", r"column 'green': 'half', expected a number"),
        ("text,green,red,blue\n ,0.5,0.4,0.1\n", r"column 'text': empty text"),
        ("text,green,red,blue\n", "has a header but no rows"),
        ("text,green,red,blue\ncaf\udce9,0.5,0.4,0.1\n", "byte 0xe9 is not UTF-8"),
    ],
)
def test_faults_of_a_table_of_probabilities(tmp_path: Path, content: str, message: str) -> None:
    """Missing columns, sums other than 1, words, and empty texts are named by row and column."""
    (tmp_path / "scores.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        splits(tmp_path, teacher=(str(tmp_path / "scores.csv"),))


def test_a_table_of_held_out_texts_alone_is_refused(tmp_path: Path) -> None:
    """A table that has none of the training texts, and adds none, teaches nothing."""
    text = splits(tmp_path).held_out.texts[0]
    (tmp_path / "scores.csv").write_text(f"text,green,red,blue\n{text},0,0,1\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="has none of the texts to train on, and adds none$"):
        splits(tmp_path, teacher=(str(tmp_path / "scores.csv"),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabelled": Path("more.csv")}, "unlabelled is for learning from a teacher: give teacher too"),
        ({"alpha": 0.9}, "alpha is for learning from a teacher: give teacher too"),
        ({"temperature": 4.0}, "temperature is for learning from a teacher: give teacher too"),
        ({"teacher": ("a", "p.csv")}, "teacher names p.csv and others; expected checkpoints, or one table"),
        (
            {"teacher": ("p.parquet",), "unlabelled": Path("more.csv")},
            "unlabelled cannot be given with p.parquet, which has its own texts",
        ),
        (
            {"teacher": ("p.csv",), "problem_type": "regression"},
            "p.csv has probabilities; a regression learns from a checkpoint",
        ),
        (
            {"teacher": ("a",), "group_column": "g", "problem_type": "regression"},
            "teacher cannot be given with group_column: ranked rows learn from their numbers",
        ),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object], message: str) -> None:
    """Options of a teacher without one, and teachers that cannot teach, are refused before the data is read."""
    recipe = Recipe(file=Path("x.csv"), text_column="t", label_column="l", output=Path("m"), **options)  # type: ignore[arg-type]
    with pytest.raises(TrainingError) as caught:
        check_recipe(recipe)
    assert str(caught.value) == message


def test_a_mistyped_teacher_is_named_before_the_data_is_read(tmp_path: Path) -> None:
    """A missing folder beside others, or a missing table, is told at once; a name of the hub is not looked for."""
    given = {"file": Path("x.csv"), "text_column": "t", "label_column": "l", "output": Path("m")}
    for name in (tmp_path / "lrage", tmp_path / "scores.csv"):
        with pytest.raises(TrainingError, match=f"^teacher {name}: does not exist; expected a checkpoint's folder"):
            check_recipe(Recipe(**given, teacher=(str(name),)))  # type: ignore[arg-type]
    check_recipe(Recipe(**given, teacher=("org/model",)))  # type: ignore[arg-type]


def test_a_teachers_address_is_recorded_without_its_secrets() -> None:
    """User, password and query of an address stay out of training.json and recipe.toml."""
    recipe = Recipe(teacher=("https://user:secret@host/t.csv?sig=hidden",))
    for written in (str(recipe.as_dict()), as_toml(recipe)):
        assert "host/t.csv" in written
        assert "secret" not in written
        assert "hidden" not in written


def test_a_recipe_keeps_its_teachers(tmp_path: Path) -> None:
    """Folders and files beside a recipe are found from anywhere, and names of the hub stay names."""
    (tmp_path / "big").mkdir()
    (tmp_path / "r.toml").write_text('[training]\nteacher = ["big", "org/model"]\n', encoding="utf-8")
    recipe = read_recipe(tmp_path / "r.toml")
    assert recipe.teacher == (str(tmp_path / "big"), "org/model")
    (tmp_path / "again.toml").write_text(as_toml(recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "again.toml").teacher == recipe.teacher


def test_without_a_teacher_nothing_is_added(tmp_path: Path) -> None:
    """A run without these options has the rows that it had."""
    found = splits(tmp_path)
    assert isinstance(found.train, Dataset)
    assert (found.unlabelled.texts, found.unlabelled.probabilities) == ((), None)
