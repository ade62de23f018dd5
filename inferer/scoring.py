"""Logits to a prediction: activation by problem type, temperature, thresholds. Pure numpy.

The problem type decides between softmax and sigmoid, never the number of logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferer.bundle import SINGLE_LABEL


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text.

    label, score: the best label and its score, whatever the threshold. labels: the best one alone
    (single-label), or every label at or above its threshold, best first, possibly none (multi-label).
    scores: every label's score in the model's order, or with `top_k` the best ones, best first.
    num_tokens: tokens of the whole text, special tokens included. truncated: whether some went unread.
    """

    label: str
    score: float
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    num_tokens: int
    truncated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction as plain types, in the order of the wire format."""
        return {
            "label": self.label,
            "score": self.score,
            "labels": list(self.labels),
            "scores": dict(self.scores),
            "num_tokens": self.num_tokens,
            "truncated": self.truncated,
        }


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


def activate(logits: NDArray[Any], problem_type: str, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the scores [labels] of `logits` [labels], float64 in 0 to 1.

    temperature divides the logits first (Guo et al., arXiv 1706.04599); 1 leaves them alone.
    """
    scaled = logits.astype(np.float64) / temperature
    return softmax(scaled) if problem_type == SINGLE_LABEL else sigmoid(scaled)


def to_prediction(
    scores: NDArray[np.float64],
    labels: tuple[str, ...],
    thresholds: Mapping[str, float] | None,
    top_k: int | None,
    cut: tuple[int, bool],
) -> Prediction:
    """Return the prediction for `scores` [labels].

    thresholds: None for single-label. cut: the encoding's (num_tokens, truncated). Equal scores keep
    the model's order.
    """
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    best = order[0]
    if thresholds is None:
        chosen: tuple[str, ...] = (labels[best],)
    else:
        chosen = tuple(labels[i] for i in order if scores[i] >= thresholds[labels[i]])
    listed = range(len(labels)) if top_k is None else order[:top_k]
    return Prediction(
        label=labels[best],
        score=float(scores[best]),
        labels=chosen,
        scores={labels[i]: float(scores[i]) for i in listed},
        num_tokens=cut[0],
        truncated=cut[1],
    )
