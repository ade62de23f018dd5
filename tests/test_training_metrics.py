"""The figures of a held-out part, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import MULTI_LABEL, SINGLE_LABEL, Columns, Dataset
from training.metrics import as_table, measure, predicted_ids


def single(targets: list[int], labels: tuple[str, ...]) -> Dataset:
    """Return a single-label data set with these targets."""
    rows = tuple((target,) for target in targets)
    return Dataset(("text",) * len(rows), rows, labels, SINGLE_LABEL, Columns("text", "label"))


def logits_for(predicted: list[int], labels: int) -> np.ndarray:
    """Return logits whose largest is at each of `predicted`."""
    return np.eye(labels, dtype=np.float32)[predicted] - 3.0


# truth a a a a b b c: a is right 3 of 4, b 1 of 2, c 0 of 1
TRUTH, PREDICTED = [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 0, 0]


def test_single_label_figures() -> None:
    """Accuracy, macro-F1, the baseline and each label's figures are those counted by hand."""
    metrics = measure(single(TRUTH, ("a", "b", "c")), logits_for(PREDICTED, 3))
    # a: 5 predicted, 3 of them right, 4 true; b: 2 predicted, 1 right, 2 true; c: never predicted
    assert metrics["n"] == 7
    assert metrics["accuracy"] == pytest.approx(4 / 7)
    assert metrics["labels"]["a"] == pytest.approx({"precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "n": 4})
    assert metrics["labels"]["b"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "n": 2})
    assert metrics["labels"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 1}
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics["majority_accuracy"] == pytest.approx(4 / 7)
    assert list(metrics["labels"]) == ["a", "b", "c"]


def test_a_label_without_held_out_rows_counts_in_macro_f1() -> None:
    """A label that no held-out row has, and no prediction either, counts as 0 in macro-F1 and does not shift others."""
    metrics = measure(single([0, 2, 2], ("a", "gap", "c")), logits_for([0, 2, 2], 3))
    assert metrics["labels"]["gap"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0}
    assert metrics["labels"]["c"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "n": 2}
    assert metrics["macro_f1"] == pytest.approx(2 / 3)


def test_multi_label_figures() -> None:
    """Subset accuracy, macro-F1 and micro-F1 are those counted by hand, each label cut at a score of 0.5."""
    rows = ((0,), (0, 1), (1,), ())
    columns = Columns("text", label_columns=("x", "y"))
    data = Dataset(("t",) * 4, rows, ("x", "y"), MULTI_LABEL, columns)
    logits = np.array([[2.0, -1.0], [0.5, -0.5], [1.0, 3.0], [-1.0, -0.1]], np.float32)
    # predicted {x} {x} {x, y} {}: x 3 predicted, 2 right, 2 true; y 1 predicted, 1 right, 2 true
    metrics = measure(data, logits)
    assert metrics["n"] == 4
    assert metrics["accuracy"] == pytest.approx(2 / 4)
    assert metrics["labels"]["x"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 4 / 5, "n": 2})
    assert metrics["labels"]["y"] == pytest.approx({"precision": 1.0, "recall": 1 / 2, "f1": 2 / 3, "n": 2})
    assert metrics["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert metrics["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert "majority_accuracy" not in metrics


def test_predicted_ids() -> None:
    """Single-label takes the largest logit; multi-label every logit from 0, which is a score of 0.5."""
    logits = np.array([[-3.0, -1.0, -2.0], [0.0, 5.0, -0.001]])
    assert predicted_ids(logits, SINGLE_LABEL).tolist() == [1, 1]
    assert predicted_ids(logits, MULTI_LABEL).tolist() == [[0, 0, 0], [1, 1, 0]]


def test_the_table_shows_the_figures() -> None:
    """The table has a line a label with its figures, and the summary with the baseline and n."""
    table = as_table(measure(single(TRUTH, ("a", "b", "c")), logits_for(PREDICTED, 3))).splitlines()
    assert table[0].split() == ["label", "precision", "recall", "f1", "n"]
    assert table[1].split() == ["a", "0.600", "0.750", "0.667", "4"]
    assert table[-1] == "  accuracy 0.5714, macro-F1 0.3889 (always the largest class: 0.5714), n = 7"


def test_the_table_of_a_multi_label_run_says_what_its_accuracy_is() -> None:
    """The summary of a multi-label run names micro-F1 and says that accuracy wants all labels right."""
    columns = Columns("text", label_columns=("x", "y"))
    data = Dataset(("t", "t"), ((0,), (1,)), ("x", "y"), MULTI_LABEL, columns)
    table = as_table(measure(data, np.array([[1.0, -1.0], [-1.0, 1.0]])))
    assert table.splitlines()[-1] == (
        "  accuracy 1.0000, macro-F1 1.0000, micro-F1 1.0000 (accuracy: all labels of a text right), n = 2"
    )
