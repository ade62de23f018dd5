"""The guard's figures, each by numbers worked out by hand or by another library."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from export.errors import ExportError
from export.guard.compare import compare, divergence
from export.guard.guard import SAMPLE, sample_of
from export.options import Limits
from export.predictions import DecisionRule, Predictions, predictions_from_logits
from export.report.pictures import draw_quantization
from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.report.intervals import Figure, bootstrapped, resampled_sums, wilson

SINGLE = DecisionRule(SINGLE_LABEL)
FP32 = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]]
INT8 = [[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.3, 0.45, 0.25]]  # the last one's label changed
TRUTH = np.eye(3, dtype=bool)[[0, 1, 1, 0]]


def predictions(probabilities: list[list[float]]) -> Predictions:
    """Return single-label predictions with these scores."""
    return predictions_from_logits(np.log(np.array(probabilities)), SINGLE)


# Intervals


@pytest.mark.parametrize(("hits", "n"), [(8, 10), (0, 5), (5, 5), (370, 373), (1, 1)])
def test_wilsons_interval_is_scipys(hits: int, n: int) -> None:
    """The interval of a share is Wilson's, as scipy computes it, also where none or all are hits."""
    figure = wilson(hits, n)
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert (figure.value, figure.n) == (hits / n, n)
    assert (figure.low, figure.high) == pytest.approx((expected.low, expected.high))


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    """The bootstrap interval of a mean of 200 zeros and 200 ones is 0.5 ± 1.96 · 0.5 / 20, near enough."""
    values = np.repeat([0.0, 1.0], 200)[:, None]
    figure = bootstrapped(lambda sums: sums[..., 0] / 400, values, resampled_sums(values))
    assert (figure.value, figure.n) == (0.5, 400)
    assert figure.low == pytest.approx(0.451, abs=0.006)
    assert figure.high == pytest.approx(0.549, abs=0.006)


def test_the_bootstrap_gives_the_same_interval_every_time() -> None:
    """The resamples are seeded, so two calls give the same sums."""
    values = np.arange(12.0)[:, None]
    np.testing.assert_array_equal(resampled_sums(values), resampled_sums(values))


# Divergence, and what it means for several labels


def test_the_divergence_of_a_single_label_model_is_that_of_its_softmax() -> None:
    """KL from (3/4, 1/4) to (1/2, 1/2) is 3/4 ln 3/2 + 1/4 ln 1/2 nats, and from a distribution to itself 0."""
    fp32 = np.array([[math.log(3), 0.0], [5.0, 5.0]])
    int8 = np.array([[0.0, 0.0], [-1.0, -1.0]])
    found = divergence(fp32, int8, SINGLE_LABEL)
    assert found == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5), 0.0])


def test_the_divergence_of_a_multi_label_model_is_the_sum_over_its_labels() -> None:
    """The divergences of two labels, 3/4 against 1/2 and 1/2 against 1/4, are added."""
    fp32, int8 = np.array([[math.log(3), 0.0]]), np.array([[0.0, -math.log(3)]])
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence(fp32, int8, MULTI_LABEL) == pytest.approx([first + second])


def test_the_divergence_of_huge_logits_is_finite() -> None:
    """Logits far beyond the range of exp give the limit's value without a warning, for both problem types."""
    fp32, int8 = np.array([[900.0, -900.0]]), np.array([[890.0, -900.0]])
    assert divergence(fp32, int8, SINGLE_LABEL) == pytest.approx([0.0])
    assert divergence(fp32, int8, MULTI_LABEL) == pytest.approx([0.0])


# The comparison


