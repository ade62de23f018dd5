"""Fitting of a decision rule to a model's logits: calibration, thresholds, abstention.

Each model that may be served is fitted to its own logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

from export.errors import ExportError
from export.options import ScoreOptions
from export.predictions import DecisionRule, TextReader, compute_logits, predictions_from_logits
from export.scores.calibration_rows import LEAST_EXAMPLES, Rows
from inferer.bundle.manifest import LARGEST, SINGLE_LABEL, Platt
from inferer.scoring import calibration_of
from training.report.thresholds import best_f1, lowest_with_share

# Trained classifiers need 0.5 to 5; a fit that reaches these bounds has failed.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
_GRADIENT = 1e-10  # of the mean loss at the optimum


class FitError(ExportError):
    """A model's logits allow no fit; another model's may."""


@dataclass(frozen=True)
class FittedRule:
    """One model's decision rule and its numbers for the manifest. notes: the labels that were not fitted, and why."""

    rule: DecisionRule
    temperature: float = 1.0
    platt: Mapping[str, Platt] | None = None
    abstain_threshold: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Return the manifest's fields of the rule as plain types."""
        thresholds = self.rule.thresholds
        return {
            "temperature": self.temperature,
            "platt": None if self.platt is None else {label: asdict(one) for label, one in self.platt.items()},
            "thresholds": None if thresholds is None else dict(zip(labels, thresholds, strict=True)),
            "abstain_threshold": self.abstain_threshold,
        }


