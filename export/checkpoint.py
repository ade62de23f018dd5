"""A PyTorch checkpoint: a Hugging Face folder, or a bare state dict with a config that describes it.

Every weight must come from the checkpoint, and only tensors are unpickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from export.engine.unsupported import cannot_be_exported, refuse_unsupported
from export.errors import ExportError
from export.tokenizer import check_vocabulary, load_tokenizer
from inferer.bundle.manifest import MULTI_LABEL, NONE, REGRESSION, SIGMOID, SINGLE_LABEL, activation_of
from inferer.bundle.reader import (
    DEFAULT_THRESHOLD,
    HEAD,
    LONGEST_FIRST,
    PAIR_TRUNCATIONS,
    PROBLEM_TYPES,
    TRUNCATIONS,
)
from inferer.config import Config
from inferer.errors import first_line
from inferer.tokens.template import read_template
from training.model.config_file import read_config
from training.model.cross_encoder import cross_encoder_notes
from training.model.heads import from_config
from training.model.load import (
    keep_inputs,
    load_classifier,
    max_positions_of,
    token_limit,
    weight_faults,
    why_unreadable,
)

_TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model", "merges.txt")
# Others are exported with a note that they are untested.
TESTED_TYPES = (
    "bert", "roberta", "distilbert", "albert", "xlm-roberta", "electra", "camembert", "mpnet", "deberta-v2",
    "modernbert",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A trained classifier in eval mode, ready to convert, and its facts for the bundle.

    activation: from logits to scores. text_pair: whether it reads pairs. truncation, threshold: those of training,
    where config.json states them; the threshold is multi-label alone.
    """

    source: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: tuple[str, ...]
    problem_type: str
    activation: str
    text_pair: bool
    max_length: int
    max_positions: int
    truncation: str = HEAD
    threshold: float = DEFAULT_THRESHOLD

    @property
    def token_types(self) -> bool:
        """Return whether the tokenizer gives the model token types; without them all are 0."""
        return "token_type_ids" in self.tokenizer.model_input_names

    @property
    def model_type(self) -> str:
        """Return the architecture's name in config.json."""
        return str(self.model.config.model_type)


def load_checkpoint(
    path: Path, config: Config, tokenizer_folder: Path | None = None, *, text_pair: bool | None = None
) -> Checkpoint:
    """Return the checkpoint at `path`, its facts overridden by `config`, its tokenizer by that of another folder.

    text_pair: whether it reads pairs; None for what the checkpoint says.

    Raises ExportError or TrainingError for weights that are missing or left over, by name; for a problem_type that
    neither the checkpoint nor the config gives; for a tokenizer that serving cannot use.
    """
    if tokenizer_folder is not None and not tokenizer_folder.is_dir():
        raise ExportError(f"--tokenizer is {tokenizer_folder}: no such folder")
    if not path.is_dir():
        model, tokenizer_of = _from_state_dict(path, config)
    else:
        model, tokenizer_of = load_classifier(path), str(path)
    if tokenizer_folder is not None:
        tokenizer_of = str(tokenizer_folder)
    local = Path(tokenizer_of).is_dir()
    if local and not any(found for pattern in _TOKENIZER_FILES for found in Path(tokenizer_of).glob(pattern)):
        raise ExportError(
            f"checkpoint {path}: no tokenizer in {tokenizer_of} (tokenizer.json); name a folder that has it: "
            "--tokenizer FOLDER"
        )
    tokenizer = load_tokenizer(path, tokenizer_of, local_only=local)
    keep_inputs(tokenizer, model)
    labels = _labels(path, model.config, config)
    notes = cross_encoder_notes(path, model.config)
    problem_type = config.problem_type or model.config.problem_type
    if problem_type is None and len(labels) == 1:  # as for CrossEncoder, and for transformers' pipeline
        problem_type = REGRESSION
    if problem_type not in PROBLEM_TYPES:
        raise ExportError(
            f"checkpoint {path}: problem_type is {problem_type!r}, which does not decide between softmax and sigmoid; "
            f"give --problem-type, {SINGLE_LABEL} or {MULTI_LABEL}"
        )
    if problem_type == SINGLE_LABEL and len(labels) == 1:
        raise ExportError(
            f"checkpoint {path}: gives one logit, and softmax over one logit is always 1; give --problem-type "
            f"{MULTI_LABEL}, which makes it the score of its one label, or {REGRESSION}, which serves the number"
        )
    if problem_type == REGRESSION and len(labels) != 1:
        raise ExportError(f"checkpoint {path}: gives {len(labels)} logits; a {REGRESSION} has one, the number")
    activation = activation_of(problem_type)
    if problem_type == REGRESSION:
        activation = notes.activation or _activation(path, model.config)
    if text_pair is None:
        text_pair = notes.found or getattr(model.config, "inferer_text_pair", False) is True
    max_positions = max_positions_of(model)
    max_length = config.max_length or token_limit(model, tokenizer)
    refuse_unsupported(model, max_length)
    check_vocabulary(path, tokenizer, _embeddings(model))
    if max_length > max_positions:
        raise ExportError(f"max_length is {max_length}, the model can read at most {max_positions} tokens")
    _check_template(path, tokenizer, pair=text_pair)
    facts = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    model.config.update({**facts, "problem_type": problem_type})
    return Checkpoint(
        path,
        model.eval(),
        tokenizer,
        labels,
        problem_type,
        activation,
        text_pair,
        max_length,
        max_positions,
        _truncation(path, model.config, pair=text_pair),
        _threshold(path, model.config),
    )


