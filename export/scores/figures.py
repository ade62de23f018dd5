"""Figures of calibration and thresholds, for rows that neither was fitted on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from export.bootstrap import Statistic, bootstrap_figures, difference, f1_of, mean_of
from export.predictions import DecisionRule, Predictions, predictions_from_logits
from inferer.bundle.manifest import SINGLE_LABEL
from training.report.intervals import RESAMPLES, SEED, Figure, macro_f1, micro_f1, wilson

BINS = 15
_DRAWS = 200  # their mean is within some percent
METHOD = (
    f"95 % intervals: Wilson score for shares of texts, percentile bootstrap over texts ({RESAMPLES} resamples, seed "
    f"{SEED}) for the rest; differences are paired; ECE (expected calibration error, {BINS} bins of equal width) is "
    "larger in resamples than in the sample, so its interval is shifted down by the bootstrap's estimate of that bias, "
    "and ends at 0"
)


@dataclass(frozen=True)
class ScoreOutcomes:
    """Scores, read as probabilities, and whether each came true; both [texts, k].

    Single-label: k is 1, the best score and whether its label is right. Multi-label: k is the number of labels, every
    score and whether the text has the label.
    """

    scores: np.ndarray
    true: np.ndarray


def score_outcomes(predictions: Predictions, truth: np.ndarray, problem_type: str) -> ScoreOutcomes:
    """Return the scores of `predictions` with their outcomes by `truth`, bool [texts, labels]."""
    if problem_type != SINGLE_LABEL:
        return ScoreOutcomes(predictions.scores, truth)
    best = predictions.scores.argmax(axis=1)[:, None]
    return ScoreOutcomes(np.take_along_axis(predictions.scores, best, 1), np.take_along_axis(truth, best, 1))


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Return the bin of each score, from 0: i for those above i/15, up to (i+1)/15; 0 itself is in the first."""
    return np.asarray(np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1))


def bin_gaps(outcomes: ScoreOutcomes) -> np.ndarray:
    """Return, for each text and bin, the sum of truth less score: [texts, BINS].

    ECE is the sum over bins of the absolute column sum, divided by the number of scores. Source: Guo et al., arXiv
    1706.04599, 2; Naeini, Cooper and Hauskrecht, AAAI 2015.
    """
    texts, count = outcomes.scores.shape
    sums = np.zeros((texts, BINS))
    rows = np.repeat(np.arange(texts), count)
    np.add.at(sums, (rows, bin_of(outcomes.scores).ravel()), (outcomes.true - outcomes.scores).ravel())
    return sums


def ece_by_chance(scores: np.ndarray) -> float:
    """Return the mean ECE of perfectly calibrated `scores` [texts, k], on as many texts.

    Outcomes are drawn with the scores as probabilities. Below this value no calibration can be told from a better one.
    """
    rng = np.random.default_rng(SEED)
    chances, bins = scores.ravel(), bin_of(scores).ravel()
    draws = [
        np.abs(np.bincount(bins, (rng.random(len(chances)) < chances) - chances, BINS)).sum() for _ in range(_DRAWS)
    ]
    return float(np.mean(draws)) / len(chances)


def brier(predictions: Predictions, truth: np.ndarray, problem_type: str) -> np.ndarray:
    """Return each text's squared error of its scores, [texts]: the sum over labels (0 to 2), multi-label the mean.

    Source: Brier, Monthly Weather Review 78 (1950) 1-3.
    """
    squares: np.ndarray = (predictions.scores - truth) ** 2
    return np.asarray(squares.sum(axis=1) if problem_type == SINGLE_LABEL else squares.mean(axis=1))


def log_loss(predictions: Predictions, truth: np.ndarray, problem_type: str) -> np.ndarray:
    """Return each text's -log of the score of the truth, in nats, [texts]; multi-label the mean over labels."""
    z = predictions.logits.astype(np.float64)
    if problem_type == SINGLE_LABEL:
        return np.asarray(np.logaddexp.reduce(z, axis=1) - z[truth])
    return np.asarray(np.logaddexp(0, np.where(truth, -z, z)).mean(axis=1))