@dataclass(frozen=True)
class RuleFitter:
    """The fitter of decision rules. plain: the rule without a fit. rows: to fit on; None without calibration."""

    plain: DecisionRule
    labels: tuple[str, ...]
    options: ScoreOptions
    rows: Rows | None
    reader: TextReader

    def fit(self, model: Path, name: str) -> FittedRule:
        """Return the fit of the ONNX file `model`; `name` is for the progress bar. Raises FitError."""
        if self.rows is None:
            return FittedRule(self.plain, abstain_threshold=self.options.abstain_score)
        logits = compute_logits(model, self.reader, self.rows.texts, f"running {name} to calibrate")
        return self.fit_logits(logits, self.rows.truth)

    def fit_logits(self, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
        """Return the fit of `logits` [texts, labels] to `truth`, bool of that shape. Raises FitError."""
        fit = self._fit_single if self.plain.problem_type == SINGLE_LABEL else self._fit_multi
        return fit(logits, truth)

    def _fit_single(self, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
        right = logits.argmax(axis=1) == truth.argmax(axis=1)
        temperature = fit_temperature(logits, truth)
        if right.all() or temperature == LOWEST_TEMPERATURE:
            count = f"all {len(right):,}" if right.all() else f"{right.sum():,} of {len(right):,} (the rest by a hair)"
            raise FitError(
                f"--calibrate: the model labels {count} fitted rows right, from which every score would be 1; give "
                "more rows, or others that the model was not trained on"
            )
        if temperature == HIGHEST_TEMPERATURE:
            raise FitError(
                f"--calibrate: no temperature up to {HIGHEST_TEMPERATURE:g} makes the scores fit the {len(right):,} "
                f"rows: they do not show which predictions are right ({right.mean():.1%} are); are these the model's "
                "labels?"
            )
        rule = replace(self.plain, calibration=calibration_of(temperature, None))
        threshold, share = self.options.abstain_score, self.options.abstain_accuracy
        if share is not None:
            threshold = lowest_with_share(predictions_from_logits(logits, rule).scores.max(axis=1), right, share)
            if threshold is None:
                raise FitError(
                    f"--abstain-below {self.options.abstaining}: at every score, fewer of the predictions at or above "
                    f"it are right, on the {len(right):,} fitted rows"
                )
        return FittedRule(rule, temperature, None, threshold)

    def _fit_multi(self, logits: np.ndarray, truth: np.ndarray) -> FittedRule:
        examples = truth.sum(axis=0)
        rare = np.minimum(examples, len(truth) - examples) < LEAST_EXAMPLES
        found = [None if rare[i] else fit_platt(logits[:, i], truth[:, i]) for i in range(len(self.labels))]
        if not any(found):
            raise FitError(
                f"--calibrate: for no label do the {len(truth):,} fitted rows show that it is likelier where its logit "
                "is higher; are these the model's labels?"
            )
        platt = {label: one or Platt(1.0, 0.0) for label, one in zip(self.labels, found, strict=True)}
        rule = replace(self.plain, calibration=calibration_of(1.0, platt))
        falling = ~rare & np.array([one is None for one in found])
        kept = {
            f"fewer than {LEAST_EXAMPLES} fitted rows with or without the label, so its scores stay": rare,
            "the logit does not rise with the label, so its scores stay": falling,
        }
        if self.options.tuning is not None:
            thresholds, untuned = self._tune(predictions_from_logits(logits, rule).scores, truth)
            rule = replace(rule, thresholds=thresholds)
            kept |= untuned
        notes = [
            f"{reason}: {', '.join(label for label, hit in zip(self.labels, hits, strict=True) if hit)}"
            for reason, hits in kept.items()
            if hits.any()
        ]
        return FittedRule(rule, 1.0, platt, None, tuple(notes))

    def _tune(self, scores: np.ndarray, truth: np.ndarray) -> tuple[tuple[float, ...], dict[str, np.ndarray]]:
        """Return each label's threshold on `scores` [texts, labels], and the labels that keep theirs, by reason."""
        precision = self.options.precision
        rare = truth.sum(axis=0) < LEAST_EXAMPLES
        thresholds, missed = list(self.plain.thresholds or ()), np.zeros_like(rare)
        for i in np.flatnonzero(~rare):
            column = scores[:, i], truth[:, i]
            chosen = best_f1(*column) if precision is None else lowest_with_share(*column, precision)
            missed[i] = chosen is None
            thresholds[i] = thresholds[i] if chosen is None else chosen
        return tuple(thresholds), {
            f"fewer than {LEAST_EXAMPLES} fitted rows with the label, so the threshold stays": rare,
            f"no threshold reaches {self.options.tuning}, so it stays": missed,
        }


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature of least log loss, or the bound that it lies beyond.

    logits: [texts, labels]. truth: bool of that shape, one label per text. The loss is convex in 1/T, so its slope has
    one root. Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), 4.2.
    """
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    right = z[truth]

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * z)
        return float(((weights * z).sum(axis=1) / weights.sum(axis=1) - right).mean())

    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if slope(low) >= 0:
        return HIGHEST_TEMPERATURE
    if slope(high) <= 0:
        return LOWEST_TEMPERATURE
    return float(1 / brentq(slope, low, high, xtol=1e-15))


def fit_platt(logits: np.ndarray, truth: np.ndarray) -> Platt | None:
    """Return scale and bias of least log loss for one label; None without a scale above 0.

    logits, truth: [texts]. The targets are Platt's, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) instead of 1 and 0, which keep
    the fit finite for separable logits. A scale of at most 0 would turn higher logits into lower scores, and equal
    logits give no scale. Source: Platt, Probabilistic Outputs for Support Vector Machines (1999).
    """
    yes, no = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (yes + 1) / (yes + 2), 1 / (no + 2))
    z = logits.astype(np.float64)
    mean, spread = float(z.mean()), float(z.std())
    if spread == 0:
        return None
    columns = np.stack([(z - mean) / spread, np.ones_like(z)])  # standardized, so one step size suits any logits

    def loss_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        fitted = point @ columns
        loss = np.logaddexp(0, fitted) - target * fitted
        return float(loss.mean()), columns @ (expit(fitted) - target) / len(z)

    start = np.array([0.0, np.log((yes + 1) / (no + 1))])
    found = minimize(loss_and_gradient, start, jac=True, method="BFGS", options={"gtol": _GRADIENT}).x
    scale, bias = float(found[0]) / spread, float(found[1]) - float(found[0]) * mean / spread
    if not 0 < scale <= LARGEST or not abs(bias) <= LARGEST:
        return None
    return Platt(scale, bias)
