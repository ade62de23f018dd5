"""The loss of a batch: cross-entropy or binary cross-entropy, with weights against unbalanced labels and smoothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.data import SINGLE_LABEL, Dataset
from training.errors import TrainingError
from training.options import BALANCED
from training.recipe import Recipe, Weights

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(recipe: Recipe, train: Dataset) -> Loss:
    """Return the loss of (logits [texts, labels], targets): targets are ids [texts] or 0/1 flags [texts, labels].

    Raises TrainingError for weights that name a label there is none of, or leave one out.
    """
    smoothing = recipe.label_smoothing
    if train.problem_type == SINGLE_LABEL:
        weights = class_weights(recipe.class_weights, train)

        def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
            weight = None if weights is None else weights.to(logits)
            return functional.cross_entropy(logits.float(), targets.long(), weight, label_smoothing=smoothing)

        return cross_entropy
    positive = pos_weight(recipe.pos_weight, train)

    def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        smoothed = targets.float() * (1 - smoothing) + smoothing / 2
        weight = None if positive is None else positive.to(logits)
        return functional.binary_cross_entropy_with_logits(logits.float(), smoothed, pos_weight=weight)

    return binary_cross_entropy


def class_weights(wanted: Weights, train: Dataset) -> Tensor | None:
    """Return the weight of each class, float32 [labels]; "balanced": rows / (classes * rows of the class).

    That is scikit-learn's formula, after King and Zeng, Logistic Regression in Rare Events Data (2001).
    """
    if wanted != BALANCED:
        return _given("class_weights", wanted, train.labels)
    counts = list(train.counts().values())
    return torch.tensor([len(train) / (len(counts) * n) for n in counts], dtype=torch.float32)


def pos_weight(wanted: Weights, train: Dataset) -> Tensor | None:
    """Return what a label that is there weighs more than one that is not, float32 [labels].

    "balanced": rows without the label / rows with it, as torch's BCEWithLogitsLoss describes it; 1 for a label that no
    row has.
    """
    if wanted != BALANCED:
        return _given("pos_weight", wanted, train.labels)
    counts = list(train.counts().values())
    return torch.tensor([(len(train) - n) / n if 0 < n < len(train) else 1.0 for n in counts], dtype=torch.float32)


def _given(option: str, wanted: Weights, labels: Sequence[str]) -> Tensor | None:
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping):
        raise TrainingError(f"{option} is {wanted!r}, expected {BALANCED!r} or a table of label = number")
    unknown, missing = sorted(set(wanted) - set(labels)), [label for label in labels if label not in wanted]
    if unknown or missing:
        what = f"names {unknown[0]!r}" if unknown else f"leaves out {missing[0]!r}"
        raise TrainingError(f"{option} {what}; the labels are {', '.join(labels)}")
    return torch.tensor([wanted[label] for label in labels], dtype=torch.float32)
