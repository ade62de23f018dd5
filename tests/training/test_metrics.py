"""The figures of a set of predictions, by hand and against scikit-learn; the threshold of best F1; the table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.report.intervals import wilson
from training.report.metrics import measure
from training.report.tables import as_table
from training.report.thresholds import best_f1


def single(targets: list[int], labels: tuple[str, ...]) -> Dataset:
    """Return a single-label data set with these targets."""
    rows = tuple((target,) for target in targets)
    return Dataset(("text",) * len(rows), rows, labels, SINGLE_LABEL, Columns("text", "label"))


def multi(flags: np.ndarray) -> Dataset:
    """Return a multi-label data set with these flags [rows, labels]."""
    labels = tuple(f"l{i}" for i in range(flags.shape[1]))
    rows = tuple(tuple(int(k) for k in np.flatnonzero(row)) for row in flags)
    return Dataset(("text",) * len(rows), rows, labels, MULTI_LABEL, Columns("text", label_columns=labels))


def named(predicted: list[int], labels: int) -> Predictions:
    """Return single-label predictions of the labels `predicted`."""
    return predictions_from_logits(np.eye(labels, dtype=np.float32)[predicted] - 3.0, SINGLE_LABEL)


# truth a a a a b b c: a is right 3 of 4, b 1 of 2, c 0 of 1
TRUTH, PREDICTED = [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 0, 0]


def test_single_label_figures() -> None:
    """Accuracy, macro-F1, the baseline and each label's figures are those counted by hand."""
    metrics = measure(single(TRUTH, ("a", "b", "c")), named(PREDICTED, 3))
    # a: 5 predicted, 3 of them right, 4 true; b: 2 predicted, 1 right, 2 true; c: never predicted
    found = {label: {k: v for k, v in row.items() if k != "f1_interval"} for label, row in metrics["labels"].items()}
    assert metrics["n"] == 7
    assert metrics["accuracy"] == pytest.approx(4 / 7)
    assert found["a"] == pytest.approx({"precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "n": 4, "given": 5})
    assert found["b"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "n": 2, "given": 2})
    assert found["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 1, "given": 0}
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics["weighted_f1"] == pytest.approx((4 * 2 / 3 + 2 * 1 / 2 + 0) / 7)
    # a row of a weighs 1/4, of b 1/2, of c 1: 2.25 given to a with 0.75 right, 0.75 to b with 0.5 right
    assert metrics["balanced_macro_f1"] == pytest.approx((1.5 / 3.25 + 1 / 1.75 + 0) / 3)
    assert metrics["majority_accuracy"] == pytest.approx(4 / 7)
    # always a: 7 given, 4 of them right: F1 8/11
    always = {"label": "a", "accuracy": 4 / 7, "macro_f1": 8 / 33, "weighted_f1": 32 / 77, "balanced_macro_f1": 1 / 6}
    assert metrics["baselines"]["largest_class"] == pytest.approx(always)
    assert list(metrics["labels"]) == ["a", "b", "c"]
    assert "roc_auc" not in metrics


def test_a_label_without_held_out_rows_counts_in_macro_f1() -> None:
    """A label without held-out rows and predictions counts as 0 in macro-F1 and does not shift others."""
    metrics = measure(single([0, 2, 2], ("a", "gap", "c")), named([0, 2, 2], 3))
    gap = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0, "given": 0, "f1_interval": None}
    assert metrics["labels"]["gap"] == gap
    assert (metrics["labels"]["c"]["f1"], metrics["labels"]["c"]["n"]) == (1.0, 2)
    assert metrics["macro_f1"] == pytest.approx(2 / 3)
    # In every resample all labels are right: the interval is one point.
    assert metrics["intervals"]["macro_f1"] == pytest.approx([2 / 3, 2 / 3])


def random_predictions(problem_type: str, rows: int, labels: int, seed: int) -> tuple[Dataset, Predictions, np.ndarray]:
    """Return data, predictions better than chance, and the truth: ids [rows], or flags [rows, labels]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(rows, labels))
    if problem_type == SINGLE_LABEL:
        ids = rng.integers(0, labels, rows)
        return (
            single(ids.tolist(), tuple(map(str, range(labels)))),
            predictions_from_logits(noise + np.eye(labels)[ids] * 2, problem_type),
            ids,
        )
    flags = (rng.random((rows, labels)) < 0.3).astype(int)
    return multi(flags), predictions_from_logits(noise + 3 * flags - 1.5, problem_type), flags


@pytest.mark.parametrize("labels", [2, 5])
def test_single_label_figures_are_scikit_learns(labels: int) -> None:
    """Every single-label figure is the one that scikit-learn computes."""
    dataset, predictions, truth = random_predictions(SINGLE_LABEL, 300, labels, seed=labels)
    metrics, predicted = measure(dataset, predictions), predictions.chosen.argmax(axis=1)
    assert metrics["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    for average in ("macro", "weighted"):
        assert metrics[f"{average}_f1"] == pytest.approx(sk.f1_score(truth, predicted, average=average))
    assert metrics["log_loss"] == pytest.approx(sk.log_loss(truth, predictions.scores))
    shares = np.tile(np.bincount(truth) / 300, (300, 1))
    assert metrics["baselines"]["class_shares"]["log_loss"] == pytest.approx(sk.log_loss(truth, shares))
    report = sk.classification_report(truth, predicted, output_dict=True)
    for label, row in metrics["labels"].items():
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"), ("n", "support")):
            assert row[ours] == pytest.approx(report[label][theirs])
    if labels == 2:
        assert metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, predictions.scores[:, 1]))


def test_multi_label_figures_are_scikit_learns() -> None:
    """Every multi-label figure is the one that scikit-learn computes, and so are the baselines'."""
    dataset, predictions, truth = random_predictions(MULTI_LABEL, 300, 4, seed=4)
    metrics, chosen = measure(dataset, predictions), predictions.chosen.astype(int)
    common = np.zeros_like(truth)
    common[:, truth.sum(axis=0).argmax()] = 1
    none = np.zeros_like(truth)
    beside = [metrics["baselines"]["commonest_label"], metrics["baselines"]["no_label"]]
    for figures, given_labels in zip([metrics, *beside], [chosen, common, none], strict=True):
        for average in ("macro", "micro"):
            assert figures[f"{average}_f1"] == pytest.approx(
                sk.f1_score(truth, given_labels, average=average, zero_division=0.0)
            )
        assert figures["accuracy"] == pytest.approx(sk.accuracy_score(truth, given_labels))
        assert figures["hamming_loss"] == pytest.approx(sk.hamming_loss(truth, given_labels))
    assert metrics["subset_accuracy"] == metrics["accuracy"]
    assert metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, predictions.scores, average="macro"))
    assert metrics["roc_auc_labels"] == 4
    assert beside[0]["label"] == dataset.labels[truth.sum(axis=0).argmax()]
    for k, row in enumerate(metrics["labels"].values()):
        assert row["recall"] == pytest.approx(sk.recall_score(truth[:, k], chosen[:, k]))
        assert row["precision"] == pytest.approx(sk.precision_score(truth[:, k], chosen[:, k]))
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(truth[:, k], predictions.scores[:, k]))
    assert "majority_accuracy" not in metrics


