"""Fits of scores and thresholds, and their figures, against numbers by hand, brute force or other libraries."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from export.options import ScoreOptions
from export.predictions import DecisionRule, Predictions, predictions_from_logits
from export.report.pictures import draw_reliability
from export.scores import figures as calibration_figures
from export.scores.calibration_rows import split_rows
from export.scores.figures import ScoreOutcomes, abstention_figures, bin_gaps, bin_of, score_outcomes
from export.scores.rule_fitter import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    FitError,
    RuleFitter,
    fit_platt,
    fit_temperature,
)
from inferer.bundle.manifest import MULTI_LABEL, SIGMOID, SINGLE_LABEL, SOFTMAX, Platt
from inferer.scoring import activate, calibration_of
from training.report.intervals import bootstrapped, resampled_sums
from training.report.thresholds import best_f1, lowest_with_share

SINGLE = DecisionRule(SINGLE_LABEL)
# Multiples of 1/1024.
LOGITS = st.integers(-20_000, 20_000).map(lambda n: n / 1024)


def one_hot(ids: np.ndarray, labels: int) -> np.ndarray:
    """Return bool [texts, labels] of one label id per text."""
    return np.eye(labels, dtype=bool)[ids]


def drawn(logits: np.ndarray, seed: int) -> np.ndarray:
    """Return one label per text, bool [texts, labels], drawn with the probabilities softmax(`logits`)."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return one_hot((logits + noise).argmax(axis=1), logits.shape[1])


def fitter(
    score_options: ScoreOptions, labels: tuple[str, ...], problem_type: str = SINGLE_LABEL, at: float = 0.5
) -> RuleFitter:
    """Return a fitter of logits that are given."""
    thresholds = (at,) * len(labels) if problem_type == MULTI_LABEL else None
    return RuleFitter(DecisionRule(problem_type, thresholds), labels, score_options, None, None)


# The temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    """Of 40,000 labels drawn at a temperature, that temperature is fitted, to 3 %."""
    logits = np.random.default_rng(0).normal(0, 2, (40_000, 4))
    assert fit_temperature(logits, drawn(logits / temperature, 1)) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_the_one_of_least_log_loss() -> None:
    """On 300 texts no other temperature gives less log loss: scipy's search ends at the same."""
    logits = np.random.default_rng(2).normal(0, 3, (300, 3)).astype(np.float32)
    truth = drawn(logits / 1.7, 3)

    def loss(inverse: float) -> float:
        z = logits.astype(float) * inverse
        return float((np.logaddexp.reduce(z, axis=1) - z[truth]).mean())

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10})
    assert fit_temperature(logits, truth) == pytest.approx(1 / best.x, rel=1e-5)


def test_a_temperature_ends_at_its_bounds() -> None:
    """When every prediction is right the fit is the lowest bound; when scores contradict the labels, the highest."""
    logits = np.random.default_rng(4).normal(0, 2, (50, 3))
    assert fit_temperature(logits, one_hot(logits.argmax(axis=1), 3)) == LOWEST_TEMPERATURE
    assert fit_temperature(logits, one_hot(logits.argmin(axis=1), 3)) == HIGHEST_TEMPERATURE


def test_huge_logits_do_not_overflow() -> None:
    """Logits of thousands are fitted without a warning."""
    logits = np.array([[4000.0, 0.0], [0.0, 3000.0], [2.0, 0.0], [1.0, 0.0]])
    truth = np.array([[True, False], [False, True], [True, False], [False, True]])
    assert LOWEST_TEMPERATURE < fit_temperature(logits, truth) < HIGHEST_TEMPERATURE


@given(
    st.lists(st.lists(LOGITS, min_size=3, max_size=3), min_size=4, max_size=30),
    st.lists(st.integers(0, 2), min_size=30, max_size=30),
)
def test_a_fitted_temperature_keeps_every_rows_order(rows: list[list[float]], ids: list[int]) -> None:
    """Whatever is fitted, each text's best label stays, and no two of its scores change places."""
    logits = np.array(rows, dtype=np.float32)
    temperature = fit_temperature(logits, one_hot(np.array(ids[: len(rows)]), 3))
    for row in logits:
        scores = activate(row, SOFTMAX, calibration_of(temperature, None))
        assert scores.argmax() == row.argmax()
        assert (np.diff(scores[np.argsort(row, kind="stable")]) >= 0).all()


