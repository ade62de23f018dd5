"""Texts to logits by an ONNX file, and logits to scores and named labels by the rule that a bundle would apply."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.errors import ExportError
from inferer.bundle.manifest import MAX, activation_of
from inferer.cpu import available_cpus
from inferer.scoring import Calibration, activate, calibrated, pool
from inferer.session import Session
from inferer.tokens.encoding import Encoder
from inferer.tokens.texts import TextOrPair


@dataclass(frozen=True)
class TextReader:
    """The bundle's way from a text to model inputs: its encoder, truncation, and pooling of windows."""

    encoder: Encoder
    truncation: str
    pooling: str = MAX

    def logits(self, session: Session, text: TextOrPair) -> np.ndarray:
        """Return the logits [labels] of one text or pair."""
        parts = self.encoder.encode(text, self.truncation)
        return pool([session.run(part) for part in parts], [part.own_tokens for part in parts], self.pooling)


@dataclass(frozen=True)
class DecisionRule:
    """The step from logits to labels: problem type, multi-label thresholds in label order, and calibration.

    activation: from logits to scores; None for the one of the problem type.
    """

    problem_type: str
    thresholds: tuple[float, ...] | None = None
    calibration: Calibration | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: logits and scores, float64 [texts, labels], and the named labels, bool of that shape.

    Logits are calibrated where the rule calibrates. Single-label names the best label, even where the bundle would
    abstain; multi-label names every label at or above its threshold.
    """

    logits: np.ndarray
    scores: np.ndarray
    chosen: np.ndarray


def compute_logits(model: Path, reader: TextReader, texts: Sequence[TextOrPair], description: str | None) -> np.ndarray:
    """Return the logits [texts, labels] of the ONNX file `model`.

    description: of the progress bar; None shows none. Raises ExportError for logits that are not finite.
    """
    session = Session(model, available_cpus())
    hidden = description is None
    bar = tqdm(texts, desc=description, unit="text", leave=False, file=sys.stderr, position=1, disable=hidden)
    logits = np.stack([reader.logits(session, text) for text in bar])
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        raise ExportError(f"{model.name}: the logits of text {row + 1} are not finite: {logits[row].tolist()}")
    return logits


def predictions_from_logits(logits: np.ndarray, rule: DecisionRule) -> Predictions:
    """Return the predictions that `rule` makes from a model's raw `logits` [texts, labels]."""
    scores = activate(logits, rule.activation or activation_of(rule.problem_type), rule.calibration)
    if rule.thresholds is None:
        chosen = np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    else:
        chosen = scores >= np.array(rule.thresholds)
    return Predictions(calibrated(logits, rule.calibration), scores, chosen)
