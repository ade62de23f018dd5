"""The marks of sentence-transformers' CrossEncoder in a checkpoint: it reads pairs, and has an activation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import NONE, SIGMOID
from training.errors import TrainingError

_FILE = "config_sentence_transformers.json"  # from version 5 on; earlier ones write into config.json
# The class names of torch, as several versions of it spell their module.
_ACTIVATIONS = {"Sigmoid": SIGMOID, "Identity": NONE}


@dataclass(frozen=True)
class CrossEncoderNotes:
    """found: whether a CrossEncoder wrote the checkpoint. activation: of its one number; None where it names none."""

    found: bool
    activation: str | None


def cross_encoder_notes(path: Path, config: Any) -> CrossEncoderNotes:
    """Return what CrossEncoder wrote into the folder `path` and into its `config` (transformers').

    Raises TrainingError for an activation other than the identity and the sigmoid.
    """
    own = _own_file(path)
    if own.get("model_type") == "CrossEncoder":
        return CrossEncoderNotes(True, _activation(path, _FILE, own.get("activation_fn")))
    nested = getattr(config, "sentence_transformers", None)
    if isinstance(nested, dict) and "activation_fn" in nested:
        return CrossEncoderNotes(
            True, _activation(path, "sentence_transformers.activation_fn", nested["activation_fn"])
        )
    name = "sbert_ce_default_activation_function"
    return CrossEncoderNotes(hasattr(config, name), _activation(path, name, getattr(config, name, None)))


def _own_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / _FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise TrainingError(f"checkpoint {path}: {_FILE} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _activation(path: Path, name: str, value: object) -> str | None:
    if value is None:
        return None
    found = _ACTIVATIONS.get(str(value).rpartition(".")[2])
    if found is None:
        expected = "torch's Sigmoid or Identity"
        raise TrainingError(f"checkpoint {path}: {name} is {value!r}, which is not served; expected {expected}")
    return found
