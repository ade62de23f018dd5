"""Fit the rule by which a model's logits become labels: calibration, thresholds, when to name none.

The same fit is made for each model that may be served, on what that model itself answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportError
from export.logits import TextReader, compute_logits
from export.options import ScoreOptions
from export.predictions import DecisionRule, predictions_from_logits
from export.scores.calibration_rows import LEAST_EXAMPLES, Rows
from export.scores.scaling import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, fit_platt, fit_temperature
from inferer.bundle.manifest import SINGLE_LABEL, Platt
from inferer.scoring import calibration_of
from training.report.thresholds import best_f1, lowest_with_share


class FitError(ExportError):
    """A model's answers allow no fit; another model's may."""


@dataclass(frozen=True)
class FittedRule:
    """How one model's logits become labels, and the numbers that the manifest states for it.

    notes: what was not fitted, and why.
    """

    rule: DecisionRule
    temperature: float = 1.0
    platt: Mapping[str, Platt] | None = None
    abstain_threshold: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Return the fields of the manifest that say how scores and labels are made, as plain types."""
        thresholds = self.rule.thresholds
        return {
            "temperature": self.temperature,
            "platt": None if self.platt is None else {label: asdict(one) for label, one in self.platt.items()},
            "thresholds": None if thresholds is None else dict(zip(labels, thresholds, strict=True)),
            "abstain_threshold": self.abstain_threshold,
        }


@dataclass(frozen=True)
class RuleFitter:
    """How a model is fitted: by what rule its labels are named without a fit, what is asked, and the rows for it.

    rows: None where nothing is calibrated.
    """

    plain: DecisionRule
    labels: tuple[str, ...]
    options: ScoreOptions
    rows: Rows | None
    reader: TextReader

    def __call__(self, model: Path, what: str) -> FittedRule:
        """Return the fit of the ONNX file `model`, which the progress bar calls `what`. Raises FitError."""
        if self.rows is None:
            return FittedRule(self.plain, abstain_threshold=self.options.abstain_score)
        return self.of(
            compute_logits(model, self.reader, self.rows.texts, f"asking {what} to calibrate"), self.rows.truth
        )

    def of(self, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
        """Return the fit of `logits` [texts, labels] to `truth`, bool of that shape. Raises FitError."""
        if self.plain.problem_type == SINGLE_LABEL:
            return _single(self, logits, truth)
        return _multi(self, logits, truth)


Fitting = Callable[[Path, str], FittedRule]


def _single(fitter: RuleFitter, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
    right = logits.argmax(axis=1) == truth.argmax(axis=1)
    temperature = fit_temperature(logits, truth)
    if right.all() or temperature == LOWEST_TEMPERATURE:
        count = f"all {len(right):,}" if right.all() else f"{right.sum():,} of {len(right):,} (the others by a hair)"
        raise FitError(
            f"--calibrate: {count} rows that are fitted on are answered right, from which every score would be 1; give "
            "more rows, or other ones, that the model was not trained on"
        )
    if temperature == HIGHEST_TEMPERATURE:
        raise FitError(
            f"--calibrate: no temperature up to {HIGHEST_TEMPERATURE:g} makes the scores fit the {len(right):,} rows: "
            f"they tell nothing of which answers are right ({right.mean():.1%} are); are these the model's labels?"
        )
    rule = replace(fitter.plain, calibration=calibration_of(temperature, None))
    threshold, share = fitter.options.abstain_score, fitter.options.abstain_accuracy
    if share is not None:
        threshold = lowest_with_share(predictions_from_logits(logits, rule).scores.max(axis=1), right, share)
        if threshold is None:
            raise FitError(
                f"--abstain-below {fitter.options.abstaining}: at every score, fewer of the predictions at or above "
                f"it are right, on the {len(right):,} rows that are fitted on"
            )
    return FittedRule(rule, temperature, None, threshold)


def _multi(fitter: RuleFitter, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
    examples = truth.sum(axis=0)
    rare = np.minimum(examples, len(truth) - examples) < LEAST_EXAMPLES
    found = [None if rare[i] else fit_platt(logits[:, i], truth[:, i]) for i in range(len(fitter.labels))]
    if not any(found):
        raise FitError(
            f"--calibrate: of no label do the {len(truth):,} fitted rows show that it is likelier where its logit is "
            "higher; are these the model's labels?"
        )
    platt = {label: one or Platt(1.0, 0.0) for label, one in zip(fitter.labels, found, strict=True)}
    rule = replace(fitter.plain, calibration=calibration_of(1.0, platt))
    kept = {
        f"fewer than {LEAST_EXAMPLES} fitted rows with or without the label, so scores stay as they were": rare,
        "the logit does not rise with the label, so scores stay as they were": ~rare
        & np.array([one is None for one in found]),
    }
    if fitter.options.tuning is not None:
        thresholds, untuned = _tuned(fitter, predictions_from_logits(logits, rule).scores, truth)
        rule = replace(rule, thresholds=thresholds)
        kept |= untuned
    notes = [_note(why, fitter.labels, which) for why, which in kept.items() if which.any()]
    return FittedRule(rule, 1.0, platt, None, tuple(notes))


def _tuned(
    fitter: RuleFitter, scores: np.ndarray, truth: np.ndarray
) -> tuple[tuple[float, ...], dict[str, np.ndarray]]:
    """Return each label's threshold on `scores` [texts, labels], and which labels, bool, keep theirs, by reason."""
    precision = fitter.options.precision
    rare = truth.sum(axis=0) < LEAST_EXAMPLES
    thresholds, missed = list(fitter.plain.thresholds), np.zeros_like(rare)
    for i in np.flatnonzero(~rare):
        column = scores[:, i], truth[:, i]
        chosen = best_f1(*column) if precision is None else lowest_with_share(*column, precision)
        missed[i] = chosen is None
        thresholds[i] = thresholds[i] if chosen is None else chosen
    return tuple(thresholds), {
        f"fewer than {LEAST_EXAMPLES} fitted rows with the label, so the threshold stays": rare,
        f"no threshold reaches {fitter.options.tuning}, so it stays": missed,
    }


def _note(why: str, labels: tuple[str, ...], which: np.ndarray) -> str:
    return f"{why}: {', '.join(label for label, hit in zip(labels, which, strict=True) if hit)}"