def _check_template(path: Path, tokenizer: PreTrainedTokenizerBase, *, pair: bool) -> None:
    """Raise ExportError for a tokenizer that does not put special tokens around whole texts."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    try:
        read_template(plain, pair=pair)
    except ValueError as error:
        raise ExportError(f"checkpoint {path}: its tokenizer cannot be served: {error}") from error


def _embeddings(model: PreTrainedModel) -> int:
    """Return the number of token ids that the model has embeddings for."""
    try:
        return len(model.get_input_embeddings().get_parameter("weight"))
    except (NotImplementedError, AttributeError) as error:
        raise cannot_be_exported(str(model.config.model_type), "it has no embeddings of token ids") from error


def _activation(path: Path, config: PretrainedConfig) -> str:
    """Return the activation of a regression: that of training, or the default.

    A model that says "regression" has learned the number itself; one that says nothing is a reranker, for which
    CrossEncoder takes a sigmoid.
    """
    found = getattr(config, "inferer_activation", NONE if config.problem_type == REGRESSION else SIGMOID)
    if found not in (NONE, SIGMOID):
        raise ExportError(
            f"checkpoint {path}: inferer_activation is {found!r} in config.json, expected none or sigmoid"
        )
    return str(found)


def _truncation(path: Path, config: PretrainedConfig, *, pair: bool) -> str:
    """Return the truncation of training."""
    found = getattr(config, "inferer_truncation", LONGEST_FIRST if pair else HEAD)
    allowed = PAIR_TRUNCATIONS if pair else TRUNCATIONS
    if found not in allowed:
        raise ExportError(
            f"checkpoint {path}: inferer_truncation is {found!r} in config.json, expected {', '.join(allowed)}"
        )
    return str(found)


def _threshold(path: Path, config: PretrainedConfig) -> float:
    """Return the threshold that training chose for all labels."""
    found = getattr(config, "inferer_threshold", DEFAULT_THRESHOLD)
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < 1:
        raise ExportError(f"checkpoint {path}: inferer_threshold is {found!r} in config.json, expected 0 to 1")
    return float(found)


def _from_state_dict(path: Path, config: Config) -> tuple[PreTrainedModel, str]:
    """Return the model of a bare state dict, and the folder or hub name that describes it and has its tokenizer."""
    if not config.model_name:
        raise ExportError(
            f"checkpoint {path}: a bare state dict; describe it with --config FILE.json "
            "(model_type, model_name, labels, problem_type, max_seq_length)"
        )
    state = _read_state_dict(path)
    changes: dict[str, Any] = {"num_labels": len(config.labels)} if config.labels else {}
    local = Path(config.model_name).is_dir()
    try:
        architecture = read_config(config.model_name, local_files_only=local, **changes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"model_name {config.model_name!r}: cannot be read: {first_line(error)}") from error
    if config.model_type and config.model_type != architecture.model_type:
        raise ExportError(
            f"config.model_type is {config.model_type!r}, but {config.model_name} is {architecture.model_type!r}"
        )
    model = from_config(architecture)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # misfitting shapes; torch lists one per line
        details = [line.strip() for line in str(error).splitlines()[1:]]
        raise ExportError(f"checkpoint {path}: does not fit {config.model_name}: {'; '.join(details)}") from error
    if faults := weight_faults(missing, unexpected):
        raise ExportError(f"checkpoint {path}: {faults}")
    return model, config.model_name


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in `path`, without the wrappings of training loops."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ExportError(f"checkpoint {path}: cannot be read as a state dict: {why_unreadable(error)}") from error
    for wrapping in ("state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapping), Mapping):
            state = state[wrapping]
    if not isinstance(state, Mapping) or not state or not all(torch.is_tensor(v) for v in state.values()):
        raise ExportError(f"checkpoint {path}: not a state dict (a mapping of names to tensors)")
    # DataParallel puts "module." before every name.
    prefix = "module." if all(str(name).startswith("module.") for name in state) else ""
    return {str(name).removeprefix(prefix): tensor for name, tensor in state.items()}


def _labels(path: Path, own: Any, config: Config) -> tuple[str, ...]:
    id2label = own.id2label or {}
    labels = config.labels or tuple(id2label.get(i, "") for i in range(own.num_labels))
    if not all(isinstance(label, str) and label for label in labels):
        raise ExportError(
            f"checkpoint {path}: id2label is {own.id2label!r}, expected a name for each of 0 to {own.num_labels - 1}"
        )
    if len(labels) != own.num_labels:
        raise ExportError(f"checkpoint {path}: gives {own.num_labels} logits, the config names {len(labels)} labels")
    if len(set(labels)) != len(labels):
        raise ExportError(f"checkpoint {path}: id2label names a label twice: {', '.join(labels)}")
    return labels