def test_figures_without_labels() -> None:
    """Agreement and the changes of scores are those counted by hand, and nothing is said of accuracy."""
    figures = compare(predictions(FP32), predictions(INT8), None, SINGLE_LABEL)
    assert set(figures) == {"agreement", "mean_change", "largest_change", "kl"}
    assert (figures["agreement"].value, figures["agreement"].n) == (3 / 4, 4)
    assert figures["mean_change"].value == pytest.approx((0 + 0.1 + 0 + 0.1) / 4)
    assert figures["largest_change"].value == pytest.approx(0.1)
    assert (figures["largest_change"].low, figures["largest_change"].high) == (None, None)
    kl = [sum(p * math.log(p / q) for p, q in zip(a, b, strict=True)) for a, b in zip(FP32, INT8, strict=True)]
    assert figures["kl"].value == pytest.approx(sum(kl) / 4)


def test_figures_with_labels() -> None:
    """Accuracy, macro-F1 over the labels of the texts, and their loss by int8 are those counted by hand."""
    figures = compare(predictions(FP32), predictions(INT8), TRUTH, SINGLE_LABEL)
    # fp32 names a b c a, int8 a b c b; a b b a is right
    assert figures["accuracy_fp32"].value == 3 / 4
    assert figures["accuracy_int8"].value == 2 / 4
    assert figures["accuracy_drop"].value == 1 / 4
    assert figures["macro_f1_fp32"].value == pytest.approx((1 + 2 / 3) / 2)
    assert figures["macro_f1_int8"].value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["macro_f1_drop"].value == pytest.approx(5 / 6 - 7 / 12)
    assert {figure.n for figure in figures.values()} == {4}


def test_macro_f1_is_scikit_learns_and_lies_in_its_interval() -> None:
    """On 300 random predictions macro-F1 is scikit-learn's, and each value lies within its interval."""
    rng = np.random.default_rng(1)
    fp32, int8 = (predictions_from_logits(rng.normal(size=(300, 4)), SINGLE) for _ in range(2))
    ids = rng.integers(0, 4, 300)
    figures = compare(fp32, int8, np.eye(4, dtype=bool)[ids], SINGLE_LABEL)
    for name, model in (("fp32", fp32), ("int8", int8)):
        figure = figures[f"macro_f1_{name}"]
        assert figure.value == pytest.approx(f1_score(ids, model.scores.argmax(axis=1), average="macro"))
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high


def test_the_accuracy_difference_is_paired() -> None:
    """Where both models are right and wrong on the same texts, the difference is 0 with an interval of no width."""
    rng = np.random.default_rng(2)
    model = predictions_from_logits(rng.normal(size=(50, 3)), SINGLE)
    figures = compare(model, model, np.eye(3, dtype=bool)[rng.integers(0, 3, 50)], SINGLE_LABEL)
    assert figures["accuracy_drop"] == Figure(0.0, 50, 0.0, 0.0)
    assert figures["accuracy_fp32"].low < figures["accuracy_fp32"].value


def test_a_multi_label_text_is_right_and_the_same_when_all_its_labels_are() -> None:
    """Agreement compares sets of labels at each label's own threshold, accuracy needs all labels of a text right."""
    rule = DecisionRule(MULTI_LABEL, (0.5, 0.8))
    logit = {0.4: math.log(2 / 3), 0.6: math.log(1.5), 0.7: math.log(7 / 3), 0.9: math.log(9)}
    fp32 = predictions_from_logits(
        np.array([[logit[0.6], logit[0.9]], [logit[0.6], logit[0.7]], [logit[0.4], logit[0.7]]]), rule
    )
    int8 = predictions_from_logits(
        np.array([[logit[0.7], logit[0.9]], [logit[0.6], logit[0.9]], [logit[0.4], logit[0.6]]]), rule
    )
    assert fp32.chosen.tolist() == [[True, True], [True, False], [False, False]]
    truth = np.array([[True, True], [True, True], [True, False]])
    figures = compare(fp32, int8, truth, MULTI_LABEL)
    assert figures["agreement"].value == 2 / 3  # the second text got a label more
    assert figures["accuracy_fp32"].value == 1 / 3
    assert figures["accuracy_int8"].value == 2 / 3
    assert figures["accuracy_drop"].value == pytest.approx(-1 / 3)
    # fp32: x 2 of 3 found, y 1 of 2; int8: x 2 of 3, y both
    assert figures["macro_f1_fp32"].value == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert figures["macro_f1_int8"].value == pytest.approx((4 / 5 + 1) / 2)


