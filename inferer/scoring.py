"""Logits to a prediction: windows pooled, calibration, activation by problem type, thresholds. Pure numpy.

The problem type decides between softmax and sigmoid, never the number of logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.manifest import MAX, SINGLE_LABEL, Platt

SOFTMAX, SIGMOID, NONE = ACTIVATIONS = ("softmax", "sigmoid", "none")


class Calibration(NamedTuple):
    """What is done to logits before they become scores: times scale, plus bias; float64, each [labels] or a scalar."""

    scale: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """How scores become labels.

    thresholds: one a label, None for single-label. abstain_below: the score of the best label below which
    single-label names none; None where it always names one. top_k: how many scores are listed; None lists all.
    """

    thresholds: Mapping[str, float] | None = None
    abstain_below: float | None = None
    top_k: int | None = None


class TokenCounts(NamedTuple):
    """What was read of a text: its tokens before any cut, whether some went unread, windows where it was read so."""

    num_tokens: int
    truncated: bool
    windows: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text.

    label, score: the best label and its score, whatever the threshold. labels: the best one alone
    (single-label), or every label at or above its threshold, best first, possibly none (multi-label).
    scores: every label's score in the model's order, or with `top_k` the best ones, best first.
    num_tokens: tokens of the whole text, special tokens included. truncated: whether some went unread.
    windows: in how many the text was read; None where it was not read so. abstained: whether the best score was too
    low for a label to be named, so that `labels` is empty; None where the model always names one.
    activated: every label's logit by the activation that the call asked for, best first; None where it asked for none.
    """

    label: str
    score: float
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    num_tokens: int
    truncated: bool
    windows: int | None = None
    abstained: bool | None = None
    activated: Mapping[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain types, in the order of the wire format; what is None is left out.

        `activated` is no part of our own format.
        """
        values = {
            "label": self.label,
            "score": self.score,
            "labels": list(self.labels),
            "scores": dict(self.scores),
            "num_tokens": self.num_tokens,
            "truncated": self.truncated,
        }
        optional = {"windows": self.windows, "abstained": self.abstained}
        return values | {name: value for name, value in optional.items() if value is not None}


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax of `logits` [labels] in float64."""
    exp: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max())
    scores: NDArray[np.float64] = exp / exp.sum()
    return scores


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logistic function of `logits`, elementwise, in float64."""
    # exp of a non-positive number only, so that no logit overflows.
    exp = np.exp(-np.abs(logits.astype(np.float64)))
    scores: NDArray[np.float64] = np.where(logits >= 0, 1.0, exp) / (1.0 + exp)
    return scores


def calibration_of(temperature: float, platt: Mapping[str, Platt] | None) -> Calibration | None:
    """Return what a bundle's temperature and `platt`, in the order of the logits, do to logits; None for nothing.

    Temperature scaling: Guo et al., arXiv 1706.04599. Scale and bias a label: Platt, Advances in Large Margin
    Classifiers (1999).
    """
    if temperature == 1 and platt is None:
        return None
    scale, bias = np.array(1 / temperature), np.array(0.0)
    if platt is None:
        return Calibration(scale, bias)
    scales, biases = ([getattr(one, name) for one in platt.values()] for name in ("scale", "bias"))
    return Calibration(scale * np.array(scales), np.array(biases))


def activate(logits: NDArray[Any], problem_type: str, calibration: Calibration | None = None) -> NDArray[np.float64]:
    """Return the scores [labels] of `logits` [labels], float64 in 0 to 1."""
    return (softmax if problem_type == SINGLE_LABEL else sigmoid)(calibrated(logits, calibration))


def calibrated(logits: NDArray[Any], calibration: Calibration | None) -> NDArray[np.float64]:
    """Return `logits` [labels] after what a bundle's calibration does to them, float64."""
    scaled = logits.astype(np.float64)
    return scaled if calibration is None else scaled * calibration.scale + calibration.bias


def activated(
    logits: NDArray[Any], activation: str, labels: Sequence[str], calibration: Calibration | None = None
) -> dict[str, float]:
    """Return each label's logit by `activation`, best first: equal ones in the model's order.

    "softmax" and "sigmoid" are of the calibrated logits, so that the model's own activation gives its own scores;
    "none" gives the logits as the model gave them.
    """
    values = logits.astype(np.float64)
    if activation != NONE:
        values = (softmax if activation == SOFTMAX else sigmoid)(calibrated(logits, calibration))
    return {labels[i]: float(values[i]) for i in np.argsort(-values, kind="stable")}


def pool(rows: Sequence[NDArray[np.float32]], lengths: Sequence[int], pooling: str) -> NDArray[np.float32]:
    """Return the logits [labels] of a text that was read in windows, from theirs, a row [labels] each.

    "mean" weighs each window by its length in tokens of the text, "max" takes each label's highest logit. One window's
    logits stay as they are.
    """
    if len(rows) == 1:
        return rows[0]
    if pooling == MAX:
        highest: NDArray[np.float32] = np.max(rows, axis=0)
        return highest
    mean: NDArray[np.float64] = np.average(np.array(rows, dtype=np.float64), axis=0, weights=lengths)
    return mean.astype(np.float32)


def to_prediction(
    scores: NDArray[np.float64], labels: tuple[str, ...], choice: Choice, counts: TokenCounts
) -> Prediction:
    """Return the prediction for `scores` [labels]. Equal scores keep the model's order."""
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    best = order[0]
    abstained = None if choice.abstain_below is None else bool(scores[best] < choice.abstain_below)
    if choice.thresholds is not None:
        chosen = tuple(labels[i] for i in order if scores[i] >= choice.thresholds[labels[i]])
    else:
        chosen = () if abstained else (labels[best],)
    listed = range(len(labels)) if choice.top_k is None else order[: choice.top_k]
    return Prediction(
        label=labels[best],
        score=float(scores[best]),
        labels=chosen,
        scores={labels[i]: float(scores[i]) for i in listed},
        num_tokens=counts.num_tokens,
        truncated=counts.truncated,
        windows=counts.windows,
        abstained=abstained,
    )
