"""What calibration and thresholds do, measured on rows that neither was fitted on. Knows figures, nothing of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from export.predictions import DecisionRule, Predictions, predictions_from_logits
from inferer.bundle.manifest import SINGLE_LABEL
from training.report.f1 import macro_f1, micro_f1
from training.report.intervals import RESAMPLES, SEED, Figure, bootstrapped, resampled_sums, wilson

BINS = 15
_DRAWS = 200  # the mean of as many is within some per cent
METHOD = (
    f"95 % intervals: Wilson score for shares of texts, percentile bootstrap over texts ({RESAMPLES} resamples, seed "
    f"{SEED}) for the rest; differences are paired; ECE (expected calibration error, {BINS} bins of equal width) is "
    "larger in resamples than in what they are drawn from, so its interval is shifted down by what the bootstrap "
    "estimates of that, and ends at 0"
)

_Sums = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ScoreOutcomes:
    """Scores that claim to be chances, and whether each came true; both [texts, k].

    Single-label: k is 1, the best score and whether that label is right. Multi-label: k is the number of labels, every
    score and whether the text carries the label.
    """

    scores: np.ndarray
    true: np.ndarray


def score_outcomes(answers: Predictions, truth: np.ndarray, problem_type: str) -> ScoreOutcomes:
    """Return which scores of `answers` are held against what; truth: bool [texts, labels]."""
    if problem_type != SINGLE_LABEL:
        return ScoreOutcomes(answers.scores, truth)
    best = answers.scores.argmax(axis=1)[:, None]
    return ScoreOutcomes(np.take_along_axis(answers.scores, best, axis=1), np.take_along_axis(truth, best, axis=1))


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Return the bin of each score, from 0: those above i/15, up to (i+1)/15; 0 itself is in the first."""
    return np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)


def bin_gaps(judgement: ScoreOutcomes) -> np.ndarray:
    """Return, for each text and bin, the sum of truth less score: [texts, BINS].

    ECE is the sum over bins of the absolute value of the column's sum, divided by the number of scores. Source: Guo et
    al., arXiv 1706.04599, 2; Naeini, Cooper and Hauskrecht, AAAI 2015.
    """
    texts, count = judgement.scores.shape
    sums = np.zeros((texts, BINS))
    rows = np.repeat(np.arange(texts), count)
    np.add.at(sums, (rows, bin_of(judgement.scores).ravel()), (judgement.true - judgement.scores).ravel())
    return sums


def ece_by_chance(scores: np.ndarray) -> float:
    """Return the ECE that `scores` [texts, k] would show on as many texts if each were exactly right, on average.

    What came true is drawn by the scores themselves: no calibration can be told from a better one below this.
    """
    rng = np.random.default_rng(SEED)
    chances, bins = scores.ravel(), bin_of(scores).ravel()
    draws = [
        np.abs(np.bincount(bins, (rng.random(len(chances)) < chances) - chances, BINS)).sum() for _ in range(_DRAWS)
    ]
    return float(np.mean(draws)) / len(chances)


def brier(answers: Predictions, truth: np.ndarray, problem_type: str) -> np.ndarray:
    """Return each text's squared error of its scores, [texts]: summed over labels (0 to 2), multi-label their mean.

    Source: Brier, Monthly Weather Review 78 (1950) 1-3.
    """
    squares = (answers.scores - truth) ** 2
    return squares.sum(axis=1) if problem_type == SINGLE_LABEL else squares.mean(axis=1)


def log_loss(answers: Predictions, truth: np.ndarray, problem_type: str) -> np.ndarray:
    """Return each text's -log of the score of what is true, in nats, [texts]; multi-label the mean over labels."""
    z = answers.logits.astype(np.float64)
    if problem_type == SINGLE_LABEL:
        return np.logaddexp.reduce(z, axis=1) - z[truth]
    return np.logaddexp(0, np.where(truth, -z, z)).mean(axis=1)


