"""The preparation of query_type: names become train.csv and test.csv, split before anything is added."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from recipes.query_type.name_lists import read_name_list, read_name_lists
from recipes.query_type.prepare import EXTRA_NAMES, LISTS, main
from recipes.query_type.synonyms import near_copy
from tests.support.server import ROOT
from tests.support.wordnet_folder import write_wordnet
from training.errors import DataError
from training.recipe.checks import check_recipe
from training.recipe.recipe import make_recipe, read_recipe
from training.splits.splits import read_splits
from training.splits.stratify import stratified_split


def test_name_lists_are_read(tmp_path: Path) -> None:
    """Names are read one per line, in the lists' order; comments, blank lines and a byte order mark are ignored."""
    (tmp_path / "b.txt").write_text("\ufeff# brands\n\n Acme \nZeta\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("\ufeffcafé\n", encoding="utf-8")
    data = read_name_lists({"brand": tmp_path / "b.txt", "area": tmp_path / "a.txt"})
    assert data.labels == ("brand", "area")
    assert data.texts == ("Acme", "Zeta", "café")
    assert data.targets == ((0,), (0,), (1,))


def test_a_name_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    """A name in two lists, or twice in one, is a fault, ignoring case and spacing."""
    (tmp_path / "a.txt").write_text("Big  Shop\nOther\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("third\nbig shop\nTHIRD\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_name_lists({"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"})
    assert caught.value.path == tmp_path / "b.txt"
    assert caught.value.faults == [
        "line 2: 'big shop' stands already in a.txt line 1",
        "line 3: 'THIRD' stands already in b.txt line 1",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"# only\n", "has no names"), (b"fine\ncaf\xe9\n", "line 2 is not UTF-8")],
)
def test_a_list_without_names_or_not_utf8_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    """A list without names is refused, and one that is not UTF-8 with the line."""
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_name_lists({"a": tmp_path / "a.txt"})
    assert caught.value.faults == [fault]