def test_labels_that_all_rows_or_none_carry_have_no_roc_auc() -> None:
    """ROC AUC is over the labels that some rows carry and some do not, with their number."""
    flags = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    scores = np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.8], [0.5, 0.5, 0.2]])
    metrics = measure(multi(flags), Predictions(scores, scores >= 0.5))
    assert [row["roc_auc"] for row in metrics["labels"].values()] == [None, None, 0.5]
    assert (metrics["roc_auc"], metrics["roc_auc_labels"]) == (0.5, 1)
    alike = measure(multi(flags[:1]), Predictions(scores[:1], scores[:1] >= 0.5))
    assert (alike["roc_auc"], alike["roc_auc_labels"]) == (None, 0)
    assert measure(single([1, 1], ("a", "b")), named([1, 1], 2))["roc_auc"] is None


def test_each_figure_has_its_interval() -> None:
    """Accuracy has Wilson's interval; the others have one around their value, narrower with more rows."""
    for kind in (SINGLE_LABEL, MULTI_LABEL):
        few, many = (measure(*random_predictions(kind, rows, 3, seed=1)[:2]) for rows in (60, 1500))
        hits = round(few["accuracy"] * 60)
        assert few["intervals"]["accuracy"] == pytest.approx([wilson(hits, 60).low, wilson(hits, 60).high])
        others = (
            {"macro_f1", "weighted_f1", "balanced_macro_f1", "log_loss"}
            if kind == SINGLE_LABEL
            else {"macro_f1", "micro_f1", "hamming_loss"}
        )
        assert set(few["intervals"]) == {"accuracy", *others}
        for name, (low, high) in few["intervals"].items():
            assert low < few[name] < high
            assert many["intervals"][name][1] - many["intervals"][name][0] < (high - low) / 2
        for row in few["labels"].values():
            assert row["f1_interval"][0] < row["f1"] < row["f1_interval"][1]


def test_intervals_can_be_left_out_and_all_is_json() -> None:
    """Figures without intervals are the same, and all figures can be written as JSON."""
    for kind in (SINGLE_LABEL, MULTI_LABEL):
        dataset, predictions, _ = random_predictions(kind, 40, 2, seed=3)
        whole, without = measure(dataset, predictions), measure(dataset, predictions, intervals=False)
        assert json.loads(json.dumps(whole, allow_nan=False)) == whole
        del whole["intervals"]
        for row in whole["labels"].values():
            del row["f1_interval"]
        assert without == whole


