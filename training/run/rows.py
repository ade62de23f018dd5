"""The rows of a run as the Trainer takes them: tokens, targets, groups, and the teacher's logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.dataset import Dataset
from training.distillation.loss import UNLABELLED
from training.model.losses import is_relevance
from training.model.scale import Scale
from training.model.tokenize import EncodedTexts
from training.run.trainer import GROUPS, TEACHER

Rows = list[dict[str, Any]]


def labelled_rows(dataset: Dataset, encoded: EncodedTexts, scale: Scale) -> Rows:
    """Return the tokens of each text of `dataset` with its target; the Trainer pads them by batch.

    encoded: the tokens of these texts, and perhaps of others behind them.
    """
    if dataset.problem_type == REGRESSION:
        rows: Rows = [
            {**row, "labels": [scale.learned(n)]} for row, n in zip(encoded.rows, dataset.numbers, strict=False)
        ]
        if is_relevance(dataset):
            rows = [{**row, GROUPS: group} for row, group in zip(rows, numbered(dataset.groups), strict=True)]
        return rows
    single = dataset.problem_type == SINGLE_LABEL
    # Lists: the collator stacks no tensors.
    targets = [row[0] for row in dataset.targets] if single else dataset.multi_hot().astype(float).tolist()
    return [{**row, "labels": target} for row, target in zip(encoded.rows, targets, strict=False)]


def training_rows(train: Dataset, encoded: EncodedTexts, scale: Scale, teacher: NDArray[np.float32] | None) -> Rows:
    """Return the rows of `train`, and those without labels behind them, with the teacher's logits if there is one.

    teacher: float32 [rows of encoded, labels].
    """
    rows = labelled_rows(train, encoded, scale)
    if teacher is None:
        return rows
    missing: Any = UNLABELLED if train.problem_type == SINGLE_LABEL else [math.nan] * len(train.labels)
    rows += [{**row, "labels": missing} for row in encoded.rows[len(rows) :]]
    learned = (teacher - scale.mean) / scale.deviation
    return [{**row, TEACHER: logits} for row, logits in zip(rows, learned.tolist(), strict=True)]


def numbered(groups: Sequence[str]) -> list[int]:
    """Return the number of each row's group, by first appearance."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [numbers[group] for group in groups]
