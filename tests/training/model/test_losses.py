"""Losses and freezing, on numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support.architectures import TESTED, checkpoint
from tests.training.model.test_heads import HEADS, with_head
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.model.freezing import encoder_parameters, freeze, head_parameters, set_trained
from training.model.losses import class_weights, listwise, make_loss, pos_weight
from training.model.output_layer import output_layer, start_from_shares
from training.recipe.checks import check_weights
from training.recipe.recipe import Recipe

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])


def single(*counts: int) -> Dataset:
    """Return a data set with so many rows of labels a, b, …"""
    targets = tuple((i,) for i, n in enumerate(counts) for _ in range(n))
    labels = tuple("abc"[: len(counts)])
    return Dataset(("x",) * len(targets), targets, labels, SINGLE_LABEL, Columns("text", "label"))


def multi(*rows: tuple[int, ...]) -> Dataset:
    """Return a multi-label data set of labels a, b, c."""
    return Dataset(
        ("x",) * len(rows), rows, ("a", "b", "c"), MULTI_LABEL, Columns("text", label_columns=("a", "b", "c"))
    )


def log_softmax(row: torch.Tensor) -> list[float]:
    """Return the logarithms of softmax, in plain Python."""
    total = math.log(sum(math.exp(x) for x in row.tolist()))
    return [x - total for x in row.tolist()]


def test_cross_entropy_is_the_mean_of_minus_log_p() -> None:
    """Without weights and smoothing the loss is the mean of -log p of the true classes."""
    loss = make_loss(Recipe(), single(1, 1, 1))(LOGITS, torch.tensor([0, 2]), None)
    expected = -(log_softmax(LOGITS[0])[0] + log_softmax(LOGITS[1])[2]) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_balanced_class_weights_are_rows_over_classes_times_count() -> None:
    """Balanced weights of 6, 3 and 1 rows are 10/18, 10/9 and 10/3, and the loss is the mean of the weighted rows'."""
    data = single(6, 3, 1)
    weights = class_weights("balanced", data)
    assert weights is not None
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    loss = make_loss(Recipe(class_weights="balanced"), data)(LOGITS, torch.tensor([0, 2]), None)
    expected = -(10 / 18 * log_softmax(LOGITS[0])[0] + 10 / 3 * log_softmax(LOGITS[1])[2]) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_given_class_weights_are_by_label() -> None:
    """Weights given by name go to their labels, in the labels' order, scaled to 1 on average over the rows."""
    weights = class_weights({"c": 3.0, "a": 1.0, "b": 2.0}, single(1, 1, 2))
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 9, 8 / 9, 12 / 9])


def test_a_row_weighs_the_same_whatever_is_beside_it() -> None:
    """The loss of a batch is the mean of its rows' losses alone, weights and smoothing included."""
    loss = make_loss(Recipe(class_weights="balanced", label_smoothing=0.1), single(6, 3, 1))
    alone = [loss(LOGITS[i : i + 1], torch.tensor([target]), None) for i, target in enumerate((0, 2))]
    assert loss(LOGITS, torch.tensor([0, 2]), None).item() == pytest.approx((alone[0] + alone[1]).item() / 2)


def test_label_smoothing_shares_the_target() -> None:
    """With smoothing 0.3 and three classes the true one has 0.8 of the target and the others 0.1 each."""
    loss = make_loss(Recipe(label_smoothing=0.3), single(1, 1, 1))(LOGITS[:1], torch.tensor([0]), None)
    first, second, third = log_softmax(LOGITS[0])
    assert loss.item() == pytest.approx(-(0.8 * first + 0.1 * second + 0.1 * third), rel=1e-6)


def sigmoid(x: float) -> float:
    """Return the logistic function of x."""
    return 1 / (1 + math.exp(-x))


def test_balanced_pos_weight_is_without_over_with() -> None:
    """For labels in 1, 2 and 0 of four rows the weights are 3, 1 and 1."""
    weights = pos_weight("balanced", multi((0, 1), (1,), (), ()))
    assert weights is not None
    assert weights.tolist() == [3.0, 1.0, 1.0]


def test_pos_weight_multiplies_present_labels() -> None:
    """The loss is the mean over texts and labels, present labels times their weight."""
    recipe = Recipe(pos_weight={"a": 5.0, "b": 2.0, "c": 1.0})
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    loss = make_loss(recipe, multi((0,)))(LOGITS[:1], targets, None)
    expected = -(5 * math.log(sigmoid(2.0)) + math.log(1 - sigmoid(0.0)) + math.log(sigmoid(-1.0))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_multi_label_smoothing_moves_targets_inwards() -> None:
    """With smoothing 0.2 a present label has the target 0.9, an absent one 0.1."""
    loss = make_loss(Recipe(label_smoothing=0.2), multi((0,)))(LOGITS[:1], torch.tensor([[1.0, 0.0, 0.0]]), None)

    def one(x: float, target: float) -> float:
        return -(target * math.log(sigmoid(x)) + (1 - target) * math.log(1 - sigmoid(x)))

    assert loss.item() == pytest.approx((one(2.0, 0.9) + one(0.0, 0.1) + one(-1.0, 0.1)) / 3, rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0, "b": 1.0}, "class_weights leaves out 'c'; the labels are a, b, c"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, "class_weights names 'd'; the labels are a, b, c"),
    ],
)
def test_weights_must_be_of_the_labels(weights: dict[str, float], message: str) -> None:
    """Weights that leave out a label, or name an unknown one, are refused with its name."""
    with pytest.raises(TrainingError) as caught:
        check_weights(Recipe(class_weights=weights), ("a", "b", "c"))
    assert str(caught.value) == message
    check_weights(Recipe(class_weights="balanced"), ("a", "b", "c"))