# Platt scaling


def test_platt_scaling_is_a_logistic_regression() -> None:
    """On 50,000 texts, where smoothing the targets does nothing, scale and bias are scikit-learn's."""
    rng = np.random.default_rng(5)
    logits = rng.normal(-3, 2, 50_000)
    truth = rng.random(50_000) < 1 / (1 + np.exp(-(0.6 * logits + 0.8)))
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], truth)
    found = fit_platt(logits, truth)
    assert found.scale == pytest.approx(expected.coef_[0, 0], rel=2e-3)
    assert found.bias == pytest.approx(expected.intercept_[0], rel=5e-3)


@pytest.mark.parametrize("size", [0.01, 1.0, 40.0])
def test_platt_scaling_has_platts_targets(size: float) -> None:
    """On 60 texts scale and bias are of least cross-entropy with Platt's targets, whatever the size of the logits."""
    rng = np.random.default_rng(6)
    logits = rng.normal(0.5, 1, 60)
    truth = rng.random(60) < 1 / (1 + np.exp(1 - 1.5 * logits))
    yes = truth.sum()
    target = np.where(truth, (yes + 1) / (yes + 2), 1 / (60 - yes + 2))

    def loss(point: np.ndarray) -> float:
        z = point[0] * logits + point[1]
        return float((np.logaddexp(0, z) - target * z).sum())

    best = minimize(loss, [1.0, 0.0], tol=1e-12).x
    found = fit_platt(size * logits, truth)
    assert (found.scale * size, found.bias) == pytest.approx(tuple(best), rel=1e-4)


def test_labels_that_a_logit_tells_apart_have_a_finite_scale() -> None:
    """Where every text with the label has a higher logit than any without, the scale is not without end."""
    found = fit_platt(np.arange(-20.0, 20.0), np.arange(40) >= 20)
    assert 0 < found.scale < 5


@pytest.mark.parametrize("logits", [-np.arange(40.0), np.full(40, 2.0)], ids=["falling", "alike"])
def test_no_scale_is_given_where_the_logit_does_not_rise_with_the_label(logits: np.ndarray) -> None:
    """A logit that falls with the label, or is the same for all, gets no scale."""
    assert fit_platt(logits, np.arange(40) >= 20) is None


@given(st.lists(LOGITS, min_size=20, max_size=40), st.integers(0, 2**40 - 1))
def test_platt_scaling_keeps_the_order_within_a_label(values: list[float], bits: int) -> None:
    """Whatever is fitted, no two texts change places in one label's scores."""
    logits = np.array(values, dtype=np.float32)
    found = fit_platt(logits, np.array([bits >> i & 1 for i in range(len(values))], dtype=bool))
    if found is None:
        return
    assert found.scale > 0
    calibration = calibration_of(1.0, {"a": found})
    scores = np.array([activate(np.array([value]), SIGMOID, calibration)[0] for value in np.sort(logits)])
    assert (np.diff(scores) >= 0).all()


# Thresholds


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40).filter(
        lambda r: any(t for _, t in r)
    )
)
def test_no_threshold_has_a_better_f1(rows: list[tuple[int, bool]]) -> None:
    """Of all thresholds, tried one by one, none has a better F1, and none as good is nearer to 0.5."""
    scores, truth = np.array([score / 20 for score, _ in rows]), np.array([true for _, true in rows])
    found = best_f1(scores, truth)
    values = np.unique(np.append(scores, 0.0))
    tried = {float(t): f1_score(truth, scores >= t) for t in [*(values[1:] + values[:-1]) / 2, 0.0]}
    assert f1_score(truth, scores >= found) == max(tried.values())
    equal = [t for t, f1 in tried.items() if f1 == max(tried.values())]
    assert abs(found - 0.5) == pytest.approx(min(abs(t - 0.5) for t in equal), abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 1.0])
)
def test_no_lower_threshold_reaches_the_precision(rows: list[tuple[int, bool]], share: float) -> None:
    """The threshold reaches the precision, and of all that do, tried one by one, it is the lowest; None for none."""
    scores, truth = np.array([score / 20 for score, _ in rows]), np.array([true for _, true in rows])
    found = lowest_with_share(scores, truth, share)
    reached = [value for value in np.unique(scores) if truth[scores >= value].mean() >= share]
    if found is None:
        assert not reached
    else:
        assert (scores >= found).tolist() == (scores >= min(reached)).tolist()


