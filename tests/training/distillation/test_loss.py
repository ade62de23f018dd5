"""The loss of a run with a teacher, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.distillation.loss import UNLABELLED, make_distillation
from training.recipe.recipe import Recipe

NAN = math.nan
LOGITS = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.5, 0.0]])
TEACHER = torch.tensor([[1.0, 1.0], [NAN, NAN], [0.0, 4.0]])


def plain(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
    """Return a loss that tells which rows it was given: ten times the sum of the targets, over the rows."""
    return 10 * targets.float().sum() / len(logits)


def cross_entropy(own: list[float], soft: list[float], temperature: float) -> float:
    """Return the cross-entropy of two rows of logits at `temperature`, times its square, in plain Python."""
    odds = [math.exp(x / temperature) for x in soft]
    total = math.log(sum(math.exp(x / temperature) for x in own))
    parts = [odd / sum(odds) * (total - x / temperature) for odd, x in zip(odds, own, strict=True)]
    return sum(parts) * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_labels_and_teacher_share_the_loss_of_a_row(temperature: float) -> None:
    """A row with both has both parts, one without a teacher the label's, one without a label the teacher's."""
    loss = make_distillation(Recipe(alpha=0.25, temperature=temperature), SINGLE_LABEL, plain)
    found = loss(LOGITS, torch.tensor([1, 1, UNLABELLED]), TEACHER)
    distances = [cross_entropy([2.0, 0.0], [1.0, 1.0], temperature), cross_entropy([0.5, 0.0], [0.0, 4.0], temperature)]
    assert found.item() == pytest.approx((0.75 * 10 + 0.25 * distances[0] + 10 + distances[1]) / 3, rel=1e-5)


def test_independent_labels_have_the_mean_of_binary_distances() -> None:
    """Flags: the mean over the labels of the binary cross-entropy, NaN flags being those of an unlabelled row."""
    loss = make_distillation(Recipe(alpha=0.25, temperature=2.0), MULTI_LABEL, plain)
    found = loss(LOGITS, torch.tensor([[1.0, 0.0], [1.0, 1.0], [NAN, NAN]]), TEACHER)

    def binary(own: float, soft: float) -> float:
        share = 1 / (1 + math.exp(-soft / 2))
        return 4 * (share * math.log(1 + math.exp(-own / 2)) + (1 - share) * math.log(1 + math.exp(own / 2)))

    distances = [(binary(2.0, 1.0) + binary(0.0, 1.0)) / 2, (binary(0.5, 0.0) + binary(0.0, 4.0)) / 2]
    assert found.item() == pytest.approx((0.75 * 10 + 0.25 * distances[0] + 20 + distances[1]) / 3, rel=1e-5)


def test_numbers_have_squared_distances() -> None:
    """A regression's distance is the squared error, whatever the temperature; -100 is a number there."""
    loss = make_distillation(Recipe(alpha=0.25, temperature=2.0), REGRESSION, plain)
    found = loss(torch.tensor([[3.0], [1.0]]), torch.tensor([[-100.0], [NAN]]), torch.tensor([[1.0], [4.0]]))
    assert found.item() == pytest.approx((0.75 * -1000 + 0.25 * 4 + 9) / 2)


def test_a_gradient_flows_where_all_rows_are_of_one_kind() -> None:
    """Batches of unlabelled rows alone, and with alpha 1 or 0, have finite gradients."""
    for alpha in (0.0, 1.0):
        for targets in ([UNLABELLED] * 3, [0, 1, 1]):
            logits = LOGITS.clone().requires_grad_()
            real = torch.nn.functional.cross_entropy
            loss = make_distillation(Recipe(alpha=alpha), SINGLE_LABEL, lambda own, true, _, real=real: real(own, true))
            loss(logits, torch.tensor(targets), TEACHER).backward()
            assert logits.grad is not None
            assert logits.grad.isfinite().all()
