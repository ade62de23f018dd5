"""Predictions from logits: pooling of windows, calibration, activation, thresholds. Pure numpy.

The problem type decides between softmax and sigmoid, never the number of logits; a bundle of one number, a regression
or a reranker, names its activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.manifest import MAX, NONE, SOFTMAX, Platt
from inferer.tokens.texts import SIDES

Logits: TypeAlias = NDArray[np.float32]
Scores: TypeAlias = NDArray[np.float64]


class Calibration(NamedTuple):
    """The affine change of logits before they become scores: times scale, plus bias; float64, [labels] or [1]."""

    scale: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule that turns scores into labels.

    thresholds: one per label; None for single-label. abstain_below: single-label names no label when its best score
    is below this; None to always name one. top_k: how many scores to list; None lists all.
    """

    thresholds: Mapping[str, float] | None = None
    abstain_below: float | None = None
    top_k: int | None = None


class SideCounts(NamedTuple):
    """Tokens of one text of a pair before truncation, without special tokens; whether some were cut."""

    num_tokens: int
    truncated: bool


class TokenCounts(NamedTuple):
    """Tokens of a text or pair before truncation; whether some were cut; windows, None where the text was not split.

    sides: both texts of a pair; None for one text.
    """

    num_tokens: int
    truncated: bool
    windows: int | None = None
    sides: tuple[SideCounts, ...] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one text, or one pair of texts.

    label, score: the best label and its score, whatever the threshold; of a regression, its only label and the number.
    labels: the best label alone (single-label), or
    every label at or above its threshold, best first, possibly none (multi-label). scores: every label's score in the
    model's order, or with `top_k` the best ones, best first. num_tokens: tokens of the whole text, special tokens
    included. truncated: whether the model saw only a part of them. windows: how many the text was split into, or None.
    sides: the tokens of both texts of a pair, or None.
    abstained: whether the best score was too low, so that `labels` is empty; None where the model always names a label.
    activated: every label's logit after the activation that the call chose, best first; None without such a choice.
    """

    label: str
    score: float
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    num_tokens: int
    truncated: bool
    windows: int | None = None
    sides: tuple[SideCounts, ...] | None = None
    abstained: bool | None = None
    activated: Mapping[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain types, in the order of the wire format, without `activated` and Nones."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "activated"}
        values |= {"labels": list(self.labels), "scores": dict(self.scores)}
        if self.sides is not None:
            values["sides"] = {name: side._asdict() for name, side in zip(SIDES, self.sides, strict=True)}
        return {name: value for name, value in values.items() if value is not None}


def softmax(logits: NDArray[Any]) -> Scores:
    """Return the softmax of `logits` [..., labels] over the labels, in float64."""
    exp: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[Any]) -> Scores:
    """Return the logistic function of `logits`, elementwise, in float64."""
    exp = np.exp(-np.abs(logits.astype(np.float64)))  # of a non-positive number only, so that no logit overflows
    return np.asarray(np.where(logits >= 0, 1.0, exp) / (1.0 + exp))


def calibration_of(temperature: float, platt: Mapping[str, Platt] | None) -> Calibration | None:
    """Return the calibration of a bundle, `platt` being in the order of the logits; None when it changes nothing.

    Temperature: Guo et al., arXiv 1706.04599. Scale and bias: Platt, Advances in Large Margin Classifiers, 1999.
    """
    if temperature == 1 and platt is None:
        return None
    affine = [Platt(1.0, 0.0)] if platt is None else platt.values()
    scale, bias = np.array([(one.scale, one.bias) for one in affine]).T
    return Calibration(1 / temperature * scale, bias)


def calibrated(logits: NDArray[Any], calibration: Calibration | None) -> NDArray[np.float64]:
    """Return `logits` [..., labels] after calibration, float64."""
    scaled = logits.astype(np.float64)
    return scaled if calibration is None else scaled * calibration.scale + calibration.bias


def activate(logits: NDArray[Any], activation: str, calibration: Calibration | None = None) -> Scores:
    """Return the scores [..., labels] of `logits` [..., labels], float64, from 0 to 1 unless `activation` is "none"."""
    values = calibrated(logits, calibration)
    return values if activation == NONE else (softmax if activation == SOFTMAX else sigmoid)(values)


def activated(
    logits: NDArray[Any], activation: str, labels: Sequence[str], calibration: Calibration | None = None
) -> dict[str, float]:
    """Return each label's logit after `activation`, best first; equal ones keep the model's order.

    "softmax" and "sigmoid" apply to the calibrated logits, as the model's own does; "none" returns the raw logits.
    """
    values = activate(logits, activation, None if activation == NONE else calibration)
    return {labels[i]: float(values[i]) for i in np.argsort(-values, kind="stable")}


def pool(rows: Sequence[Logits], lengths: Sequence[int], pooling: str) -> Logits:
    """Return the logits [labels] of a text from the logits [labels] of its windows.

    "mean" weighs each window by its length in tokens of the text; "max" takes each label's highest logit. The logits
    of a single window stay as they are.
    """
    if len(rows) == 1:
        return rows[0]
    if pooling == MAX:
        return np.asarray(np.max(rows, axis=0), dtype=np.float32)
    return np.asarray(np.average(np.array(rows, dtype=np.float64), axis=0, weights=lengths), dtype=np.float32)


def to_prediction(scores: Scores, labels: tuple[str, ...], choice: Choice, counts: TokenCounts) -> Prediction:
    """Return the prediction for `scores` [labels]; equal scores keep the model's order."""
    if choice.thresholds is None and choice.top_k is None:
        order = [int(scores.argmax())]  # the first of equal ones
    else:
        order = np.argsort(-scores, kind="stable").tolist()
    best = order[0]
    abstained = None if choice.abstain_below is None else bool(scores[best] < choice.abstain_below)
    if choice.thresholds is not None:
        chosen = tuple(labels[i] for i in order if scores[i] >= choice.thresholds[labels[i]])
    else:
        chosen = () if abstained else (labels[best],)
    if choice.top_k is None:
        shown = dict(zip(labels, scores.tolist(), strict=True))
    else:
        shown = {labels[i]: float(scores[i]) for i in order[: choice.top_k]}
    return Prediction(labels[best], float(scores[best]), chosen, shown, *counts, abstained=abstained)
