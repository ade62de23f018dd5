"""The folder of a model to evaluate: a checkpoint or a bundle, its labels, and the recipe of its training. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.files import MANIFEST
from inferer.bundle.manifest import REGRESSION, read_json
from inferer.bundle.reader import CONFIG, PROBLEM_TYPES, labels_of
from inferer.errors import BundleError
from training.errors import TrainingError

RECORD, RECIPE = "training.json", "recipe.toml"  # training writes them beside the weights


@dataclass(frozen=True)
class ModelFolder:
    """The facts that a model's folder states.

    problem_type: None if it states none. text_pair: whether it reads pairs; None if it does not say. recipe: the
    training's, or empty. threshold: the one for all labels that training chose for a multi-label checkpoint.
    """

    path: Path
    is_bundle: bool
    labels: tuple[str, ...]
    problem_type: str | None
    recipe: Mapping[str, Any]
    threshold: float | None = None
    text_pair: bool | None = None


def read_model_folder(path: Path) -> ModelFolder:
    """Return the facts of the model in the folder `path`. Raises TrainingError, naming the fault, for any other one."""
    if not path.is_dir():
        fault = "is not a folder" if path.exists() else "does not exist"
        raise TrainingError(f"model {path}: {fault}; expected a checkpoint or a bundle")
    if not (path / CONFIG).is_file():
        raise TrainingError(f"model {path}: has no {CONFIG}; expected a checkpoint's folder or a bundle's")
    is_bundle = (path / MANIFEST).is_file()
    if not is_bundle and not any((*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin"))):
        raise TrainingError(f"model {path}: has neither weights (*.safetensors, pytorch_model*.bin) nor {MANIFEST}")
    try:
        config = read_json(path, CONFIG)
        manifest = read_json(path, MANIFEST) if is_bundle else {}
        record = read_json(path, RECORD) if (path / RECORD).is_file() and not is_bundle else {}
        labels = labels_of(config.get("id2label"), path)
    except BundleError as error:
        raise TrainingError(f"model {path}: {error.problem}") from error
    if len(labels) < 2 and config.get("problem_type") != REGRESSION:
        raise TrainingError(f"model {path}: id2label is {config['id2label']!r}, expected at least two labels")
    recipe = record.get("recipe", {})
    if not isinstance(recipe, dict):
        raise TrainingError(f"{path / RECORD}: recipe is {recipe!r}, expected an object")
    problem_type = config.get("problem_type")
    if problem_type not in (*PROBLEM_TYPES, None):
        raise TrainingError(f"{path / CONFIG}: problem_type is {problem_type!r}, expected {' or '.join(PROBLEM_TYPES)}")
    threshold = config.get("inferer_threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise TrainingError(f"{path / CONFIG}: inferer_threshold is {threshold!r}, expected a number")
    text_pair = config.get("inferer_text_pair")
    if is_bundle:
        text_pair = manifest.get("text_pair", False)
    return ModelFolder(path, is_bundle, labels, problem_type, recipe, threshold, text_pair)
