"""The loss of a run with a teacher: the labels' loss and the distance from the teacher's scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.model.losses import Loss
from training.recipe.recipe import Recipe

UNLABELLED = -100  # the class of a row that only the teacher knows, as in torch's cross-entropy

# Of logits, targets, and the teacher's logits.
Distillation = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_distillation(recipe: Recipe, problem_type: str, plain: Loss) -> Distillation:
    """Return the loss of (logits [texts, labels], targets, the teacher's logits [texts, labels]).

    A row with both has (1 - alpha) times the loss `plain` of its label plus alpha times the distance from the teacher;
    a row without a label (UNLABELLED, or NaN), or without a teacher (NaN), has the other part alone. The
    distance is the cross-entropy of both at the temperature, times its square (Hinton, Vinyals and Dean, Distilling
    the Knowledge in a Neural Network, 2015); by label where labels are independent; of numbers the squared error.
    """
    temperature, alpha = recipe.temperature, recipe.alpha

    def distance(logits: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of each row, [texts]."""
        if problem_type == REGRESSION:
            return (logits - teacher).square().mean(dim=1)
        soft, own = teacher / temperature, logits / temperature
        if problem_type == SINGLE_LABEL:
            by_row = functional.cross_entropy(own, soft.softmax(dim=1), reduction="none")
        else:
            by_row = functional.binary_cross_entropy_with_logits(own, soft.sigmoid(), reduction="none").mean(dim=1)
        return by_row * temperature**2

    def loss(logits: Tensor, targets: Tensor, teacher: Tensor) -> Tensor:
        logits, teacher = logits.float(), teacher.float()
        known = targets.isfinite() if targets.is_floating_point() else targets != UNLABELLED
        labelled = known.reshape(len(targets), -1).all(dim=1)
        taught = teacher.isfinite().all(dim=1)
        total = logits.sum() * 0
        for rows, weight in ((labelled & taught, 1 - alpha), (labelled & ~taught, 1.0)):
            if weight and rows.any():
                total = total + weight * rows.sum() * plain(logits[rows], targets[rows], None)
        weights = torch.where(labelled, alpha, 1.0)[taught]
        return (total + (weights * distance(logits[taught], teacher[taught])).sum()) / len(logits)

    return loss