def test_a_threshold_lies_between_two_scores() -> None:
    """A threshold is the midpoint of the scores around it, so that a last bit decides nothing."""
    scores, truth = np.array([0.9, 0.4, 0.3, 0.1]), np.array([True, True, False, False])
    assert best_f1(scores, truth) == pytest.approx(0.35)
    assert lowest_with_share(scores, truth, 1.0) == pytest.approx(0.35)


def test_neighbouring_floats_are_told_apart() -> None:
    """Between two scores with no float between them, the upper one is the threshold."""
    lower = 0.3
    upper = float(np.nextafter(lower, 1))
    assert best_f1(np.array([lower, upper]), np.array([False, True])) == upper


# Fits


def test_all_right_is_no_ground_for_a_temperature() -> None:
    """Rows that are all labelled right are refused with the reason."""
    logits = np.random.default_rng(7).normal(size=(120, 2))
    with pytest.raises(FitError, match="all 120 fitted rows right.*every score would be 1"):
        fitter(ScoreOptions(), ("a", "b")).fit_logits(logits, one_hot(logits.argmax(axis=1), 2))


def test_scores_that_tell_nothing_are_refused() -> None:
    """Labels that contradict the scores are refused with the share of right predictions."""
    logits = np.random.default_rng(8).normal(size=(120, 3))
    truth = one_hot(logits.argmin(axis=1), 3)
    with pytest.raises(FitError, match=r"no temperature up to 20 .* which predictions are right \(0.0% are\)"):
        fitter(ScoreOptions(), ("a", "b", "c")).fit_logits(logits, truth)


def test_the_abstain_threshold_reaches_its_accuracy() -> None:
    """At or above the threshold the requested share of predictions is right, and at no lower score."""
    logits = np.random.default_rng(9).normal(0, 2, (1000, 3))
    truth = drawn(logits / 2, 10)
    fit = fitter(ScoreOptions(abstain_accuracy=0.8), ("a", "b", "c")).fit_logits(logits, truth)
    found = predictions_from_logits(logits, fit.rule)
    best, right = found.scores.max(axis=1), (found.chosen & truth).any(axis=1)
    assert right[best >= fit.abstain_threshold].mean() >= 0.8 > right.mean()
    assert all(right[best >= score].mean() < 0.8 for score in best[best < fit.abstain_threshold])


def test_an_accuracy_that_no_score_reaches_is_refused() -> None:
    """An accuracy that not even the highest scores have is refused by the flag's own words."""
    logits = np.vstack([np.tile([[3.0, 0.0]], (50, 1)), np.tile([[0.0, 1.0]], (50, 1))])
    truth = one_hot(np.array([0] * 40 + [1] * 10 + [1] * 30 + [0] * 20), 2)
    with pytest.raises(FitError, match="--abstain-below accuracy=0.95: .*fewer"):
        fitter(ScoreOptions(abstain_accuracy=0.95), ("a", "b")).fit_logits(logits, truth)


