"""Fit what makes scores say how often they are right: one temperature, or a scale and a bias a label. Pure numpy."""

from __future__ import annotations

import numpy as np

from inferer.bundle.manifest import LARGEST, Platt

# Trained classifiers are mended by 0.5 to 5. A fit that runs beyond these has found no answer, not a strange one.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
_HALVINGS = 100  # of an interval of 20 in 1/T: more than a float can tell apart

_MOST_STEPS = 100
_STEEPNESS = 1e-10  # of the mean loss, where it counts as flat
_RIDGE = 1e-12
_SMALLEST_STEP = 1e-10
_ENOUGH = 1e-4  # of the descent that the slope promises, what a step must bring


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature that makes the labels of `truth` likeliest; a bound where none between them does.

    logits: [texts, labels]. truth: bool of that shape, one label a text. The mean of -log(score of the right
    label) is convex in 1/T, so its slope there is halved in on. Source: Guo et al., On Calibration of Modern
    Neural Networks (arXiv 1706.04599), 4.2.
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
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def fit_platt(logits: np.ndarray, truth: np.ndarray) -> Platt | None:
    """Return scale and bias that make one label's `truth` [texts] likeliest; None where no sound scale does.

    logits: [texts]. The targets are Platt's: not 1 and 0 but (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keeps
    the fit finite where a logit tells all. None where the scale is not above 0, so that a higher logit would mean
    a lower score, or is not to be told as all logits are alike.

    Sources: Platt, Probabilistic Outputs for Support Vector Machines (1999); Newton's method with backtracking as in
    Lin, Lin and Weng, Machine Learning 68 (2007) 267-276.
    """
    yes, no = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (yes + 1) / (yes + 2), 1 / (no + 2))
    z = logits.astype(np.float64)
    middle, spread = float(z.mean()), float(z.std())
    if spread == 0:
        return None
    x = (z - middle) / spread  # so that one size of step suits scale and bias, whatever the logits' size
    scale, bias = _newton(x, target, np.log((yes + 1) / (no + 1)))
    scale, bias = scale / spread, bias - scale * middle / spread
    if not 0 < scale <= LARGEST or not abs(bias) <= LARGEST:
        return None
    return Platt(scale, bias)


def _newton(x: np.ndarray, target: np.ndarray, bias: float) -> tuple[float, float]:
    """Return the scale and bias of least mean cross-entropy between sigmoid(scale * x + bias) and `target`."""
    columns = np.stack([x, np.ones_like(x)])
    at = np.array([0.0, bias])

    def loss(point: np.ndarray) -> float:
        z = point @ columns
        return float((np.logaddexp(0, z) - target * z).mean())

    now = loss(at)
    for _ in range(_MOST_STEPS):
        score = np.exp(-np.logaddexp(0, -(at @ columns)))
        gradient = columns @ (score - target) / len(x)
        if np.abs(gradient).max() < _STEEPNESS:
            break
        hessian = (columns * (score * (1 - score))) @ columns.T / len(x) + _RIDGE * np.eye(2)
        direction = -np.linalg.solve(hessian, gradient)
        step = 1.0
        while (then := loss(at + step * direction)) > now + _ENOUGH * step * (gradient @ direction):
            step /= 2
            if step < _SMALLEST_STEP:
                return float(at[0]), float(at[1])
        at, now = at + step * direction, then
    return float(at[0]), float(at[1])
