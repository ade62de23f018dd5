"""Training on pairs, numbers and relevance: figures by hand, splits, scales, faults, real runs to a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inferer import ModelInferer
from inferer.bundle.manifest import REGRESSION
from tests.support.architectures import run_export
from tests.support.fruit import write_base
from training.__main__ import main
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.data.reader import parse_dataset, read_dataset
from training.errors import DataError
from training.evaluate import main as evaluate
from training.model import losses
from training.model.losses import is_relevance, make_loss
from training.model.scale import Scale, scale_of, scale_of_kept_head
from training.recipe.recipe import Recipe
from training.report.numbers import measure_numbers
from training.splits.splits import without_shared_texts
from training.splits.stratify import stratified_split

RANKED = Columns("q", "y", text_pair_column="d", numeric=True, group_column="q")


def numbers(values: list[float], groups: tuple[str, ...] = ()) -> Dataset:
    """Return a regression's data set with these numbers."""
    texts = tuple(f"text {i}" for i in range(len(values)))
    return Dataset(texts, ((),) * len(values), ("y",), REGRESSION, RANKED, 0, tuple(values), groups)


def test_errors_by_hand() -> None:
    """The figures of numbers are those counted by hand, beside the baseline of the mean."""
    metrics = measure_numbers(numbers([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 3.0, 2.0, 8.0]))
    assert {name: metrics[name] for name in ("n", "mse", "mae", "r2")} == pytest.approx(
        {"n": 4, "mse": 6 / 4, "mae": 4 / 4, "r2": 1 - 6 / 14}
    )
    assert metrics["spearman"] == pytest.approx(0.8)
    assert metrics["baselines"]["mean"] == pytest.approx({"mse": 14 / 4, "mae": 6 / 4, "r2": 0.0})
    assert all(low <= metrics[name] <= high for name, (low, high) in metrics["intervals"].items())
    assert measure_numbers(numbers([1.0, 1.0]), np.array([1.0, 2.0]))["spearman"] is None


def test_rankings_by_hand() -> None:
    """MRR and nDCG are means over the groups with something to find, of the first ten rows of each."""
    true = [0.0, 1.0, 0.0, 3.0, 0.0, 0.0]
    groups = ("a", "a", "b", "b", "c", "c")
    metrics = measure_numbers(numbers(true, groups), np.array([0.9, 0.5, 0.2, 0.7, 0.1, 0.2]), intervals=False)
    assert metrics["queries"] == 2
    assert metrics["mrr_at_10"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["ndcg_at_10"] == pytest.approx((1 / math.log2(3) + 1) / 2)
    equal = measure_numbers(numbers([1.0, 0.0, 0.0, 0.0], ("a",) * 4), np.zeros(4), intervals=False)
    assert equal["mrr_at_10"] == 1 / 4, "equal scores say nothing, whatever the order of the rows"
    late = measure_numbers(numbers([0.0] * 10 + [1.0], ("a",) * 11), -np.arange(11.0), intervals=False)
    assert (late["mrr_at_10"], late["ndcg_at_10"]) == (0.0, 0.0)


def test_a_scale_goes_into_the_output_layer() -> None:
    """Numbers of any unit are learned with mean 0 and deviation 1; relevance in groups stays as it is."""
    scale = scale_of(numbers([100.0, 300.0]))
    assert (scale, scale.learned(300.0), scale.logits(np.array([[1.0]], np.float32)).tolist()) == (
        Scale(200.0, 100.0),
        1.0,
        [[300.0]],
    )
    assert scale_of(numbers([0.0, 1.0], ("a", "b"))) == Scale()
    assert is_relevance(numbers([0.0, 1.0], ("a", "b")))
    assert not is_relevance(numbers([0.0, 1.0]))
    assert not is_relevance(numbers([0.0, 3.0], ("a", "b")))
    loss, relevance = make_loss(Recipe(), numbers([0.0, 1.0], ("a", "b"))), torch.tensor([[0.0], [1.0]])
    assert float(loss(torch.zeros(2, 1), relevance, torch.tensor([0, 1]))) == pytest.approx(math.log(2))
    assert float(loss(torch.zeros(2, 1), relevance, torch.tensor([0, 0]))) == pytest.approx(2 * math.log(2))
    squared = make_loss(Recipe(), numbers([0.0, 5.0]))
    assert float(squared(torch.zeros(2, 1), torch.tensor([[0.0], [5.0]]), None)) == pytest.approx(12.5)


def test_pairs_and_groups_are_read_and_written_back(tmp_path: Path) -> None:
    """A CSV of pairs with numbers and groups reads back the same; the group is a column of its own, or the query."""
    rows = b"q,d,y,g\nwhat,this,0.5,1\nwhat,that,1,1\nwho,me,0,2\n"
    for group in ("q", "g"):
        columns = Columns("q", "y", text_pair_column="d", numeric=True, group_column=group)
        found = parse_dataset("pairs.csv", rows, columns)
        assert found.texts == (("what", "this"), ("what", "that"), ("who", "me"))
        assert (found.numbers, found.labels, found.problem_type) == ((0.5, 1.0, 0.0), ("y",), "regression")
        assert found.groups == (("what", "what", "who") if group == "q" else ("1", "1", "2"))
        write_csv(tmp_path / "back.csv", found)
        assert read_dataset(tmp_path / "back.csv", columns) == found


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ("a,b,nan", "row 1 (line 2), column 'y': 'nan', expected a number"),
        ("a,b,NaN", "'NaN', expected a number"),
        ("a,b,much", "'much', expected a number"),
        ("a,b,", "an empty label, expected a number"),
        ("a,b,1e999", "'1e999', expected a number"),
        ("a,,1", "row 1 (line 2), column 'd': empty text"),
        (",b,1", "row 1 (line 2), column 'q': empty text"),
    ],
)
def test_faults_of_pairs_and_numbers_are_named(rows: str, faults: str) -> None:
    """Each fault of a cell is named by row and column."""
    with pytest.raises(DataError) as error:
        parse_dataset("pairs.csv", f"q,d,y\n{rows}\n".encode(), Columns("q", "y", text_pair_column="d", numeric=True))
    assert faults in str(error.value)


