"""The parts of a run: rows held out, left out and limited, and no text in two parts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.server import ROOT
from training.data.dataset import Dataset
from training.errors import DataError, TrainingError
from training.recipe.checks import check_recipe
from training.recipe.recipe import Recipe, make_recipe, read_recipe
from training.splits.splits import Splits, read_splits
from training.splits.stratify import plain


def written(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write a CSV and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def parts_of(path: Path, **values: Any) -> Splits:
    """Return the parts of the data at `path`."""
    given = {"file": str(path), "text_column": "text", "label_column": "label", "output": "out", **values}
    given = {name: value for name, value in given.items() if value is not None}
    return read_splits(check_recipe(make_recipe(Recipe(), given, Path(), "test")))


def rows(count: int, labels: str = "ab") -> list[tuple[str, ...]]:
    """Return rows with different texts."""
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(count)]


def texts(part: Dataset | None) -> set[str]:
    """Return the texts of a part, without case and surplus spaces."""
    return set() if part is None else {plain(text) for text in part.texts}


def test_each_row_is_in_one_part(tmp_path: Path) -> None:
    """Training, validation, calibration and held-out rows are all the rows, each once, in their shares."""
    path = written(tmp_path / "d.csv", rows(200))
    parts = parts_of(path, validation_share=0.1, calibration_share=0.2, keep_best=True)
    found = [parts.train, parts.validation, parts.calibration, parts.held_out]
    assert [len(part or ()) for part in found] == [100, 20, 40, 40]
    assert sorted(text for part in found for text in (part.texts if part else ())) == sorted(r[0] for r in rows(200))
    assert parts.watched is parts.validation
    assert parts.facts["counts"] == {"a": 100, "b": 100}
    assert parts.facts["classes"]["held_out"] == {"a": 20, "b": 20}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from(["Ab", "ab", " ab ", "c", "d", "e", "f g", "F  G", "h"]), min_size=40, max_size=80),
    seed=st.integers(0, 1000),
)
def test_no_text_is_both_trained_on_and_held_out(tmp_path: Path, words: list[str], seed: int) -> None:
    """No text of one part is in another, ignoring case and spaces, whatever the data repeats."""
    made = [(f"{word} {i % 7}", "xy"[i % 2]) for i, word in enumerate(words)]
    path = written(tmp_path / "d.csv", made)
    try:
        parts = parts_of(path, seed=seed, validation_share=0.2, keep_best=True)
    except TrainingError as error:  # so few texts that a part would be empty: said, and nothing is trained
        assume("among the other rows too" not in str(error) and "among the held-out texts too" not in str(error))
        raise
    assert not texts(parts.train) & texts(parts.held_out)
    assert not texts(parts.validation) & texts(parts.held_out)
    assert not texts(parts.validation) & texts(parts.train)


def test_duplicates_across_the_split_are_removed_and_reported(tmp_path: Path) -> None:
    """Training rows with a held-out text are left out and counted; the held-out rows stay."""
    train = written(tmp_path / "train.csv", [*rows(20), ("SHARED  text", "a"), ("shared text", "b")])
    test = written(tmp_path / "test.csv", [("Shared text", "a"), ("another", "b")])
    parts = parts_of(train, test_file=str(test))
    assert (len(parts.train), len(parts.held_out)) == (20, 2)
    assert parts.facts["duplicates"] == 2
    assert parts.notes == ("2 rows to train on were left out: their texts are among the held-out ones",)


def test_a_folder_of_two_parts_gives_both(tmp_path: Path) -> None:
    """A folder with train.csv and test.csv gives both parts, with the labels of the training part."""
    written(tmp_path / "train.csv", rows(20))
    written(tmp_path / "test.csv", [("only b here", "b"), ("and here", "b")])
    parts = parts_of(tmp_path)
    assert (len(parts.train), len(parts.held_out)) == (20, 2)
    assert parts.held_out.labels == ("a", "b")
    assert parts.facts["counts"] == {"a": 10, "b": 12}  # of both parts
    assert parts.held_out.targets == ((1,), (1,))
    with pytest.raises(TrainingError, match="has a test part of its own; --test-data cannot be given too"):
        parts_of(tmp_path, test_file=str(tmp_path / "test.csv"))
    written(tmp_path / "test.csv", [("odd", "c")])
    with pytest.raises(DataError, match="label 'c' is not one of a, b"):
        parts_of(tmp_path)


def test_a_folder_of_tables_needs_columns(tmp_path: Path) -> None:
    """A folder of texts needs no column names; a folder of tables does, and the error names them."""
    for part in ("train", "test"):
        for label in "ab":
            for i in range(6):
                file = tmp_path / "texts" / part / label / f"{i}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{part} {label} {i}", encoding="utf-8")
    parts = parts_of(tmp_path / "texts", text_column=None, label_column=None)
    assert (len(parts.train), len(parts.held_out), parts.train.labels) == (12, 12, ("a", "b"))
    (tmp_path / "tables").mkdir()
    for part in ("train", "test"):
        written(tmp_path / "tables" / f"{part}.csv", rows(10))
    with pytest.raises(TrainingError, match=r"--text-column is missing: the column of .*train.csv with the texts"):
        parts_of(tmp_path / "tables", text_column=None, label_column=None)


def test_rows_can_be_limited(tmp_path: Path) -> None:
    """train_rows and test_rows take the first rows of the shuffled parts; larger numbers are refused."""
    path = written(tmp_path / "d.csv", rows(100))
    parts, again = (parts_of(path, train_rows=30, test_rows=10, seed=123) for _ in range(2))
    assert (len(parts.train), len(parts.held_out)) == (30, 10)
    assert parts.train == again.train
    whole = parts_of(path, seed=123)
    order = np.random.default_rng(123).permutation(len(whole.held_out))[:10]
    assert parts.held_out.texts == tuple(whole.held_out.texts[i] for i in order)
    with pytest.raises(TrainingError, match=r"^test_rows is 21, expected 0 \(all\) to 20"):
        parts_of(path, test_rows=21)


def test_rows_are_limited_once_the_others_are_taken(tmp_path: Path) -> None:
    """train_rows limits the training rows after the validation rows are taken."""
    parts = parts_of(written(tmp_path / "d.csv", rows(200)), train_rows=50, validation_share=0.1, keep_best=True)
    assert (len(parts.train), len(parts.validation or ())) == (50, 20)


def test_lists_of_labels_are_multi_label(tmp_path: Path) -> None:
    """Lists of labels are multi-label without a separator: they take pos_weight, not class_weights."""
    path = tmp_path / "d.jsonl"
    made = [{"text": f"text {i}", "label": [["a"], ["a", "b"], []][i % 3]} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    parts = parts_of(path, pos_weight="balanced", allow_unlabelled=True)
    assert parts.train.columns.separator == "|"
    with pytest.raises(TrainingError, match="class_weights is for single-label data"):
        parts_of(path, class_weights="balanced", allow_unlabelled=True)


def test_ratings_become_two_labels_and_empty_texts_are_counted(tmp_path: Path) -> None:
    """Ratings become negative or positive by positive_from; with drop_empty rows without text are counted."""
    made = [(f"review {i}" if i % 10 else " ", str(1 + i % 5)) for i in range(100)]
    parts = parts_of(written(tmp_path / "d.csv", made), positive_from=4, drop_empty=True)
    assert parts.train.labels == ("negative", "positive")
    assert parts.facts["dropped"] == 10
    assert parts.facts["counts"] == {"negative": 50, "positive": 40}
    assert "10 rows without text were left out" in parts.notes


def test_a_data_set_of_the_hub_brings_its_own_split(tmp_path: Path) -> None:
    """The walkthrough's recipe reads train and test of a data set; --data replaces it and is split."""
    folder = tmp_path / "rotten"
    folder.mkdir()
    for part, made in (("train", rows(40)), ("test", [(f"held {i}", "ab"[i % 2]) for i in range(12)])):
        table = pa.table({"text": [row[0] for row in made], "label": [row[1] for row in made]})
        pq.write_table(table, folder / f"{part}.parquet")
    recipe = read_recipe(ROOT / "recipes" / "rotten_tomatoes.toml")
    changed = {"dataset": str(folder), "train_rows": 20, "test_rows": 10}
    parts = read_splits(check_recipe(make_recipe(recipe, changed, Path(), "test")))
    assert (len(parts.train), len(parts.held_out)) == (20, 10)
    assert texts(parts.held_out) <= {f"held {i}" for i in range(12)}
    changed |= {"file": str(folder / "train.parquet"), "test_rows": 5}
    parts = read_splits(check_recipe(make_recipe(recipe, changed, Path(), "test")))
    assert len(parts.held_out) == 5
    assert texts(parts.held_out) <= {f"text number {i}" for i in range(40)}


def test_labels_without_rows_are_refused_where_the_split_is_given(tmp_path: Path) -> None:
    """With a given test part, a label without a training row, or a single label, stops the run."""
    train, test = written(tmp_path / "train.csv", rows(10)), written(tmp_path / "test.csv", [("x", "a")])
    with pytest.raises(DataError, match="label 'c' has no row to train on"):
        parts_of(train, test_file=str(test), labels=["a", "b", "c"])
    rare = written(tmp_path / "rare.csv", [*rows(100), *((f"rare {i}", "c") for i in range(5))])
    with pytest.raises(DataError, match="label 'c' has no row to train on"):
        parts_of(rare, train_rows=10)
    one = written(tmp_path / "one.csv", rows(10, "a"))
    with pytest.raises(DataError, match="only one label, 'a'; a classifier needs at least 2"):
        parts_of(one, test_file=str(test))
