"""The loss of a batch: cross-entropy or binary cross-entropy, with weights against unbalanced labels and smoothing.

A regression has the squared error. Relevance from 0 to 1, of grouped rows, has the binary cross-entropy, which gives
the scores their meaning, plus the softmax cross-entropy within each group, which ranks.
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

# Of logits, targets, and the group of each row, where rows have groups.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def make_loss(recipe: Recipe, train: Dataset) -> Loss:
    """Return the loss of (logits [texts, labels], targets, groups).

    Targets are ids [texts], 0/1 flags [texts, labels], or a regression's numbers [texts, 1]. groups: int64 [texts], for
    relevance alone.
    """
    if train.problem_type == REGRESSION:
        return _ranking if is_relevance(train) else _squared
    smoothing = recipe.label_smoothing
    if train.problem_type == SINGLE_LABEL:
        weights = class_weights(recipe.class_weights, train)

        def cross_entropy(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
            weight = None if weights is None else weights.to(logits.device)
            # The mean over rows. torch's own divides by the batch's weights: a row's weight would depend on the rows
            # beside it, and in accumulated batches of one it would vanish.
            return functional.cross_entropy(
                logits.float(), targets.long(), weight, label_smoothing=smoothing, reduction="none"
            ).mean()

        return cross_entropy
    positive = pos_weight(recipe.pos_weight, train)

    def binary_cross_entropy(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
        smoothed = targets.float() * (1 - smoothing) + smoothing / 2
        weight = None if positive is None else positive.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits.float(), smoothed, pos_weight=weight)

    return binary_cross_entropy


def _squared(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
    return functional.mse_loss(logits.float(), targets.float())


def _ranking(logits: Tensor, targets: Tensor, groups: Tensor | None) -> Tensor:
    scores, relevance = logits.float(), targets.float()
    by_row = functional.binary_cross_entropy_with_logits(scores, relevance)
    return by_row if groups is None else by_row + listwise(scores[:, 0], relevance[:, 0], groups)


def listwise(scores: Tensor, relevance: Tensor, groups: Tensor) -> Tensor:
    """Return the mean over groups of the cross-entropy between the softmax of scores and the share of relevance.

    All [rows]. A group whose rows are equally relevant has no order to learn, and does not count. The top-one
    probability of ListNet (Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007).
    """
    losses = []
    for group in groups.unique():
        given = relevance[groups == group]
        if given.min() < given.max():
            losses.append(functional.cross_entropy(scores[groups == group], given / given.sum()))
    return torch.stack(losses).mean() if losses else scores.sum() * 0


def is_relevance(train: Dataset) -> bool:
    """Return whether the numbers are relevance from 0 to 1, of rows that are ranked within groups.

    sentence-transformers' CrossEncoder learns such numbers by the same loss, through a sigmoid.
    """
    return bool(train.groups and train.numbers) and all(0 <= number <= 1 for number in train.numbers)


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