def test_groups_stay_whole_and_pairs_apart() -> None:
    """A split keeps each group on one side; a pair is the same in either order."""
    groups = tuple(f"g{i // 4}" for i in range(80))
    train, held_out = stratified_split(numbers([float(i) for i in range(80)], groups), 0.2, 0)
    assert not set(train.groups) & set(held_out.groups)
    assert (len(train), len(held_out)) == (64, 16)
    first = parse_dataset("a.csv", b"q,d,y\nA man,a dog,1\none,two,2\n", Columns("q", "y", text_pair_column="d"))
    second = parse_dataset("b.csv", b"q,d,y\na  dog,a MAN,1\n", Columns("q", "y", text_pair_column="d"))
    kept, shared = without_shared_texts(first, second)
    assert (kept.texts, shared) == ((("one", "two"),), 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--text-pair-column", "d"), "column 'y' are numbers; to predict the number itself"),
        (("--problem-type", "regression", "--label-separator", "|"), "learns the numbers of --label-column alone"),
        (("--problem-type", "regression", "--class-weights", "balanced"), "class_weights is for labels"),
        (("--problem-type", "regression", "--threshold", "0.4"), "a regression none"),
        (("--truncation", "only_first"), 'truncation "only_first" is for pairs: give text_pair_column'),
        (("--text-pair-column", "text"), "column 'text' cannot be both the text and its pair"),
        (("--problem-type", "ranking"), "problem_type is 'ranking', expected 'regression'"),
    ],
)  # fmt: skip
def test_wrong_flags_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    """Each contradiction is one sentence before torch is imported."""
    file = tmp_path / "rows.csv"
    file.write_text("text,d,y\n" + "".join(f"text {i},other {i},{i / 4}\n" for i in range(40)))
    given = ("--data", file, "--text-column", "text", "--label-column", "y", "--output", tmp_path / "run")
    assert main([*map(str, given), *flags]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_ranker_is_trained_evaluated_exported_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain commands train a reranker on grouped relevance; checkpoint, evaluation and bundle agree."""
    groups_of_batches: list[int] = []
    listwise = losses.listwise

    def spy(scores: torch.Tensor, relevance: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        groups_of_batches.append(len(groups.unique()))
        return listwise(scores, relevance, groups)

    monkeypatch.setattr(losses, "listwise", spy)
    fruits = ("apple", "banana", "cherry", "damson")
    rows = [(one, f"a {two}", int(one == two)) for one in fruits for two in fruits] * 6
    file = tmp_path / "pairs.csv"
    file.write_text("q,d,y,g\n" + "".join(f"{q},{d},{y},{i // 4}\n" for i, (q, d, y) in enumerate(rows)))
    columns = ("--text-column", "q", "--text-pair-column", "d", "--label-column", "y", "--group-column", "g")
    run = tmp_path / "run"
    arguments = ("--data", file, *columns, "--problem-type", "regression", "--output", run, "--epochs", 1)
    assert main([*map(str, arguments), "--base-model", str(write_base(tmp_path / "base")), "--test-share", "0.25"]) == 2
    # Every pair is on both sides here, so nothing is left to train on; other words make them differ.
    file.write_text("q,d,y,g\n" + "".join(f"{q} {i},{d},{y},{i // 4}\n" for i, (q, d, y) in enumerate(rows)))
    assert main([*map(str, arguments), "--base-model", str(tmp_path / "base"), "--test-share", "0.25"]) == 0
    assert 1 < max(groups_of_batches) <= 9, "a batch of 32 has the rows of 8 groups of 4, or parts of one more"
    config = json.loads((run / "config.json").read_text())
    assert (config["problem_type"], config["inferer_text_pair"], config["inferer_activation"]) == (
        "regression",
        True,
        "sigmoid",
    )
    assert config["sentence_transformers"]["activation_fn"].endswith("Sigmoid")
    report = json.loads((run / "report.json").read_text())
    assert {"mse", "spearman", "mrr_at_10", "ndcg_at_10"} <= set(report)
    assert {"predictions.png", "largest_errors.csv"} <= {file.name for file in run.iterdir()}
    assert "A regression model, fine-tuned from" in (run / "README.md").read_text()
    assert run_export(run, tmp_path / "bundle", "--eval", run / "held_out.csv", *columns) == 0
    model = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    assert (model.text_pair, model.activation, model.labels) == (True, "sigmoid", ("y",))
    found = []
    for folder in (run, tmp_path / "bundle"):
        given = (folder, "--data", run / "held_out.csv", *columns, "--output", tmp_path / f"{folder.name}_report")
        assert evaluate(list(map(str, given))) == 0
        found.append(json.loads((tmp_path / f"{folder.name}_report" / "report.json").read_text()))
    assert found[0]["mse"] == pytest.approx(report["mse"], abs=1e-6)
    assert found[1]["mse"] == pytest.approx(report["mse"], abs=0.05)  # int8


@pytest.mark.slow
def test_numbers_of_any_unit_are_learned(tmp_path: Path) -> None:
    """A regression on numbers around 50,000 gives such numbers after one epoch, and its bundle the same ones."""
    file = tmp_path / "prices.csv"
    file.write_text(
        "text,price\n" + "".join(f"{'apple' if i % 2 else 'cherry'} {i},{50_000 + 1000 * (i % 2)}\n" for i in range(80))
    )
    run = tmp_path / "run"
    given = ("--data", file, "--text-column", "text", "--label-column", "price", "--problem-type", "regression")
    base = write_base(tmp_path / "base")
    assert main([*map(str, given), "--base-model", str(base), "--output", str(run), "--epochs", "1"]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["mae"] < 1500
    assert run_export(run, tmp_path / "bundle") == 0
    model = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    assert (model.activation, model.text_pair) == ("none", False)
    assert 48_000 < model.predict("apple 3").score < 53_000


def test_numbers_of_a_base_start_where_learning_does() -> None:
    """For the squared error a kept head's numbers get mean 0 and deviation 1; for relevance only narrow ones do."""
    wide, narrow = np.array([[-8.0], [8.0]], np.float32), np.array([[0.5], [0.9]], np.float32)
    for logits, relevance in ((wide, False), (narrow, False), (narrow, True)):
        found = scale_of_kept_head(logits, relevance=relevance).logits(logits)
        assert found[:, 0].tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert scale_of_kept_head(wide, relevance=True) == Scale()
    assert scale_of_kept_head(np.ones((3, 1), np.float32), relevance=False) == Scale()


@pytest.mark.slow
def test_a_base_that_gives_a_number_keeps_its_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A regression that goes on from another gives its numbers at once; labels, and another head, begin anew."""
    file = tmp_path / "rows.csv"
    rows = [f"{'apple' if i % 2 else 'cherry'} {i},{i % 2},{5 * (i % 2)}" for i in range(120)]
    file.write_text("text,y,z\n" + "\n".join(rows) + "\n")
    given = ("--data", str(file), "--text-column", "text", "--label-column")
    number = (*given, "y", "--problem-type", "regression")
    first, still = tmp_path / "first", ("--learning-rate", "1e-9", "--epochs", "1")
    base = str(write_base(tmp_path / "base"))
    assert (
        main([*number, "--base-model", base, "--epochs", "8", "--learning-rate", "2e-3", "--output", str(first)]) == 0
    )
    r2 = json.loads((first / "report.json").read_text())["r2"]
    assert r2 > 0.8
    for name, flags, kept in (
        ("same", number, True),
        ("other_unit", (*given, "z", "--problem-type", "regression"), True),
        ("other_head", (*number, "--head", "mlp"), False),
        ("labels", (*given, "y"), False),
    ):
        capsys.readouterr()
        target = tmp_path / name
        assert main([*flags, *still, "--base-model", str(first), "--output", str(target)]) == 0
        assert ("gives a number: its head is kept" in capsys.readouterr().err) is kept, name
        report = json.loads((target / "report.json").read_text())
        if kept:
            assert report["r2"] == pytest.approx(r2, abs=0.15), name
        elif "r2" in report:
            assert report["r2"] < 0.5, name
