"""Predictions from logits, checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferer.bundle.manifest import ACTIVATIONS, MULTI_LABEL, SIGMOID, SINGLE_LABEL, SOFTMAX, Platt, activation_of
from inferer.scoring import (
    Choice,
    TokenCounts,
    activate,
    activated,
    calibration_of,
    sigmoid,
    softmax,
    to_prediction,
)

LABELS = ("a", "b", "c")
COUNTS = TokenCounts(4, False)
logits = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20).map(lambda v: np.array(v, np.float32))


def test_single_label_is_softmax_even_of_two_logits() -> None:
    """Two logits of a single-label model go through softmax."""
    scores = activate(np.array([0.0, math.log(3)], np.float32), SOFTMAX)
    assert scores == pytest.approx([0.25, 0.75], abs=1e-7)


def test_multi_label_is_sigmoid_even_of_one_logit() -> None:
    """The logits of a multi-label model go through sigmoid one by one."""
    assert activate(np.array([math.log(3)], np.float32), SIGMOID) == pytest.approx([0.75], abs=1e-7)
    scores = activate(np.array([0.0, math.log(3), -math.log(3)], np.float32), SIGMOID)
    assert scores == pytest.approx([0.5, 0.75, 0.25], abs=1e-7)


def test_temperature_divides_the_logits() -> None:
    """A temperature of 2 halves the logits."""
    hot = activate(np.array([0.0, 2 * math.log(3)], np.float32), SOFTMAX, calibration_of(2.0, None))
    assert hot == pytest.approx([0.25, 0.75], abs=1e-7)


def test_platt_scales_and_shifts_each_label() -> None:
    """Each label's logit is multiplied by its own scale, and its own bias added, before the sigmoid."""
    platt = {"a": Platt(2.0, 0.0), "b": Platt(1.0, -math.log(3))}
    scores = activate(np.array([math.log(3) / 2, 2 * math.log(3)], np.float32), SIGMOID, calibration_of(1.0, platt))
    assert scores == pytest.approx([0.75, 0.75], abs=1e-7)


def test_a_temperature_of_one_is_not_a_calibration() -> None:
    """A temperature of 1 without Platt scaling is not a calibration, so scores keep their bits."""
    assert calibration_of(1.0, None) is None


@given(logits, st.floats(0.01, 1000))
def test_a_temperature_keeps_the_order(values: np.ndarray, temperature: float) -> None:
    """Whatever the temperature, no label overtakes another, and the scores sum to 1."""
    scores = activate(values, SOFTMAX, calibration_of(temperature, None))
    assert (np.diff(scores[np.argsort(values, kind="stable")]) >= 0).all()
    assert scores.sum() == pytest.approx(1.0, abs=1e-12)


@given(logits, st.floats(1e-3, 100), st.floats(-100, 100))
def test_platt_keeps_the_order_within_a_label(values: np.ndarray, scale: float, bias: float) -> None:
    """Of two texts, the one with a label's higher logit never has its lower score."""
    calibration = calibration_of(1.0, {"a": Platt(scale, bias)})
    scores = [activate(np.array([value]), SIGMOID, calibration)[0] for value in np.sort(values)]
    assert (np.diff(scores) >= 0).all()


@given(logits)
def test_scores_are_probabilities_whatever_the_logits(values: np.ndarray) -> None:
    """Whatever the logits, scores are from 0 to 1, and single-label scores sum to 1."""
    for problem_type in (SINGLE_LABEL, MULTI_LABEL):
        scores = activate(values, activation_of(problem_type))
        assert ((scores >= 0) & (scores <= 1)).all()
    assert activate(values, SOFTMAX).sum() == pytest.approx(1.0, abs=1e-12)


def test_labels_stay_in_the_models_order() -> None:
    """Scores come in the model's order, sorted neither by name nor by score."""
    prediction = to_prediction(np.array([0.2, 0.3, 0.5]), ("z", "y", "x"), Choice(), COUNTS)
    assert list(prediction.scores.items()) == [("z", 0.2), ("y", 0.3), ("x", 0.5)]
    assert (prediction.label, prediction.score, prediction.labels) == ("x", 0.5, ("x",))


