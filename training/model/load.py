"""Load what training starts from: the tokenizer, and the encoder with a fresh head; every other weight is there."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from training.data.dataset import Dataset
from training.errors import TrainingError
from training.model.base_model import base_model_path
from training.model.freezing import freeze
from training.model.heads import FIELD, classifier_class, mlp_head, token_head
from training.recipe.recipe import MLP, TOKEN, Recipe


def load_base(recipe: Recipe, dataset: Dataset) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return the tokenizer and the encoder of `recipe` with a fresh head for the labels of `dataset`.

    Only the head's weights may be new. Raises TrainingError for a base model that cannot be used.
    """
    source, what = base_model_path(recipe.base_model), f"base model {recipe.base_model}"
    names = dict(enumerate(dataset.labels))
    tokenizer = _tokenizer(source, what)
    try:
        config = AutoConfig.from_pretrained(
            source,
            num_labels=len(names),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type=dataset.problem_type,
        )
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_be_loaded(what, error) from error
    # What a base that was fine-tuned here says of its own head, cut and threshold is not this run's.
    for field in (FIELD, "inferer_truncation", "inferer_threshold"):
        if hasattr(config, field):
            delattr(config, field)
    head = _head(recipe)
    if head is not None:
        setattr(config, FIELD, head)
    model, loaded = _model(source, config, what)
    fresh = [*loaded["missing_keys"], *loaded["mismatched_keys"]]
    encoder = f"{model.base_model_prefix}."  # what is outside it is the head; a pooler is half of one
    lost = [key for key in fresh if key.startswith(encoder) and ".pooler." not in key]
    if lost:
        raise TrainingError(f"{what}: {len(lost)} weights are missing, the first is {min(lost)}")
    _start_anew(model)
    freeze(model, recipe.freeze)
    return tokenizer, model


def _start_anew(model: PreTrainedModel) -> None:
    """Give what is not the encoder fresh weights: a base that classifies brings a head for other labels."""
    for name, module in model.named_children():
        if name != model.base_model_prefix:
            module.apply(model._init_weights)


def _head(recipe: Recipe) -> dict[str, Any] | None:
    if recipe.head == MLP:
        return mlp_head(recipe.head_sizes, recipe.head_dropout)
    if recipe.head == TOKEN:
        return token_head(recipe.head_embedding, recipe.head_layers, recipe.head_dropout)
    return None


def _tokenizer(source: str, what: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # tokenizers raises Exception itself for a file that it cannot read
        raise _cannot_be_loaded(what, error) from error
    if not tokenizer.is_fast:
        raise TrainingError(f"{what}: has no fast tokenizer, which serving needs")
    return tokenizer


def _model(source: str, config: PretrainedConfig, what: str, **more: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        return classifier_class(config).from_pretrained(
            source, config=config, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32, **more
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _cannot_be_loaded(what, error) from error


def _cannot_be_loaded(what: str, error: Exception) -> TrainingError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and "connect" in reason.lower():
        reason += " (without a hub: --base-model embedded, or a folder)"
    return TrainingError(f"{what}: cannot be loaded: {reason}")