def multi_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of 400 texts: one as its logit says, one on 6 texts, one against its logit."""
    rng = np.random.default_rng(11)
    logits = rng.normal(-1, 2, (400, 3))
    common = rng.random(400) < 1 / (1 + np.exp(-logits[:, 0] / 2))
    return logits, np.stack([common, np.arange(400) < 6, logits[:, 2] < -2], axis=1)


def test_labels_that_cannot_be_fitted_keep_their_scores_and_are_named() -> None:
    """Too few rows, or a logit against the label, leave scale 1 and bias 0, and the notes name the label and why."""
    fit = fitter(ScoreOptions(tune_f1=True), ("common", "rare", "wrong"), MULTI_LABEL, 0.4).fit_logits(*multi_rows())
    assert fit.platt["common"].scale == pytest.approx(0.5, abs=0.15)
    assert fit.platt["rare"] == fit.platt["wrong"] == Platt(1.0, 0.0)
    assert fit.rule.thresholds[1] == 0.4
    assert fit.rule.thresholds[0] != 0.4
    assert fit.notes == (
        "fewer than 10 fitted rows with or without the label, so its scores stay: rare",
        "the logit does not rise with the label, so its scores stay: wrong",
        "fewer than 10 fitted rows with the label, so the threshold stays: rare",
    )


def test_a_threshold_that_reaches_no_precision_stays_and_is_named() -> None:
    """Where no threshold has the precision, the label keeps its own, and the notes say so."""
    logits, truth = multi_rows()
    truth[logits[:, 0].argmax(), 0] = False  # even the highest score is wrong
    fit = fitter(ScoreOptions(precision=0.99), ("common", "rare", "wrong"), MULTI_LABEL).fit_logits(logits, truth)
    assert fit.rule.thresholds[0] == 0.5
    assert "no threshold reaches precision=0.99, so it stays: common, wrong" in fit.notes


# Figures


def test_ece_is_the_one_computed_by_hand() -> None:
    """Two scores of 0.9, one right, and a right one of 0.6: (|1 - 1.8| + |1 - 0.6|) / 3 = 0.4."""
    sums = bin_gaps(ScoreOutcomes(np.array([[0.9], [0.9], [0.6]]), np.array([[True], [False], [True]])))
    assert np.abs(sums.sum(axis=0)).sum() / 3 == pytest.approx(0.4)


def test_ece_of_several_labels_is_pooled() -> None:
    """Of two texts with two labels, each score is one of four: (|1 + 0 - 0.2| + |1 - 0.8 + 0 - 0.8|) / 4 = 0.35."""
    sums = bin_gaps(ScoreOutcomes(np.array([[0.1, 0.8], [0.1, 0.8]]), np.array([[True, True], [False, False]])))
    assert np.abs(sums.sum(axis=0)).sum() / 4 == pytest.approx((0.8 + 0.6) / 4)


def test_a_bin_has_its_upper_end() -> None:
    """0 and 1/15 are in the first bin, a value just above in the second, 1 in the last."""
    scores = np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1) + 1e-15, 0.5, 1.0])
    assert bin_of(scores).tolist() == [0, 0, 1, 7, 14]


def test_the_best_score_of_a_single_label_model_is_judged() -> None:
    """Single-label holds the best score against whether that label is right, multi-label each against its own."""
    answers = Predictions(np.zeros((2, 2)), np.array([[0.7, 0.3], [0.4, 0.6]]), np.eye(2, dtype=bool))
    truth = np.array([[True, False], [True, False]])
    single, multi = (score_outcomes(answers, truth, kind) for kind in (SINGLE_LABEL, MULTI_LABEL))
    assert (single.scores.tolist(), single.true.tolist()) == ([[0.7], [0.6]], [[True], [False]])
    assert (multi.scores.tolist(), multi.true.tolist()) == (answers.scores.tolist(), truth.tolist())


def test_the_brier_score_is_the_one_computed_by_hand() -> None:
    """For scores 0.7, 0.3 of which the first is true: single-label 0.09 + 0.09, multi-label half of it."""
    logits = np.log([[0.7, 0.3]])
    truth = np.array([[True, False]])
    single = calibration_figures.brier(predictions_from_logits(logits, SINGLE), truth, SINGLE_LABEL)
    assert single == pytest.approx([0.18])
    multi = predictions_from_logits(np.log([[7 / 3, 3 / 7]]), DecisionRule(MULTI_LABEL, (0.5, 0.5)))
    assert calibration_figures.brier(multi, truth, MULTI_LABEL) == pytest.approx([0.09])


def test_the_log_loss_is_scikit_learns() -> None:
    """Of either kind of model the mean log loss is scikit-learn's, multi-label averaged over labels."""
    rng = np.random.default_rng(12)
    logits, ids = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    single = predictions_from_logits(logits, SINGLE)
    assert calibration_figures.log_loss(single, one_hot(ids, 3), SINGLE_LABEL).mean() == pytest.approx(
        log_loss(ids, single.scores)
    )
    truth = rng.random((50, 3)) < 0.4
    multi = predictions_from_logits(logits, DecisionRule(MULTI_LABEL, (0.5,) * 3))
    expected = np.mean([log_loss(truth[:, i], multi.scores[:, i]) for i in range(3)])
    assert calibration_figures.log_loss(multi, truth, MULTI_LABEL).mean() == pytest.approx(expected)


