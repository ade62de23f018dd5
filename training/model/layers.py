"""A model with some of its encoder's layers, evenly spaced, as DistilBERT begins with every second layer of BERT."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from training.errors import TrainingError

_STACKS = (("encoder", "layer"), ("transformer", "layer"), ("", "layers"), ("", "layer"))


def layers_of(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the encoder's layers, None for an architecture that shares weights between layers."""
    encoder: Any = model.base_model
    for stack, name in _STACKS:
        layers = getattr(getattr(encoder, stack, None) if stack else encoder, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    return None


def kept_layers(count: int, total: int) -> list[int]:
    """Return `count` of the numbers 0 to total - 1, evenly spaced, the first and the last among them.

    For 6 of 12 these are the layers that DistilBERT was made from: 0, 2, 4, 7, 9, 11 (Sanh et al., 2019).
    """
    return [round(i * (total - 1) / max(1, count - 1)) for i in range(count)]


def shortened(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """Return a model with `count` layers of `model` and all its other weights.

    Raises TrainingError for more layers than the model has, and for ALBERT, whose layers share their weights.
    """
    layers = layers_of(model)
    if layers is None:
        kind = model.config.model_type
        raise TrainingError(f"architecture '{kind}' has no layers with weights of their own; leave out layers")
    if count > len(layers):
        raise TrainingError(f"layers is {count}, the model has {len(layers)}")
    kept = kept_layers(count, len(layers))
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = count
    if kinds := getattr(config, "layer_types", None):  # ModernBERT's global and local attention
        config.layer_types = [kinds[layer] for layer in kept]
    short: PreTrainedModel = type(model)(config)
    (stack,) = (name for name, module in model.named_modules() if module is layers)
    places = {f"{stack}.{old}.": f"{stack}.{new}." for new, old in enumerate(kept)}
    weights = {}
    for name, weight in model.state_dict().items():
        if not name.startswith(f"{stack}."):
            weights[name] = weight
            continue
        old = f"{stack}.{name[len(stack) + 1 :].split('.')[0]}."
        if old in places:
            weights[places[old] + name.removeprefix(old)] = weight
    short.load_state_dict(weights)
    short.eval()  # as from_pretrained leaves a model
    return short
