"""Classification heads: the stock one, an MLP in its place, the tokens' mean, and a small one on token embeddings.

A checkpoint names its head in config.json, as `inferer_head`; `classifier_class` builds the model from it. Each head
subclasses the architecture's own classifier, so that libraries which know that class (the Trainer) accept it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from training.errors import TrainingError
from training.recipe.recipe import MEAN, MLP, TOKEN

FIELD = "inferer_head"
_FIELDS: dict[str, dict[str, type]] = {
    MLP: {"hidden_sizes": list, "dropout": float},
    MEAN: {"dropout": float},
    TOKEN: {"embedding": int, "layers": int, "dropout": float},
}
if TYPE_CHECKING:
    _Classifier = PreTrainedModel
else:  # a mixin: the architecture's own class follows it
    _Classifier = object


def mlp_head(hidden_sizes: tuple[int, ...], dropout: float) -> dict[str, Any]:
    """Return the config's field for an MLP of these hidden widths in place of the classifier's last linear layer."""
    return {"type": MLP, "hidden_sizes": list(hidden_sizes), "dropout": dropout}


def mean_head(dropout: float) -> dict[str, Any]:
    """Return the config's field for a linear layer on the mean of the tokens' last hidden states, without a pooler."""
    return {"type": MEAN, "dropout": dropout}


def token_head(embedding: int, layers: int, dropout: float) -> dict[str, Any]:
    """Return the config's field for a head on token embeddings, without the encoder's pooling layer.

    A linear layer maps each token's last hidden state to `embedding` numbers; their mean over the text's tokens passes
    `layers` layers of that width and a linear layer to the logits.
    """
    return {"type": TOKEN, "embedding": embedding, "layers": layers, "dropout": dropout}


def classifier_class(config: PretrainedConfig) -> Any:
    """Return the class for the model of `config`: its `from_pretrained` loads one, `from_config` here builds one.

    Raises TrainingError for an unknown head, and for fields that do not describe it.
    """
    head = getattr(config, FIELD, None)
    if head is None:
        return AutoModelForSequenceClassification
    _check(head)
    stock = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if stock is None:
        raise TrainingError(f"architecture '{config.model_type}' has no sequence classifier to put a head on")
    return _with_head(stock, head["type"])


def from_config(config: PretrainedConfig) -> PreTrainedModel:
    """Return the model of `config` with fresh weights, float32."""
    made = classifier_class(config)
    is_stock = made is AutoModelForSequenceClassification
    build = functools.partial(made.from_config, trust_remote_code=False) if is_stock else made._from_config
    model: PreTrainedModel = build(config, dtype=torch.float32)
    return model


def _check(head: Any) -> None:
    if not isinstance(head, Mapping) or head.get("type") not in _FIELDS:
        raise TrainingError(f"config.json: {FIELD} is {head!r}, expected a table with type {', '.join(_FIELDS)}")
    for name, kind in _FIELDS[head["type"]].items():
        value = head.get(name)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise TrainingError(f"config.json: {FIELD}.{name} is {value!r}, expected {kind.__name__}")


@functools.cache
def _with_head(stock: type[PreTrainedModel], head: str) -> type[PreTrainedModel]:
    """Return a subclass of the architecture's classifier with the head of that type."""
    mixin = {MLP: _MlpHead, MEAN: _MeanHead, TOKEN: _TokenHead}[head]
    name = f"{stock.__name__}With{mixin.__name__.removeprefix('_')}"
    return type(name, (mixin, stock), {"__doc__": f"{stock.__name__} with another head."})


class _Linear(nn.Linear):
    """A head's own layer, initialised as torch's layers are (Kaiming uniform).

    The architectures' normal of 0.02 leaves narrow layers so near zero that they learn late.
    """


class _Head(_Classifier):
    """The initialisation that these heads share."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, _Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)  # type: ignore[no-untyped-call]


class _MlpHead(_Head):
    """An MLP in the place of the stock classifier's last linear layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        head = getattr(config, FIELD)
        sizes = [config.hidden_size, *head["hidden_sizes"]]
        layers: list[nn.Module] = []
        for width, after in itertools.pairwise(sizes):
            layers += [_Linear(width, after), nn.GELU(), nn.Dropout(head["dropout"])]
        mlp = nn.Sequential(*layers, _Linear(sizes[-1], config.num_labels))
        stock: Any = self.classifier
        if isinstance(stock, nn.Linear):
            self.classifier: nn.Module = mlp
        elif hasattr(stock, "out_proj"):  # the RoBERTa family and ELECTRA have a head module with that last layer
            stock.out_proj = mlp
        else:
            raise TrainingError(f"architecture '{config.model_type}' has no last layer known here; choose another head")
        self.post_init()  # type: ignore[no-untyped-call]


class _TokensHead(_Head):
    """The encoder without a pooler and without the stock head, for heads that read all tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for name in [name for name, _ in self.named_children() if name != self.base_model_prefix]:
            delattr(self, name)
        encoder: Any = self.base_model
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        self.dropout = nn.Dropout(getattr(config, FIELD)["dropout"])

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
        return SequenceClassifierOutput(logits=self.logits(hidden, attention_mask))

    def logits(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the logits [texts, labels] of the last hidden states [texts, tokens, width]."""
        raise NotImplementedError


def mean_of_tokens(tokens: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of `tokens` [texts, tokens, width] over each text's own tokens, float32 [texts, width]."""
    tokens = tokens.float()  # even under bf16 autocast: a sum over many tokens needs the digits
    if attention_mask is None:
        attention_mask = torch.ones(tokens.shape[:2], device=tokens.device)
    own = attention_mask.unsqueeze(-1).to(tokens.dtype)
    # A running sum adds in order, so the zeros of padding change no bit; a plain sum adds in a tree.
    return (tokens * own).cumsum(dim=1)[:, -1] / own.sum(dim=1)


class _MeanHead(_TokensHead):
    """The mean of a text's tokens, as sentence encoders pool them, and a linear layer to the logits."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.classifier = _Linear(config.hidden_size, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def logits(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the logits of the mean of each text's tokens."""
        found: torch.Tensor = self.classifier(self.dropout(mean_of_tokens(hidden, attention_mask)))
        return found


class _TokenHead(_TokensHead):
    """A narrow embedding of each token, the mean over the text, layers, logits."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        head = getattr(config, FIELD)
        width = head["embedding"]
        self.token_embedding = _Linear(config.hidden_size, width)
        self.head_layers = nn.ModuleList(_Linear(width, width) for _ in range(head["layers"]))
        self.classifier = _Linear(width, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def logits(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the logits of the pooled embeddings."""
        tokens = nn.functional.gelu(self.token_embedding(self.dropout(hidden)))
        pooled = mean_of_tokens(tokens, attention_mask)
        for layer in self.head_layers:
            pooled = nn.functional.gelu(layer(self.dropout(pooled)))
        found: torch.Tensor = self.classifier(self.dropout(pooled))
        return found