def calibration_figures(
    logits: np.ndarray, truth: np.ndarray, plain: DecisionRule, fitted: DecisionRule
) -> dict[str, Figure]:
    """Return the figures of one model's `logits` [texts, labels] under `plain` (before) and `fitted` (after).

    truth: bool [texts, labels]. Always: ece_…, brier_…, nll_… with before, after, and change, the second less the
    first; ece_by_chance, to compare ece_after with. Single-label: accuracy_before, accuracy_after. Multi-label, where a
    text has a label: macro_f1_… and micro_f1_… with before; calibrated, with the thresholds of before; and if the
    thresholds differ, tuned and gain, tuned less calibrated.
    """
    before, after = predictions_from_logits(logits, plain), predictions_from_logits(logits, fitted)
    problem_type, n = plain.problem_type, len(logits)
    single = problem_type == SINGLE_LABEL
    columns: dict[str, np.ndarray] = {}
    for when, predictions in {"before": before, "after": after}.items():
        columns[f"ece_{when}"] = bin_gaps(score_outcomes(predictions, truth, problem_type))
        columns[f"brier_{when}"] = brier(predictions, truth, problem_type)
        columns[f"nll_{when}"] = log_loss(predictions, truth, problem_type)

    def ece(column: str) -> Statistic:
        return lambda sums: np.abs(sums[column]).sum(axis=-1) / (n if single else truth.size)

    statistics: dict[str, Statistic] = {}
    for name in ("ece", "brier", "nll"):
        columns_of_name = (f"{name}_before", f"{name}_after")
        first, second = (ece(column) if name == "ece" else mean_of(column, n) for column in columns_of_name)
        change = difference(second, first)
        statistics |= {f"{name}_before": first, f"{name}_after": second, f"{name}_change": change}
    if not single:
        calibrated = predictions_from_logits(logits, replace(fitted, thresholds=plain.thresholds))
        columns["true"] = truth
        for when, predictions in {"before": before, "calibrated": calibrated, "tuned": after}.items():
            columns |= {f"chosen_{when}": predictions.chosen, f"hits_{when}": predictions.chosen & truth}
        if truth.any():
            statistics |= _f1_statistics(tuned=fitted.thresholds != plain.thresholds)
    figures = bootstrap_figures(columns, statistics, [name for name in statistics if name.startswith("ece_")])
    for name in ("ece_before", "ece_after"):
        low, high = (max(0.0, end or 0.0) for end in (figures[name].low, figures[name].high))
        figures[name] = replace(figures[name], low=low, high=high)
    figures["ece_by_chance"] = Figure(ece_by_chance(score_outcomes(after, truth, problem_type).scores), n)
    if single:
        for when, predictions in {"before": before, "after": after}.items():
            figures[f"accuracy_{when}"] = wilson(int((predictions.chosen & truth).sum()), n)
    return figures


def _f1_statistics(*, tuned: bool) -> dict[str, Statistic]:
    statistics: dict[str, Statistic] = {}
    for name, f1 in (("macro_f1", macro_f1), ("micro_f1", micro_f1)):
        calibrated = f1_of(f1, "calibrated")
        statistics |= {f"{name}_before": f1_of(f1, "before"), f"{name}_calibrated": calibrated}
        if tuned:
            after = f1_of(f1, "tuned")
            statistics |= {f"{name}_tuned": after, f"{name}_gain": difference(after, calibrated)}
    return statistics


def abstention_figures(predictions: Predictions, truth: np.ndarray | None, below: float) -> dict[str, Figure]:
    """Return the effect of naming no label below the score `below` on single-label `predictions`; shares of texts.

    answered: texts that get a label. With truth, bool [texts, labels]: accuracy_answered, of those texts (left out if
    there are none), and accuracy_all, without abstention.
    """
    named = predictions.scores.max(axis=1) >= below
    figures = {"answered": wilson(int(named.sum()), len(named))}
    if truth is None:
        return figures
    right = (predictions.chosen & truth).any(axis=1)
    if named.any():
        figures["accuracy_answered"] = wilson(int(right[named].sum()), int(named.sum()))
    return figures | {"accuracy_all": wilson(int(right.sum()), len(right))}
