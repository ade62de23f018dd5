"""The weights of the encoder and of the head, and the choice of those that are trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from training.errors import TrainingError
from training.model.layers import layers_of
from training.recipe.recipe import ENCODER


def encoder_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the encoder's weights, without those of a pooler, which belongs to the head."""
    return [weight for name, weight in model.base_model.named_parameters() if not name.startswith("pooler.")]


def head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return all weights outside the encoder."""
    encoder = {id(weight) for weight in encoder_parameters(model)}
    return [weight for weight in model.parameters() if id(weight) not in encoder]


def freeze(model: PreTrainedModel, what: int | str) -> None:
    """Freeze the whole encoder ("encoder"), or its embeddings and as many of its first layers as `what` says.

    Raises TrainingError for more layers than the model has, and for ALBERT, whose layers share their weights.
    """
    if what == ENCODER:
        set_trained(encoder_parameters(model), trained=False)
        return
    if not (count := int(what)):
        return
    layers = layers_of(model)
    if layers is None:
        kind = model.config.model_type
        raise TrainingError(
            f"architecture '{kind}' has no layers with weights of their own; freeze \"{ENCODER}\" or none"
        )
    if count > len(layers):
        raise TrainingError(f"freeze is {count}, the model has {len(layers)} layers")
    frozen = [weight for layer in layers[:count] for weight in layer.parameters()]
    # The other weights of the encoder lie before the layers: embeddings and their projection. ModernBERT's last
    # normalization lies behind them.
    final = getattr(model.base_model, "final_norm", None)
    others = (*layers, *(() if final is None else (final,)))
    inside = {id(weight) for module in others for weight in module.parameters()}
    before = [weight for weight in encoder_parameters(model) if id(weight) not in inside]
    set_trained([*before, *frozen], trained=False)


def set_trained(weights: Iterable[nn.Parameter], *, trained: bool) -> None:
    """Set whether `weights` are trained. Frozen ones have no gradient, and the optimizer skips them."""
    for weight in weights:
        weight.requires_grad_(trained)
        if not trained:
            weight.grad = None
