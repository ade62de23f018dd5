"""Logits to scores and named labels by the rule that a bundle would apply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferer.scoring import Calibration, activate, calibrated


@dataclass(frozen=True)
class DecisionRule:
    """The step from logits to labels: problem type, multi-label thresholds in label order, and calibration."""

    problem_type: str
    thresholds: tuple[float, ...] | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: logits and scores, float64 [texts, labels], and the named labels, bool of that shape.

    Logits are calibrated where the rule calibrates. Single-label names the best label, even where the bundle would
    abstain; multi-label names every label at or above its threshold.
    """

    logits: np.ndarray
    scores: np.ndarray
    chosen: np.ndarray


def predictions_from_logits(logits: np.ndarray, rule: DecisionRule) -> Predictions:
    """Return the predictions that `rule` makes from a model's raw `logits` [texts, labels]."""
    scores = activate(logits, rule.problem_type, rule.calibration)
    if rule.thresholds is None:
        chosen = np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    else:
        chosen = scores >= np.array(rule.thresholds)
    return Predictions(calibrated(logits, rule.calibration), scores, chosen)
