"""The distributions that a bundle remembers, so that drift can be seen: labels and scores, never a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.guard.guard import GuardResult
from inferer.bundle.manifest import NONE, REGRESSION
from training.evaluation.model_folder import RECORD

BINS = 20  # of the best score of a text, from 0 to 1


def reference(checkpoint: Path, labels: Sequence[str], guard: GuardResult | None) -> dict[str, Any]:
    """Return the manifest's `reference`.

    training: the rows of each label that the checkpoint was trained on; None where it has no record of training.
    evaluated: the predictions of the bundle's model on the guard's texts, as texts per label and per bin of the best
    score; None without a guard.
    """
    if guard is not None and guard.problem_type == REGRESSION and guard.activation == NONE:
        guard = None  # the bins are of scores from 0 to 1
    return {
        "training": _training(checkpoint, labels),
        "evaluated": None if guard is None else _evaluated(guard, labels),
    }


def _training(checkpoint: Path, labels: Sequence[str]) -> dict[str, int] | None:
    try:
        counts = json.loads((checkpoint / RECORD).read_text(encoding="utf-8"))["data"]["counts"]
        return {label: int(counts[label]) for label in labels}
    except (OSError, ValueError, KeyError, TypeError):  # another checkpoint's, or labels renamed at export
        return None


def _evaluated(guard: GuardResult, labels: Sequence[str]) -> dict[str, Any]:
    found = guard.measured.fp32 if guard.chosen is None else guard.measured.int8
    per_label = found.chosen.sum(axis=0).tolist()
    bins = np.minimum((found.scores.max(axis=1) * BINS).astype(int), BINS - 1)
    return {
        "file": guard.texts.name,
        "labels": dict(zip(labels, per_label, strict=True)),
        "scores": np.bincount(bins, minlength=BINS).tolist(),
    }