def test_texts_without_any_label_have_no_macro_f1() -> None:
    """A multi-label file in which no text has a label gives accuracy but not macro-F1."""
    model = predictions_from_logits(np.array([[1.0, -1.0], [-1.0, -1.0]]), DecisionRule(MULTI_LABEL, (0.5, 0.5)))
    figures = compare(model, model, np.zeros((2, 2), dtype=bool), MULTI_LABEL)
    assert figures["accuracy_fp32"].value == 1 / 2
    assert "macro_f1_fp32" not in figures


# The picture


@pytest.mark.parametrize("rule", [SINGLE, DecisionRule(MULTI_LABEL, (0.5, 0.5, 0.5))], ids=["single", "multi"])
@pytest.mark.parametrize("change", [0.0, 2.0])
def test_the_picture_is_drawn_without_a_warning(tmp_path: Path, rule: DecisionRule, change: float) -> None:
    """For either problem type, with and without a change, a PNG of the right size is written without a warning."""
    logits = np.random.default_rng(3).normal(size=(40, 3))
    int8 = predictions_from_logits(logits + change * np.eye(3)[0], rule)
    measured = SimpleNamespace(fp32=predictions_from_logits(logits, rule), int8=int8, kept=("a", "b"))
    texts = SimpleNamespace(texts=("a text",) * 40)
    guard = SimpleNamespace(
        measured=measured, problem_type=rule.problem_type, scheme="int8-token", texts=texts, chosen=None
    )
    draw_quantization(guard, tmp_path)
    header = (tmp_path / "quantization.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert struct.unpack(">II", header[16:]) == (1210, 550)


# Limits


def figures_of(agreement: float, drop: float) -> dict[str, Figure]:
    """Return the two figures that limits are held against."""
    return {"agreement": Figure(agreement, 200), "accuracy_drop": Figure(drop, 200)}


def test_a_limit_is_held_when_it_is_just_reached() -> None:
    """One text of 200 lost is half a point, which a limit of 0.5 allows and one of 0.49 does not."""
    found = figures_of(199 / 200, 1 / 200)
    assert Limits(max_accuracy_drop=0.5, min_agreement=99.5).missed(found) == ()
    assert Limits(max_accuracy_drop=0.49).missed(found) == ("accuracy_drop",)
    assert Limits(max_accuracy_drop=0.49, min_agreement=99.6).missed(found) == ("accuracy_drop", "agreement")


def test_no_limit_is_never_missed() -> None:
    """Without limits nothing is missed, whatever was measured."""
    assert Limits().missed(figures_of(0.0, 1.0)) == ()


@pytest.mark.parametrize("value", [-0.1, 51, math.nan, math.inf])
def test_an_accuracy_drop_out_of_range_is_refused(value: float) -> None:
    """A drop below 0, beyond 50 points or not a number is refused with the range and the unit."""
    with pytest.raises(ExportError, match=r"--max-accuracy-drop is .*, expected 0 to 50 percentage points"):
        Limits(max_accuracy_drop=value)


@pytest.mark.parametrize("value", [0.99, 49.9, 100.1, math.nan])
def test_an_agreement_out_of_range_is_refused(value: float) -> None:
    """An agreement outside 50 to 100 percent, such as the fraction 0.99, is refused with an example."""
    with pytest.raises(ExportError, match=r"--min-agreement is .*, expected 50 to 100 percent \(99 means 99 %"):
        Limits(min_agreement=value)


# The sample for the layers


def test_the_sample_is_spread_over_the_whole_file() -> None:
    """All of few texts are taken, and 64 of many, from the first to the last."""
    assert sample_of(5).tolist() == [0, 1, 2, 3, 4]
    places = sample_of(1000)
    assert (len(places), places[0], places[-1]) == (SAMPLE, 0, 999)
    assert np.diff(places).min() >= 15
