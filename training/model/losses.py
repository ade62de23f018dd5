"""The loss of a batch: cross-entropy or binary cross-entropy, with weights against unbalanced labels and smoothing.

A regression has the squared error; relevance from 0 to 1, of grouped rows, the binary cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.dataset import Dataset
from training.recipe.options import BALANCED
from training.recipe.recipe import Recipe, Weights

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(recipe: Recipe, train: Dataset) -> Loss:
    """Return the loss of (logits [texts, labels], targets).

    Targets are ids [texts], 0/1 flags [texts, labels], or a regression's numbers [texts, 1].
    """
    if train.problem_type == REGRESSION:
        relevance = is_relevance(train)

        def of_numbers(logits: Tensor, targets: Tensor) -> Tensor:
            if relevance:
                return functional.binary_cross_entropy_with_logits(logits.float(), targets.float())
            return functional.mse_loss(logits.float(), targets.float())

        return of_numbers
    smoothing = recipe.label_smoothing
    if train.problem_type == SINGLE_LABEL:
        weights = class_weights(recipe.class_weights, train)

        def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
            weight = None if weights is None else weights.to(logits.device)
            # The mean over rows. torch's own divides by the batch's weights: a row's weight would depend on the rows
            # beside it, and in accumulated batches of one it would vanish.
            return functional.cross_entropy(
                logits.float(), targets.long(), weight, label_smoothing=smoothing, reduction="none"
            ).mean()

        return cross_entropy
    positive = pos_weight(recipe.pos_weight, train)

    def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        smoothed = targets.float() * (1 - smoothing) + smoothing / 2
        weight = None if positive is None else positive.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits.float(), smoothed, pos_weight=weight)

    return binary_cross_entropy


def is_relevance(train: Dataset) -> bool:
    """Return whether the numbers are relevance from 0 to 1, of rows that are ranked within groups.

    sentence-transformers' CrossEncoder learns such numbers by the same loss, through a sigmoid.
    """
    return bool(train.groups) and all(0 <= number <= 1 for number in train.numbers)


def class_weights(wanted: Weights, train: Dataset) -> Tensor | None:
    """Return the weight of each class, float32 [labels]; "balanced": rows / (classes * rows of the class).

    That is scikit-learn's formula, after King and Zeng, Logistic Regression in Rare Events Data (2001). Given weights
    are scaled to a mean of 1 over the training rows, as balanced ones have: the learning rate keeps its meaning.
    """
    counts = list(train.counts().values())
    if wanted == BALANCED:
        return torch.tensor([len(train) / (len(counts) * n) for n in counts], dtype=torch.float32)
    given = _given(wanted, train.labels)
    return None if given is None else given * len(train) / (given * torch.tensor(counts)).sum()


def pos_weight(wanted: Weights, train: Dataset) -> Tensor | None:
    """Return the weight of a present label relative to an absent one, float32 [labels].

    "balanced": rows without the label / rows with it, as torch's BCEWithLogitsLoss describes it; 1 for a label that no
    row or every row has.
    """
    if wanted != BALANCED:
        return _given(wanted, train.labels)
    counts = list(train.counts().values())
    return torch.tensor([(len(train) - n) / n if 0 < n < len(train) else 1.0 for n in counts], dtype=torch.float32)


def _given(wanted: Weights, labels: Sequence[str]) -> Tensor | None:
    if not isinstance(wanted, Mapping):
        return None
    return torch.tensor([wanted[label] for label in labels], dtype=torch.float32)
