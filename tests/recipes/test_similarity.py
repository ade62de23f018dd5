"""The pairs of a ranker's first step: the texts of a table with the similarity that an encoder finds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from inferer.tokens.texts import sides_of
from recipes.trec_qa.similarity import COLUMNS, embeddings, main, similar_pairs
from tests.support.architectures import checkpoint
from tests.support.fruit import write_base
from training.__main__ import main as train
from training.data.dataset import Columns, Dataset
from training.data.reader import read_dataset

pytestmark = pytest.mark.usefixtures("own_signals")
QUESTIONS = ("red apple", "green pear", "yellow plum")
ANSWERS = tuple(f"{colour} {fruit}" for colour in ("blue", "dark red", "old") for fruit in ("apple", "pear", "plum"))


def write_table(path: Path) -> Path:
    """Write questions with three answers each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("question", "answer", "relevant"))
        writer.writerows((QUESTIONS[i % 3], answer, int(i < 3)) for i, answer in enumerate(ANSWERS))
    return path


def test_pairs_have_the_cosine_of_their_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each pair of the table and of near texts is written once, with the cosine, and reads back for training."""
    base, table, out = write_base(tmp_path / "base"), write_table(tmp_path / "table.csv"), tmp_path / "made" / "out.csv"
    given = ["--data", str(table), "--output", str(out), "--base-model", str(base)]
    assert main(given) == 0
    found = read_dataset(out, COLUMNS)
    assert f"wrote {len(found)} pairs of 12 texts to {out}" in capsys.readouterr().err
    seen = {frozenset(pair) for pair in found.texts}
    assert len(seen) == len(found.texts)
    assert {frozenset((QUESTIONS[i % 3], answer)) for i, answer in enumerate(ANSWERS)} <= seen
    vectors = dict(zip((*QUESTIONS, *ANSWERS), embeddings([*QUESTIONS, *ANSWERS], str(base)), strict=True))
    alone = embeddings([ANSWERS[4]], str(base))[0]
    assert vectors[ANSWERS[4]] == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(alone) == pytest.approx(1)
    for pair, number in zip(found.texts, found.numbers, strict=True):
        first, second = sides_of(pair)
        assert number == pytest.approx(float(vectors[first] @ vectors[second]), abs=2e-5)
    again = out.read_bytes()
    assert main(given) == 2
    assert "is there already; --overwrite replaces it" in capsys.readouterr().err
    assert main([*given, "--overwrite"]) == 0
    assert out.read_bytes() == again


def test_each_text_meets_its_nearest() -> None:
    """A text is paired with the nearest one, never with itself, and a pair has one order."""
    texts = [f"text {i}" for i in range(60)]
    angles = np.linspace(0, 3, 60)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    columns = Columns("q", "y", text_pair_column="d", numeric=True)
    given = Dataset((("text 0", "text 59"),), ((),), ("y",), "regression", columns, numbers=(1.0,))
    pairs = [
        tuple(sorted(int(side.split()[1]) for side in sides_of(p))) for p in similar_pairs(given, vectors, texts).texts
    ]
    assert len(set(pairs)) == len(pairs)
    assert (0, 59) in pairs
    assert all(a != b for a, b in pairs)
    assert all(any(abs(a - b) == 1 for a, b in pairs if i in (a, b)) for i in range(60))
    of_the_query = [pair for pair in pairs if 0 in pair]
    assert len(of_the_query) > 30, "the query, of which there are few, has more pairs"


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--text-column", "query", "column 'query'"),
        ("--base-model", "/nowhere", "base model /nowhere: no such folder"),
        ("--data", "/nowhere.csv", "/nowhere.csv"),
    ],
)
def test_mistakes_are_sentences(
    flag: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong column, model or file is named, and nothing is written."""
    given = {"--data": str(write_table(tmp_path / "table.csv")), "--output": str(tmp_path / "out.csv"), flag: value}
    assert main([part for item in given.items() for part in item]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.slow
def test_the_three_steps_of_a_ranker(
    test_data: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe's commands lead from questions to a ranker, each step on the output of the one before."""
    encoder = checkpoint(tmp_path_factory, "bert")
    questions, pairs, similarity = test_data / "trec_qa/train.csv", tmp_path / "pairs.csv", tmp_path / "similarity"
    assert main(["--data", str(questions), "--output", str(pairs), "--base-model", str(encoder)]) == 0
    few = ("--epochs", "1", "--train-rows", "100", "--test-rows", "40")
    first = ["--config", "recipes/trec_qa/similarity.toml", "--data", str(pairs), "--output", str(similarity)]
    assert train([*first, "--base-model", str(encoder), *few]) == 0
    capsys.readouterr()
    second = ["--config", "recipes/trec_qa.toml", "--data", str(questions), "--test-share", "0.2", *few]
    assert train([*second, "--base-model", str(similarity), "--output", str(tmp_path / "ranker")]) == 0
    assert f"{similarity} gives a number: its head is kept" in capsys.readouterr().err
    assert json.loads((tmp_path / "ranker" / "report.json").read_text())["queries"] > 0
    assert json.loads((tmp_path / "ranker" / "config.json").read_text())["inferer_activation"] == "sigmoid"