def steps(model: Any, count: int = 3) -> dict[str, torch.Tensor]:
    """Train `model` for a few steps with weight decay; return how far each weight moved."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.01, weight_decay=0.1)
    batch = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones((1, 4), dtype=torch.long)}
    model.train()
    for _ in range(count):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(**batch).logits, torch.tensor([1])).backward()
        optimizer.step()
    return {name: (weight.detach() - before[name]).abs().max() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("head", [None, *HEADS])
@pytest.mark.parametrize("architecture", TESTED)
def test_multi_label_scores_start_at_the_labels_shares(
    tmp_path_factory: pytest.TempPathFactory, architecture: str, head: str | None
) -> None:
    """The bias is the log odds of each label's share, of half a row where it has none, times a positive's weight."""
    data = multi((0, 1), (1,), (), ())
    model = with_head(checkpoint(tmp_path_factory, architecture), HEADS.get(head or ""))
    layer = output_layer(model)
    assert layer is not None
    start_from_shares(model, data, None)
    assert layer.bias.sigmoid().tolist() == pytest.approx([1 / 4, 2 / 4, 0.5 / 4])
    start_from_shares(model, data, "balanced")
    assert layer.bias.sigmoid().tolist() == pytest.approx([1 / 2, 1 / 2, 0.5 / 4])


@pytest.mark.parametrize("head", [None, *HEADS])
@pytest.mark.parametrize("architecture", TESTED)
def test_a_frozen_encoder_does_not_move(
    tmp_path_factory: pytest.TempPathFactory, architecture: str, head: str | None
) -> None:
    """With the encoder frozen its weights have no gradient and do not move; the head's, a pooler's among them, do."""
    model = with_head(checkpoint(tmp_path_factory, architecture), HEADS.get(head or ""))
    freeze(model, "encoder")
    moved = steps(model)
    frozen = {id(weight) for weight in encoder_parameters(model)}
    for name, weight in model.named_parameters():
        if id(weight) in frozen:
            assert weight.grad is None, name
            assert moved[name] == 0, name
        else:
            assert moved[name] > 0, name
    assert len(frozen) + len(head_parameters(model)) == len(list(model.parameters()))


@pytest.mark.parametrize("architecture", [name for name in TESTED if name != "albert"])
def test_the_first_layers_can_be_frozen(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> None:
    """With freeze 1 the embeddings and the first layer stay, and the second moves."""
    model = with_head(checkpoint(tmp_path_factory, architecture), None)
    freeze(model, 1)
    moved = steps(model)
    for name, distance in moved.items():
        if "embeddings" in name or "layer.0." in name:
            assert distance == 0, name
        elif "layer.1." in name and ".key.bias" not in name and "k_lin.bias" not in name:
            assert distance > 0, name


def test_freezing_missing_layers_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More layers than the model has, and single layers of ALBERT, are refused; freeze 0 changes nothing."""
    model = with_head(checkpoint(tmp_path_factory, "bert"), None)
    freeze(model, 0)
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(TrainingError, match="^freeze is 3, the model has 2 layers$"):
        freeze(model, 3)
    with pytest.raises(TrainingError, match="^architecture 'albert' has no layers with weights of their own"):
        freeze(with_head(checkpoint(tmp_path_factory, "albert"), None), 1)


def test_frozen_weights_can_be_trained_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Weights set to be trained again move."""
    model = with_head(checkpoint(tmp_path_factory, "distilbert"), None)
    freeze(model, "encoder")
    set_trained(encoder_parameters(model), trained=True)
    assert steps(model)["distilbert.transformer.layer.0.ffn.lin1.weight"] > 0


def test_listwise_loss_ranks_within_groups() -> None:
    """Each group has the cross-entropy of its own softmax; a group without an order to learn does not count."""
    scores = torch.tensor([2.0, 5.0, 0.0, 1.0, 3.0])
    relevance = torch.tensor([1.0, 0.0, 0.5, 0.5, 1.0])
    groups = torch.tensor([7, 3, 7, 3, 3])
    first, second = log_softmax(scores[[0, 2]])
    of_seven = -(first * 2 + second) / 3
    _, second, third = log_softmax(scores[[1, 3, 4]])
    of_three = -(second + third * 2) / 3
    assert listwise(scores, relevance, groups).item() == pytest.approx((of_seven + of_three) / 2)
    assert listwise(scores[:2], torch.ones(2), torch.tensor([1, 1])).item() == 0
    with_equals = torch.tensor([1.0, 0.5, 0.0, 0.0]), torch.tensor([7, 7, 9, 9])
    assert listwise(torch.tensor([2.0, 0.0, 4.0, 9.0]), *with_equals).item() == pytest.approx(of_seven)