def test_a_temperature_mends_the_scores_and_changes_no_answer() -> None:
    """On rows that were not fitted on, ECE, Brier score and log loss fall, and accuracy is the same to the row."""
    logits = np.random.default_rng(13).normal(0, 4, (4000, 3))
    truth = drawn(logits / 3, 14)
    temperature = fit_temperature(logits[:2000], truth[:2000])
    rule = DecisionRule(SINGLE_LABEL, None, calibration_of(temperature, None))
    figures = calibration_figures.calibration_figures(logits[2000:], truth[2000:], SINGLE, rule)
    assert figures["accuracy_before"] == figures["accuracy_after"]
    assert figures["ece_before"].value > 0.15
    assert figures["ece_after"].value < 0.03
    for name in ("ece", "brier", "nll"):
        change = figures[f"{name}_change"]
        assert change.value == pytest.approx(figures[f"{name}_after"].value - figures[f"{name}_before"].value)
        assert change.high < 0
    assert {figure.n for figure in figures.values()} == {2000}


def test_the_interval_of_an_ece_is_shifted_by_its_bias() -> None:
    """The interval is the bootstrap's, lower by the mean of the resamples less the value, and never below 0."""
    logits = np.random.default_rng(15).normal(0, 1, (500, 2))
    truth = drawn(logits, 16)
    sums = bin_gaps(score_outcomes(predictions_from_logits(logits, SINGLE), truth, SINGLE_LABEL))
    resampled = resampled_sums(sums)
    values = np.abs(resampled).sum(axis=1) / 500
    value = np.abs(sums.sum(axis=0)).sum() / 500
    assert values.mean() > value + 0.005  # the bias that is meant
    figure = calibration_figures.calibration_figures(logits, truth, SINGLE, SINGLE)["ece_before"]
    low, high = np.percentile(values, [2.5, 97.5]) - (values.mean() - value)
    assert (figure.value, figure.low, figure.high) == pytest.approx((value, max(0.0, low), high))
    plain = bootstrapped(lambda s: np.abs(s).sum(axis=-1) / 500, sums, resampled)
    assert plain.low == pytest.approx(np.percentile(values, 2.5))


def test_the_ece_of_exact_scores_is_what_chance_makes_of_it() -> None:
    """Scores that are exactly right show an ECE that falls with the root of their number; certain ones show none."""
    by_chance = calibration_figures.ece_by_chance
    small, large = (by_chance(np.full((n, 1), 0.7)) for n in (400, 40_000))
    expected = np.sqrt(2 / np.pi * 0.7 * 0.3 / 400)  # the mean of |normal| of that spread, all in one bin
    assert small == pytest.approx(expected, rel=0.15)
    assert small / large == pytest.approx(10, rel=0.2)
    assert by_chance(np.array([[0.0, 1.0]] * 50)) == 0.0