def calibration_figures(
    logits: np.ndarray, truth: np.ndarray, plain: DecisionRule, fitted: DecisionRule
) -> dict[str, Figure]:
    """Return the figures of one model's `logits` [texts, labels] under `plain` (before) and `fitted` (after).

    truth: bool [texts, labels]. Of either kind: ece_…, brier_…, nll_… with before, after, and change, the second less
    the first; ece_by_chance, what ece_after would be if the scores were exact. Single-label: accuracy_before,
    accuracy_after. Multi-label, where a text has a label: macro_f1_… and micro_f1_… with before; calibrated, which has
    the thresholds of before; and where others were chosen, tuned and gain, tuned less calibrated.
    """
    before, after = predictions_from_logits(logits, plain), predictions_from_logits(logits, fitted)
    kind, n = plain.problem_type, len(logits)
    pair = {"before": before, "after": after}
    columns: dict[str, np.ndarray] = {}
    for when, answers in pair.items():
        columns[f"ece_{when}"] = bin_gaps(score_outcomes(answers, truth, kind))
        columns[f"brier_{when}"] = brier(answers, truth, kind)[:, None]
        columns[f"nll_{when}"] = log_loss(answers, truth, kind)[:, None]
    scores = n if kind == SINGLE_LABEL else truth.size

    def ece(sums: np.ndarray) -> np.ndarray:
        return np.abs(sums).sum(axis=-1) / scores

    def mean(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / n

    statistics = {
        **_compared("ece", ece),
        **_compared("brier", mean),
        **_compared("nll", mean),
    }
    if kind != SINGLE_LABEL:
        calibrated = predictions_from_logits(logits, replace(fitted, thresholds=plain.thresholds))
        columns["true"] = truth
        for when, answers in {"before": before, "calibrated": calibrated, "tuned": after}.items():
            columns[f"chosen_{when}"] = answers.chosen
            columns[f"hits_{when}"] = answers.chosen & truth
        if truth.any():
            tuned = fitted.thresholds != plain.thresholds
            statistics |= {**_f1("macro_f1", macro_f1, tuned=tuned), **_f1("micro_f1", micro_f1, tuned=tuned)}
    figures = _measured(columns, statistics)
    figures["ece_by_chance"] = Figure(ece_by_chance(score_outcomes(after, truth, kind).scores), n)
    if kind == SINGLE_LABEL:
        for when, answers in pair.items():
            figures[f"accuracy_{when}"] = wilson(int((answers.chosen & truth).sum()), n)
    return figures


def abstention_figures(answers: Predictions, truth: np.ndarray | None, below: float) -> dict[str, Figure]:
    """Return what naming no label below the score `below` does to single-label `answers`; shares of texts.

    answered: that get a label. With truth, bool [texts, labels]: accuracy_answered, of those that do, and accuracy_all,
    as if none abstained. accuracy_answered is left out where no text is answered.
    """
    named = answers.scores.max(axis=1) >= below
    figures = {"answered": wilson(int(named.sum()), len(named))}
    if truth is None:
        return figures
    right = (answers.chosen & truth).any(axis=1)
    if named.any():
        figures["accuracy_answered"] = wilson(int(right[named].sum()), int(named.sum()))
    return figures | {"accuracy_all": wilson(int(right.sum()), len(right))}


def _compared(name: str, of: Callable[[np.ndarray], np.ndarray]) -> dict[str, Callable[[_Sums], np.ndarray]]:
    return {
        f"{name}_before": lambda sums: of(sums[f"{name}_before"]),
        f"{name}_after": lambda sums: of(sums[f"{name}_after"]),
        f"{name}_change": lambda sums: of(sums[f"{name}_after"]) - of(sums[f"{name}_before"]),
    }


def _f1(
    name: str, of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], *, tuned: bool
) -> dict[str, Callable[[_Sums], np.ndarray]]:
    def at(sums: _Sums, when: str) -> np.ndarray:
        return of(sums["true"], sums[f"chosen_{when}"], sums[f"hits_{when}"])

    calibrated = {
        f"{name}_before": lambda sums: at(sums, "before"),
        f"{name}_calibrated": lambda sums: at(sums, "calibrated"),
    }
    if not tuned:
        return calibrated
    return calibrated | {
        f"{name}_tuned": lambda sums: at(sums, "tuned"),
        f"{name}_gain": lambda sums: at(sums, "tuned") - at(sums, "calibrated"),
    }


def _measured(
    columns: Mapping[str, np.ndarray], statistics: Mapping[str, Callable[[_Sums], np.ndarray]]
) -> dict[str, Figure]:
    """Return `statistics` of the sums over texts of `columns`, [texts, any] each, in one bootstrap for all."""
    features = np.concatenate(list(columns.values()), axis=1, dtype=np.float64)
    ends = np.cumsum([block.shape[1] for block in columns.values()])
    resampled = resampled_sums(features)
    figures = {}
    for name, statistic in statistics.items():

        def of_row(sums: np.ndarray, statistic: Callable[[_Sums], np.ndarray] = statistic) -> np.ndarray:
            return statistic(dict(zip(columns, np.split(sums, ends[:-1], axis=-1), strict=True)))

        figure = bootstrapped(of_row, features, resampled, unbiased=name.startswith("ece_"))
        figures[name] = _from_zero(figure) if name in ("ece_before", "ece_after") else figure
    return figures


def _from_zero(figure: Figure) -> Figure:
    return replace(figure, low=max(0.0, figure.low), high=max(0.0, figure.high))
