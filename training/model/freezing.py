"""Which weights are the encoder's, which the head's, and which of them are trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from training.errors import TrainingError
from training.recipe.recipe import ENCODER


def encoder_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the encoder's weights; its pooler, where it has one, is half of the head."""
    return [weight for name, weight in model.base_model.named_parameters() if not name.startswith("pooler.")]


def head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return all weights that are not the encoder's."""
    encoder = {id(weight) for weight in encoder_parameters(model)}
    return [weight for weight in model.parameters() if id(weight) not in encoder]


def freeze(model: PreTrainedModel, what: int | str) -> None:
    """Take the encoder ("encoder"), or its embeddings and first layers (a number from 1), out of training.

    Raises TrainingError for more layers than there are, and for ALBERT, whose layers are one.
    """
    if what == ENCODER:
        set_trained(encoder_parameters(model), trained=False)
        return
    count = int(what)
    if not count:
        return
    layers = _layers(model)
    if count > len(layers):
        raise TrainingError(f"freeze is {count}, the model has {len(layers)} layers")
    frozen = [weight for layer in layers[:count] for weight in layer.parameters()]
    inside = {id(weight) for layer in layers for weight in layer.parameters()}
    # What is neither a layer nor the head lies before the layers: embeddings and what projects them.
    before = [weight for weight in encoder_parameters(model) if id(weight) not in inside]
    set_trained([*before, *frozen], trained=False)


def set_trained(weights: Iterable[nn.Parameter], *, trained: bool) -> None:
    """Let `weights` be trained or not. Those that are not have no gradient, and the optimizer passes them over."""
    for weight in weights:
        weight.requires_grad_(trained)
        if not trained:
            weight.grad = None


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    base = model.base_model
    for stack in ("encoder", "transformer"):
        layers = getattr(getattr(base, stack, None), "layer", None)
        if isinstance(layers, nn.ModuleList):
            return list(layers)
    raise TrainingError(
        f"architecture '{model.config.model_type}' does not have layers of their own weights; "
        f'freeze "{ENCODER}" or none'
    )
