"""Configurations and tokenizers from checkpoints, whose own code never runs.

transformers asks at a terminal whether to run such code unless each call says no.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config

_FIELD = "auto_map"  # names the classes in the checkpoint's own Python files


class CustomCodeError(ValueError):
    """A checkpoint with code of its own; the message is one line."""


def read_config(source: str | Path, **options: Any) -> PretrainedConfig:
    """Return the configuration in a folder or of the hub; raises CustomCodeError, and transformers' own errors."""
    found, _ = PretrainedConfig.get_config_dict(source, **options)
    stock = f"if its weights fit the stock architecture {found.get('model_type')!r}, delete {_FIELD} from a copy"
    _refuse_code("config.json", found, stock)
    config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    return config


def read_tokenizer(source: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder or of the hub; raises CustomCodeError, and transformers' own errors."""
    found = get_tokenizer_config(source, **options)
    _refuse_code("tokenizer_config.json", found, f"delete {_FIELD} from a copy if tokenizer.json is complete")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    return tokenizer


def _refuse_code(file: str, found: dict[str, Any], remedy: str) -> None:
    if found.get(_FIELD):
        raise CustomCodeError(
            f"{file} asks for Python code of the checkpoint ({_FIELD}), which never runs here; {remedy}"
        )
