"""The last linear layer of a classifier, which gives the logits, and the bias that it starts from."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from training.data.dataset import Dataset
from training.model.losses import pos_weight
from training.recipe.recipe import Weights


def output_layer(model: PreTrainedModel) -> nn.Linear | None:
    """Return the last linear layer, which gives the logits; None for an architecture that ends otherwise."""
    heads = [part for name, part in model.named_children() if name != model.base_model_prefix]
    found = [module for head in heads for module in head.modules() if isinstance(module, nn.Linear)]
    if not found or found[-1].out_features != model.config.num_labels or found[-1].bias is None:
        return None
    return found[-1]


def start_from_shares(model: PreTrainedModel, train: Dataset, weights: Weights) -> None:
    """Set the output layer's bias so that each label's score starts at its share of the rows.

    With many rare labels the first epochs would otherwise only learn to give none. After the prior of Lin et al.,
    Focal Loss for Dense Object Detection (2017), section 4.1, by label. A positive of weight w counts w times, as in
    the loss. A label of no row, or of every row, is taken to be that of half a row, or of all but half a row.
    """
    layer = output_layer(model)
    if layer is None:
        return
    counts = torch.tensor(list(train.counts().values()), dtype=torch.float32).clamp(0.5, len(train) - 0.5)
    odds = counts / (len(train) - counts)
    weight = pos_weight(weights, train)
    with torch.no_grad():
        layer.bias.copy_((odds if weight is None else odds * weight).log())
