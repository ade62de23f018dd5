"""Classification heads: the stock one, an MLP in its place, and a small one on token embeddings.

A checkpoint names its head in config.json, as `inferer_head`; training, evaluation and export build the model from
there, by `classifier_class`, and load its weights as those of any model. Each head is a subclass of the architecture's
own classifier, so that what knows that one (optimum, the Trainer) takes it.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from training.errors import TrainingError
from training.recipe.recipe import MLP, TOKEN

FIELD = "inferer_head"
# Buffers that old versions of transformers saved with the weights; they are made anew from the config.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError)
_FIELDS = {MLP: {"hidden_sizes": list, "dropout": float}, TOKEN: {"embedding": int, "layers": int, "dropout": float}}


def mlp_head(hidden_sizes: tuple[int, ...], dropout: float) -> dict[str, Any]:
    """Return the config's field for an MLP of these hidden widths in place of the classifier's last linear layer."""
    return {"type": MLP, "hidden_sizes": list(hidden_sizes), "dropout": dropout}


def token_head(embedding: int, layers: int, dropout: float) -> dict[str, Any]:
    """Return the config's field for a head on token embeddings: no pooling layer in the encoder.

    Each token's last hidden state goes to `embedding` numbers; their mean over the text's tokens goes through `layers`
    layers of that width and a linear layer to the logits.
    """
    return {"type": TOKEN, "embedding": embedding, "layers": layers, "dropout": dropout}


def classifier_class(config: PretrainedConfig) -> Any:
    """Return the class whose `from_pretrained` loads the model of `config`; `from_config` here builds a fresh one.

    Raises TrainingError for a head that there is none of, or fields that do not describe it.
    """
    head = getattr(config, FIELD, None)
    if head is None:
        return AutoModelForSequenceClassification
    _check(head)
    stock = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if stock is None:
        raise TrainingError(f"architecture '{config.model_type}' has no sequence classifier to put a head on")
    return _with_head(stock, head["type"])


@dataclass(frozen=True)
class Loaded:
    """A classifier out of a folder, and the names of weights that do not fit: transformers made up the missing ones."""

    model: PreTrainedModel
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


def load_classifier(folder: Path) -> Loaded:
    """Return the classifier in `folder`, float32, with the head that its config.json names.

    Nothing is fetched, and nothing unpickled but tensors. What cannot be read raises one of UNREADABLE.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its advice on weights that do not fit; they are named here
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, info = classifier_class(config).from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named
            local_files_only=True,
            weights_only=True,
            dtype=torch.float32,
        )
    finally:
        logging.set_verbosity(verbosity)
    unexpected = tuple(name for name in info["unexpected_keys"] if not name.endswith(BUFFERS))
    missing = tuple(name for name in info["missing_keys"] if not name.endswith(BUFFERS))
    return Loaded(model, missing, unexpected, tuple(info["mismatched_keys"]))


def from_config(config: PretrainedConfig) -> PreTrainedModel:
    """Return the model of `config` with fresh weights, float32."""
    made = classifier_class(config)
    if made is AutoModelForSequenceClassification:
        return made.from_config(config, dtype=torch.float32)
    return made._from_config(config, dtype=torch.float32)


def _check(head: Any) -> None:
    if not isinstance(head, Mapping) or head.get("type") not in _FIELDS:
        raise TrainingError(f"config.json: {FIELD} is {head!r}, expected a table with type {' or '.join(_FIELDS)}")
    for name, kind in _FIELDS[head["type"]].items():
        value = head.get(name)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise TrainingError(f"config.json: {FIELD}.{name} is {value!r}, expected {kind.__name__}")


@functools.cache
def _with_head(stock: type[PreTrainedModel], head: str) -> type[PreTrainedModel]:
    """Return a subclass of the architecture's classifier with the head of that type."""
    mixin = {MLP: _MlpHead, TOKEN: _TokenHead}[head]
    name = f"{stock.__name__}With{mixin.__name__.removeprefix('_')}"
    # The architecture's module: optimum-onnx 0.1.0 tells by it that this is a model of transformers.
    return type(
        name, (mixin, stock), {"__module__": stock.__module__, "__doc__": f"{stock.__name__} with another head."}
    )


class _Linear(nn.Linear):
    """A head's own layer: it starts as torch's layers do (Kaiming uniform).

    The architectures' start, a normal of 0.02, leaves narrow layers so near zero that they learn late.
    """


class _Head:
    """What the heads have in common: how their layers start."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, _Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)


class _MlpHead(_Head):
    """An MLP where the stock classifier has its last linear layer."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        head = getattr(config, FIELD)
        sizes = [config.hidden_size, *head["hidden_sizes"]]
        layers: list[nn.Module] = []
        for width, after in itertools.pairwise(sizes):
            layers += [_Linear(width, after), nn.GELU(), nn.Dropout(head["dropout"])]
        mlp = nn.Sequential(*layers, _Linear(sizes[-1], config.num_labels))
        if isinstance(self.classifier, nn.Linear):
            self.classifier = mlp
        elif hasattr(self.classifier, "out_proj"):  # RoBERTa's kin and ELECTRA keep a head module with that last layer
            self.classifier.out_proj = mlp
        else:
            raise TrainingError(f"architecture '{config.model_type}' has no last layer known here; choose another head")
        self.post_init()


class _TokenHead(_Head):
    """A narrow embedding of each token, the mean over the text, layers, logits. The encoder's pooler is left out."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        head = getattr(config, FIELD)
        width = head["embedding"]
        for name in ("classifier", "pre_classifier", "dropout"):
            if hasattr(self, name):
                delattr(self, name)
        if getattr(self.base_model, "pooler", None) is not None:
            self.base_model.pooler = None
        self.dropout = nn.Dropout(head["dropout"])
        self.token_embedding = _Linear(config.hidden_size, width)
        self.head_layers = nn.ModuleList(_Linear(width, width) for _ in range(head["layers"]))
        self.classifier = _Linear(width, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Return logits [texts, labels] for token ids [texts, tokens]."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids, **others}
        hidden = self.base_model(**{name: value for name, value in given.items() if value is not None})[0]
        # In fp32, also where the products are bf16: the sum of many tokens needs the digits.
        tokens = nn.functional.gelu(self.token_embedding(self.dropout(hidden))).float()
        if attention_mask is None:
            attention_mask = torch.ones(tokens.shape[:2], device=tokens.device)
        own = attention_mask.unsqueeze(-1).to(tokens.dtype)
        # A running sum adds in order, so that the zeros of padding change no bit; a plain sum adds in a tree.
        pooled = (tokens * own).cumsum(dim=1)[:, -1] / own.sum(dim=1)
        for layer in self.head_layers:
            pooled = nn.functional.gelu(layer(self.dropout(pooled)))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))