def test_f1_is_scikit_learns_before_and_after() -> None:
    """Macro-F1 and micro-F1, as they were, calibrated, and with tuned thresholds, are scikit-learn's."""
    rng = np.random.default_rng(17)
    logits = rng.normal(-1, 2, (600, 4))
    truth = rng.random((600, 4)) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    plain = DecisionRule(MULTI_LABEL, (0.5,) * 4)
    fit = fitter(ScoreOptions(tune_f1=True), ("a", "b", "c", "d"), MULTI_LABEL).fit_logits(logits, truth)
    figures = calibration_figures.calibration_figures(logits, truth, plain, fit.rule)
    rules = {
        "before": plain,
        "calibrated": DecisionRule(MULTI_LABEL, plain.thresholds, fit.rule.calibration),
        "tuned": fit.rule,
    }
    for when, rule in rules.items():
        for average in ("macro", "micro"):
            expected = f1_score(truth, predictions_from_logits(logits, rule).chosen, average=average)
            assert figures[f"{average}_f1_{when}"].value == pytest.approx(expected)
    gain = figures["macro_f1_tuned"].value - figures["macro_f1_calibrated"].value
    assert figures["macro_f1_gain"].value == pytest.approx(gain)
    assert gain > 0
    untuned = calibration_figures.calibration_figures(logits, truth, plain, rules["calibrated"])
    assert "macro_f1_tuned" not in untuned


def test_texts_that_get_no_label_are_counted() -> None:
    """Below 0.7 two of five texts get no label; of the other three two are right, of all five three."""
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.45, 0.55]])
    answers = Predictions(np.log(scores), scores, one_hot(scores.argmax(axis=1), 2))
    figures = abstention_figures(answers, one_hot(np.array([0, 1, 1, 0, 0]), 2), 0.7)
    found = {name: (figure.value, figure.n) for name, figure in figures.items()}
    assert found == {"answered": (3 / 5, 5), "accuracy_answered": (2 / 3, 3), "accuracy_all": (3 / 5, 5)}
    assert list(abstention_figures(answers, None, 0.95)) == ["answered"]
    assert "accuracy_answered" not in abstention_figures(answers, one_hot(np.array([0, 1, 1, 0, 0]), 2), 0.95)


# The split


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60))
def test_no_text_is_on_both_sides_of_the_split(rows: list[tuple[int, bool]]) -> None:
    """Every row is on one side, and equal texts are on the same."""
    keys = [number for number, _ in rows]
    fitted, reported = split_rows(keys, np.array([[yes, not yes] for _, yes in rows]))
    assert sorted([*fitted, *reported]) == list(range(len(rows)))
    assert not {keys[i] for i in fitted} & {keys[i] for i in reported}


def test_the_split_halves_every_label() -> None:
    """Of 300 texts sorted by label, each label's are halved to the text, and the split is the same every time."""
    ids = np.repeat([0, 1, 2], [200, 75, 25])
    texts = tuple(f"text {i}" for i in range(300))
    fitted, reported = split_rows(texts, one_hot(ids, 3))
    assert (len(fitted), len(reported)) == (150, 150)
    assert np.abs(np.bincount(ids[fitted]) - np.bincount(ids[reported])).max() <= 1
    assert split_rows(texts, one_hot(ids, 3))[0].tolist() == fitted.tolist()
    assert np.diff(fitted).max() > 2, "not every second row of the file"


def test_the_split_halves_rare_labels_of_a_multi_label_file() -> None:
    """The rarest label of each text decides, so a label on 20 of 400 texts is on 10 of either side."""
    rng = np.random.default_rng(18)
    truth = np.stack([rng.random(400) < 0.6, np.arange(400) < 20, np.zeros(400, dtype=bool)], axis=1)
    fitted, reported = split_rows(tuple(map(str, range(400))), truth)
    assert truth[fitted, 1].sum() == truth[reported, 1].sum() == 10


# The picture


@pytest.mark.parametrize("labels", [1, 28])
def test_the_picture_is_drawn_without_a_warning(tmp_path: Path, labels: int) -> None:
    """For either problem type a PNG of the right size is written without a warning, even with empty bins."""
    rng = np.random.default_rng(19)
    before = ScoreOutcomes(rng.random((40, labels)) ** 4, rng.random((40, labels)) < 0.2)
    after = ScoreOutcomes(np.full((40, labels), 1.0), before.true)
    figures = {"ece_before": {"value": 0.1}, "ece_after": {"value": 0.02}}
    calibration = {"figures": figures, "labels": None if labels == 1 else {}, "model": "fp32", "reported_rows": 40}
    draw_reliability(calibration, (before, after), tmp_path)
    header = (tmp_path / "reliability.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert struct.unpack(">II", header[16:]) == (1210, 682)
