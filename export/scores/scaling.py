"""Calibration parameters by maximum likelihood: one temperature, or a scale and a bias per label."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

from inferer.bundle.manifest import LARGEST, Platt

# Trained classifiers need 0.5 to 5; a fit that reaches these bounds has failed.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
_GRADIENT = 1e-10  # of the mean loss at the optimum


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