def test_rows_without_any_label_are_measured() -> None:
    """If no row carries a label and none is predicted, F1 is 0, every row is right, and nothing warns."""
    metrics = measure(multi(np.zeros((3, 2), int)), Predictions(np.full((3, 2), 0.1), np.zeros((3, 2), bool)))
    assert (metrics["micro_f1"], metrics["macro_f1"], metrics["accuracy"], metrics["hamming_loss"]) == (0, 0, 1, 0)


def test_scores_are_softmax_or_sigmoid() -> None:
    """Single-label: softmax and the first best label. Multi-label: sigmoid and all labels at the threshold."""
    logits = np.array([[-3.0, -1.0, -2.0], [0.0, 5.0, -0.001], [1.0, 1.0, 0.0]], np.float32)
    found = predictions_from_logits(logits, SINGLE_LABEL)
    e = np.exp(logits.astype(float))
    np.testing.assert_allclose(found.scores, e / e.sum(axis=1, keepdims=True))
    assert found.chosen.argmax(axis=1).tolist() == [1, 1, 0]
    assert found.chosen.sum() == 3
    found = predictions_from_logits(logits, MULTI_LABEL)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-logits.astype(float))))
    assert found.chosen.tolist() == [[False, False, False], [True, True, False], [True, True, True]]
    assert predictions_from_logits(logits, MULTI_LABEL, 0.9).chosen.sum() == 1


def test_huge_logits_make_no_overflow() -> None:
    """Scores of logits beyond the reach of exp are 0 and 1, in float64, without a warning, and have a log loss."""
    logits = np.array([[1e5, -1e5], [-1e5, 1e5]], np.float32)
    for kind in (SINGLE_LABEL, MULTI_LABEL):
        assert predictions_from_logits(logits, kind).scores.tolist() == [[1, 0], [0, 1]]
        assert predictions_from_logits(logits, kind).scores.dtype == np.float64
    loss = measure(single([1, 1], ("a", "b")), predictions_from_logits(logits, SINGLE_LABEL))["log_loss"]
    assert loss == pytest.approx(-math.log(np.finfo(float).eps) / 2)


# The threshold


def test_one_threshold_for_all_labels_has_the_best_micro_f1() -> None:
    """The threshold for all labels has the best micro-F1; without a true entry it is 0.5."""
    # At 0.75 one of two is found and nothing wrong: 2/3; at 0.05 both, with two wrong: 4/6.
    flags, scores = np.array([[True, False], [False, True]]), np.array([[0.9, 0.6], [0.55, 0.1]])
    assert best_f1(scores, flags) == pytest.approx(0.75)
    assert measure(multi(flags), Predictions(scores, scores >= 0.75))["micro_f1"] == pytest.approx(2 / 3)
    assert best_f1(scores, np.zeros((2, 2), bool)) == 0.5


# The table


def test_the_table_shows_the_figures() -> None:
    """The table has a line per label, then a line per figure with interval, n and baseline."""
    metrics = measure(single(TRUTH, ("a", "b", "c")), named(PREDICTED, 3))
    lines = as_table(metrics).splitlines()
    assert lines[0].split() == ["label", "precision", "recall", "F1", "95", "%", "interval", "n"]
    low, high = metrics["labels"]["a"]["f1_interval"]
    assert lines[1].split() == ["a", "0.600", "0.750", "0.667", f"{low:.3f}", "to", f"{high:.3f}", "4"]
    assert lines[5].split("n  ")[-1].strip() == "always 'a'"
    low, high = metrics["intervals"]["accuracy"]
    assert lines[6].split() == ["accuracy", "0.5714", f"{low:.4f}", "to", f"{high:.4f}", "7", "0.5714"]
    assert [line.split("  ")[1] for line in lines[6:]] == [
        "accuracy", "macro-F1", "weighted F1", "macro-F1, classes weighted equally", "log loss (nats)",
    ]  # fmt: skip
    assert "(class shares)" in lines[10]


def test_the_table_of_a_multi_label_run_has_both_baselines() -> None:
    """A multi-label table has subset accuracy, and a column each for no label and the commonest."""
    dataset, predictions, _ = random_predictions(MULTI_LABEL, 40, 2, seed=0)
    lines = as_table(measure(dataset, predictions)).splitlines()
    assert (
        lines[4]
        .rstrip()
        .endswith(f"no label  always '{measure(dataset, predictions)['baselines']['commonest_label']['label']}'")
    )
    assert [line.strip().split("  ")[0] for line in lines[5:]] == [
        "subset accuracy",
        "micro-F1",
        "macro-F1",
        "Hamming loss",
        "ROC AUC, mean of 2 labels",
    ]