def test_multi_label_lists_labels_at_or_above_their_threshold_best_first() -> None:
    """A multi-label prediction names the labels at or above their threshold, best first."""
    thresholds = {"a": 0.2, "b": 0.9, "c": 0.6}
    prediction = to_prediction(np.array([0.2, 0.8, 0.6]), LABELS, Choice(thresholds), COUNTS)
    assert prediction.labels == ("c", "a")
    assert (prediction.label, prediction.score) == ("b", 0.8)


def test_multi_label_may_name_no_label() -> None:
    """With no score at its threshold, labels is empty."""
    prediction = to_prediction(np.array([0.1, 0.2, 0.3]), LABELS, Choice(dict.fromkeys(LABELS, 0.5)), COUNTS)
    assert prediction.labels == ()
    assert prediction.label == "c"


def test_top_k_gives_the_best_scores_first() -> None:
    """top_k 2 gives the two best scores, best first."""
    prediction = to_prediction(np.array([0.2, 0.3, 0.5]), LABELS, Choice(top_k=2), COUNTS)
    assert list(prediction.scores.items()) == [("c", 0.5), ("b", 0.3)]
    assert len(to_prediction(np.array([0.2, 0.3, 0.5]), LABELS, Choice(top_k=99), COUNTS).scores) == 3


def test_equal_scores_keep_the_models_order() -> None:
    """Of equal scores, the earlier label comes first."""
    prediction = to_prediction(np.array([0.4, 0.4, 0.2]), LABELS, Choice(top_k=2), COUNTS)
    assert prediction.label == "a"
    assert list(prediction.scores) == ["a", "b"]


def test_as_dict_holds_plain_python_types() -> None:
    """The wire format holds plain Python types."""
    answer = to_prediction(np.array([0.2, 0.3, 0.5]), LABELS, Choice(), TokenCounts(4, True)).as_dict()
    assert list(answer) == ["label", "score", "labels", "scores", "num_tokens", "truncated"]
    assert [type(v) for v in answer.values()] == [str, float, list, dict, int, bool]
    assert {type(v) for v in answer["scores"].values()} == {float}


def test_a_best_score_below_the_abstain_threshold_names_no_label() -> None:
    """Below the threshold `labels` is empty and `abstained` true; at it the label is named; the scores stay."""
    scores = np.array([0.2, 0.3, 0.5])
    below = to_prediction(scores, LABELS, Choice(abstain_below=0.51), COUNTS)
    assert (below.labels, below.abstained, below.label, below.score) == ((), True, "c", 0.5)
    assert below.as_dict()["abstained"] is True
    at = to_prediction(scores, LABELS, Choice(abstain_below=0.5), COUNTS)
    assert (at.labels, at.abstained) == (("c",), False)
    assert "abstained" not in to_prediction(scores, LABELS, Choice(), COUNTS).as_dict()


@pytest.mark.parametrize("labels", [1, 2, 3, 7, 8, 9, 40, 129])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rows_of_logits_get_the_bits_of_each_row_alone(labels: int, kind: type) -> None:
    """Softmax and sigmoid of an array [rows, labels] have the bits that each row has alone."""
    values = np.random.default_rng(0).normal(0, 10, (9, labels)).astype(kind)
    for activation in (softmax, sigmoid):
        assert activation(values).tobytes() == np.stack([activation(row) for row in values]).tobytes()


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
def test_the_activation_of_a_call(problem_type: str) -> None:
    """The model's own activation gives its calibrated scores, "none" the logits; all are listed best first."""
    logits = np.array([-1.0, 3.0, 0.5], dtype=np.float32)
    calibration = calibration_of(2.0, None)
    own = activate(logits, activation_of(problem_type), calibration)
    given = {name: activated(logits, name, LABELS, calibration) for name in ACTIVATIONS}
    assert given["softmax" if problem_type == SINGLE_LABEL else "sigmoid"] == dict(
        zip("bca", own[[1, 2, 0]], strict=True)
    )
    assert given["none"] == {"b": 3.0, "c": 0.5, "a": -1.0}
    assert given["sigmoid"]["b"] == 1 / (1 + np.exp(-1.5))
    assert all(list(scores) == ["b", "c", "a"] for scores in given.values())