def raw_files(folder: Path) -> Path:
    """Write the three raw files, small."""
    folder.mkdir()
    brands = [f"brand{chr(97 + i)}" for i in range(26)]
    goods = ("Milk", "Sofa", "Yogurt", "Soda", "Cookie", "Bread", "Rice", "Tea", "Salt", "Soap")
    shops = read_name_list(EXTRA_NAMES["retailer"])[:10]  # two are held out, and must not come back as extra names
    offers = [("o", shop, brand) for shop, brand in zip(shops, brands, strict=False)]
    tables = {
        "offer_retailer.csv": [("OFFER", "RETAILER", "BRAND"), *offers, ("o", "BRANDA", "BRANDA")],
        "brand_category.csv": [("BRAND", "RECEIPTS"), *((brand.upper(), 1) for brand in brands)],
        "categories.csv": [("PRODUCT_CATEGORY", "IS_CHILD_CATEGORY_TO"), *((name, "") for name in goods)],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def read(path: Path) -> list[tuple[str, str]]:
    """Return text and label of each row."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def test_the_project_s_lists_are_split_and_nothing_else(tmp_path: Path) -> None:
    """Without options train.csv and test.csv hold the project's names, split with seed 0."""
    assert main(["--output", str(tmp_path / "out")]) == 0
    names = read_name_lists(LISTS)
    for part, name in zip(stratified_split(names, 0.2, 0), ("train.csv", "test.csv"), strict=True):
        labels = [names.labels[row[0]] for row in part.targets]
        assert read(tmp_path / "out" / name) == list(zip(part.texts, labels, strict=True))
    assert len(read(tmp_path / "out" / "test.csv")) == 373


def test_the_recipe_trains_on_the_prepared_rows(tmp_path: Path) -> None:
    """The recipe reads the prepared folder: all rows of both files, the labels in the recipe's order."""
    assert main(["--output", str(tmp_path / "out")]) == 0
    recipe = read_recipe(ROOT / "recipes" / "query_type.toml")
    assert Path(str(recipe.file)).resolve() == ROOT / "data" / "prepared" / "query_type"
    splits = read_splits(check_recipe(make_recipe(recipe, {"file": str(tmp_path / "out")}, Path(), "test")))
    assert splits.train.labels == tuple(LISTS)
    assert list(splits.train.texts) == [text for text, _ in read(tmp_path / "out" / "train.csv")]
    assert list(splits.held_out.texts) == [text for text, _ in read(tmp_path / "out" / "test.csv")]


def test_the_raw_files_are_enriched_and_balanced_after_the_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, synonyms and repeated rows go to the training rows alone, and the report tells of them."""
    senses = [("noun.food", ("milk", "moo_juice")), ("noun.artifact", ("sofa", "couch"))]
    senses += [("noun.food", ("soda", "pop")), ("noun.food", ("bread", "staff_of_life"))]
    wordnet = write_wordnet(tmp_path / "wordnet", senses)
    raw, out = raw_files(tmp_path / "raw"), tmp_path / "out"
    given = ["--data", str(raw), "--wordnet", str(wordnet), "--output", str(out)]
    assert main([*given, "--rows-each", "2000"]) == 0
    train, test = read(out / "train.csv"), read(out / "test.csv")
    assert Counter(label for _, label in train) == dict.fromkeys(LISTS, 2000)
    assert Counter(label for _, label in test) == {"retailer": 2, "brand": 6, "category": 2}
    assert not {near_copy(text) for text, _ in train} & {near_copy(text) for text, _ in test}
    assert {text for text, _ in train} & {"moo juice", "couch", "pop", "staff of life"}
    said = capsys.readouterr().err
    assert "    retailer: branda" in said
    assert "added to retailer: " in said
    assert "balanced to 2000 training rows per class; before: retailer " in said
    assert main([*given, "--overwrite", "--no-synonyms", "--rows-each", "0"]) == 0
    train = read(out / "train.csv")
    assert len(train) == len(set(train))
    assert not {text for text, _ in train} & {"moo juice", "couch", "staff of life"}
    assert read(out / "test.csv") == test


def test_lists_of_one_s_own_are_split(tmp_path: Path) -> None:
    """A user's lists replace the project's, and the held-out share can be chosen."""
    for label in "ab":
        (tmp_path / f"{label}.txt").write_text("".join(f"{label} {i}\n" for i in range(20)))
    lists = [part for label in "ab" for part in ("--list", f"{label}={tmp_path / label}.txt")]
    assert main([*lists, "--test-share", "0.5", "--output", str(tmp_path / "out")]) == 0
    assert Counter(label for _, label in read(tmp_path / "out" / "test.csv")) == {"a": 10, "b": 10}


def test_mistakes_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of the data exits with 2 and one line; an existing folder stays as it is."""
    out = tmp_path / "out"
    assert main(["--data", str(tmp_path / "none"), "--output", str(out)]) == 2
    assert "offer_retailer.csv: cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "few.txt").write_text("x\ny\n")
    assert main(["--list", f"a={tmp_path / 'few.txt'}", "--output", str(out)]) == 2
    assert "label 'a' has 2 rows" in capsys.readouterr().err
    assert main(["--data", str(raw_files(tmp_path / "raw")), "--wordnet", str(tmp_path), "--output", str(out)]) == 2
    assert f"prepare: wordnet {tmp_path}: " in capsys.readouterr().err
    assert not out.exists()
    assert main(["--output", str(out)]) == 0
    assert main(["--output", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    with (tmp_path / "raw" / "categories.csv").open("w") as file:
        file.write("PRODUCT_CATEGORY,IS_CHILD_CATEGORY_TO\n")
    assert main(["--data", str(tmp_path / "raw"), "--output", str(tmp_path / "other")]) == 2
    assert "categories.csv: has a header but no rows" in capsys.readouterr().err


def test_a_folder_of_the_user_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--overwrite replaces only a folder with the command's own record, which names options and counts."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "test.csv").write_text("precious")
    assert main(["--output", str(mine), "--overwrite"]) == 2
    assert "prepare.json is missing" in capsys.readouterr().err
    assert (mine / "test.csv").read_text() == "precious"
    for seed in ("1", "2"):
        assert main(["--output", str(tmp_path / "out"), "--overwrite", "--seed", seed]) == 0
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert record["options"]["seed"] == 2
    assert sum(record["test"].values()) == 373


@pytest.mark.parametrize(
    "given",
    [
        ("--rows-each", "5"),
        ("--no-synonyms",),
        ("--data", "d", "--list", "a=b"),
        ("--list", "a"),
        ("--list", "a=b", "--list", "a=c"),
        ("--test-share", "2"),
        ("--seed", "9" * 400),
        ("--seed", "-1"),
        ("--data", "d", "--rows-each", "9" * 400),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, given: tuple[str, ...]) -> None:
    """Options for the raw files alone, both sources at once and values out of range are usage errors."""
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "out"), *given])
