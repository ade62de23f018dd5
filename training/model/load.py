"""Classifiers from folders: a base model with a fresh head to train, and a finished checkpoint.

transformers fills missing weights with random numbers; here they are an error that names them.
"""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION
from inferer.errors import first_line
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.model.base_model import base_model_path
from training.model.config_file import read_config
from training.model.freezing import freeze
from training.model.heads import FIELD, classifier_class, mean_head, mlp_head, token_head
from training.model.layers import shortened
from training.model.output_layer import start_from_shares
from training.model.tokenizer_file import read_tokenizer
from training.quiet import quiet_transformers
from training.recipe.recipe import MEAN, MLP, STOCK, TOKEN, Recipe

# Buffers that old versions of transformers saved with the weights; the config determines them.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,  # dtype is unknown to torch
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
)
_OF_A_RUN = (
    *("inferer_truncation", "inferer_threshold", "inferer_text_pair", "inferer_activation"),
    *("sentence_transformers", "sbert_ce_default_activation_function"),
)
_NO_LIMIT = 1_000_000  # tokenizers without a limit of their own say 10**30
_SHOWN = 5


class Base(NamedTuple):
    """The base model of a run. keeps_head: whether the base gave a number, as this run does, by the same head."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    keeps_head: bool


def load_base(recipe: Recipe, dataset: Dataset) -> Base:
    """Return the tokenizer and the encoder of `recipe` with a head for the labels of `dataset`.

    The head is fresh, unless a regression starts from a model of one number, such as a reranker. Raises TrainingError
    for a base model that cannot be used, such as one whose encoder lacks weights.
    """
    source, what = base_model_path(recipe.base_model), f"base model {recipe.base_model}"
    names = dict(enumerate(dataset.labels))
    try:
        tokenizer = read_tokenizer(source)
    except Exception as error:  # tokenizers raises Exception itself for a damaged file
        raise _cannot_be_loaded(what, error) from error
    try:
        gave_number = dataset.problem_type == REGRESSION and read_config(source).num_labels == 1
        config = read_config(
            source,
            num_labels=len(names),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type=dataset.problem_type,
        )
        keeps_head = gave_number and recipe.used_head == STOCK and not hasattr(config, FIELD)
        # A base that was fine-tuned here has a head, truncation and threshold that are not this run's.
        for field in (FIELD, *_OF_A_RUN):
            if hasattr(config, field):
                delattr(config, field)
        if recipe.used_head == MLP:
            setattr(config, FIELD, mlp_head(recipe.head_sizes, recipe.head_dropout))
        elif recipe.used_head == MEAN:
            setattr(config, FIELD, mean_head(recipe.head_dropout))
        elif recipe.used_head == TOKEN:
            setattr(config, FIELD, token_head(recipe.head_embedding, recipe.head_layers, recipe.head_dropout))
        model, found = _from_pretrained(source, config)
    except _UNREADABLE as error:
        raise _cannot_be_loaded(what, error) from error
    # Weights outside the encoder belong to the head, and so does a pooler.
    encoder = f"{model.base_model_prefix}."
    fresh = found["missing"] + found["misshapen"]
    lost = [name for name in fresh if name.startswith(encoder) and ".pooler." not in name]
    if faults := weight_faults(missing=lost):
        raise TrainingError(f"{what}: {faults}")
    keeps_head = keeps_head and not fresh
    if recipe.layers is not None:
        model = shortened(model, recipe.layers)
    for name, module in model.named_children():
        if name != model.base_model_prefix and not keeps_head:  # a base that classifies brings a head for other labels
            for weight in module.parameters():
                # transformers 5 leaves weights from a file as they are.
                weight._is_hf_initialized = False  # type: ignore[attr-defined]
            module.apply(model._init_weights)
    if dataset.problem_type == MULTI_LABEL:
        start_from_shares(model, dataset, recipe.pos_weight)
    freeze(model, recipe.freeze)
    keep_inputs(tokenizer, model)
    return Base(tokenizer, model, keeps_head)


def load_classifier(folder: Path) -> PreTrainedModel:
    """Return the classifier in the checkpoint `folder`, float32, with the head that its config.json names.

    Nothing is fetched, and nothing unpickled but tensors. Raises TrainingError for a checkpoint that cannot be loaded,
    and for weights that are missing, unexpected or misshapen.
    """
    try:
        config = read_config(folder, local_files_only=True)
        model, found = _from_pretrained(folder, config, local_files_only=True)
    except _UNREADABLE as error:
        raise TrainingError(f"checkpoint {folder}: cannot be loaded: {why_unreadable(error)}") from error
    if faults := weight_faults(**found):
        raise TrainingError(f"checkpoint {folder}: {faults}")
    return model


def weight_faults(
    missing: Iterable[str] = (), unexpected: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> str | None:
    """Return a message that names the weights that do not fit, the first of each kind; None if all fit."""
    faults = []
    for what, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        left = sorted(name for name in names if not name.endswith(_BUFFERS))
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            faults.append(f"{what} weights: {', '.join(left[:_SHOWN])}{more}")
    return "; ".join(faults) or None


def why_unreadable(error: Exception) -> str:
    """Return why weights cannot be read; of pickled objects without torch's advice to run them."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, pickle.UnpicklingError):
        cause = cause.__cause__ or cause.__context__  # transformers wraps it
    if cause is None:
        return first_line(error)
    found = re.search(r"GLOBAL (\S+)", str(cause))
    what = f" ({found.group(1)})" if found else ""
    return f"it holds pickled objects{what}, and only tensors are loaded; save model.state_dict() instead"


def keep_inputs(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Let the tokenizer make only inputs that the model takes: DistilBERT is often saved with BERT's tokenizer."""
    taken = inspect.signature(model.forward).parameters
    names = [name for name in tokenizer.model_input_names if name in taken]
    tokenizer.model_input_names = names
    tokenizer.init_kwargs["model_input_names"] = names  # saved with it


def max_positions_of(model: PreTrainedModel) -> int:
    """Return the number of tokens that the model has positions for.

    The RoBERTa family counts positions from the pad id on and loses those before it: 512 of 514.
    """
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    positions = positions if positions > 0 else 512  # XLNet, without a limit, says -1
    embeddings = getattr(model.base_model, "embeddings", None)
    offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return positions if offset is None else positions - int(offset) - 1


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens that both model and tokenizer allow."""
    return min(max_positions_of(model), int(min(tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)))


def _from_pretrained(
    source: str | Path, config: PretrainedConfig, **options: Any
) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    """Return the model in float32, and the names of its missing, unexpected and misshapen weights."""
    # It warns of weights that do not fit, which the caller reports.
    with quiet_transformers(bars=not Path(source).is_dir()):
        model, info = classifier_class(config).from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named
            weights_only=True,
            dtype=torch.float32,
            **options,
        )
    kinds = {"missing": "missing_keys", "unexpected": "unexpected_keys", "misshapen": "mismatched_keys"}
    # A misshapen one comes with its shapes.
    return model, {kind: [one if isinstance(one, str) else one[0] for one in info[key]] for kind, key in kinds.items()}


def _cannot_be_loaded(what: str, error: Exception) -> TrainingError:
    reason = why_unreadable(error)
    if isinstance(error, OSError) and "connect" in reason.lower():
        reason += " (without a hub: --base-model embedded, or a folder)"
    return TrainingError(f"{what}: cannot be loaded: {reason}")
