"""The folder of a model to evaluate: a checkpoint or a bundle, its labels, and what it was trained on. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.errors import TrainingError

_MANIFEST = "inferer.json"  # what makes a folder a bundle
CONFIG = "config.json"
RECORD = "training.json"  # what training leaves beside the weights


@dataclass(frozen=True)
class ModelFolder:
    """What a folder says of its model. problem_type: None where it does not say. recipe: of training, or empty.

    threshold: of a multi-label checkpoint, for all labels, where training chose one.
    """

    path: Path
    is_bundle: bool
    labels: tuple[str, ...]
    problem_type: str | None
    recipe: Mapping[str, Any]
    threshold: float | None = None

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return self.path.resolve().name


def read_model_folder(path: Path) -> ModelFolder:
    """Return what the folder at `path` says. Raises TrainingError for one that is no model, naming what is wrong."""
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise TrainingError(f"model {path}: {what}; expected a checkpoint or a bundle")
    if not (path / CONFIG).is_file():
        raise TrainingError(f"model {path}: has no {CONFIG}; expected a checkpoint's folder or a bundle's")
    is_bundle = (path / _MANIFEST).is_file()
    if not is_bundle and not any((*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin"))):
        raise TrainingError(f"model {path}: has neither weights (*.safetensors, pytorch_model*.bin) nor {_MANIFEST}")
    config = _read(path / CONFIG)
    record = _read(path / RECORD) if (path / RECORD).is_file() and not is_bundle else {}
    recipe = record.get("recipe", {})
    if not isinstance(recipe, dict):
        raise TrainingError(f"{path / RECORD}: recipe is {recipe!r}, expected an object")
    problem_type = config.get("problem_type")
    if problem_type not in (SINGLE_LABEL, MULTI_LABEL, None):
        raise TrainingError(
            f"{path / CONFIG}: problem_type is {problem_type!r}, expected {SINGLE_LABEL} or {MULTI_LABEL}"
        )
    threshold = config.get("inferer_threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise TrainingError(f"{path / CONFIG}: inferer_threshold is {threshold!r}, expected a number")
    return ModelFolder(path, is_bundle, _labels(path / CONFIG, config), problem_type, recipe, threshold)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TrainingError(f"{path}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: holds {type(content).__name__}, expected an object")
    return content


def _labels(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    labels = [names.get(str(i)) for i in range(len(names))] if isinstance(names, dict) else []
    if len(labels) < 2 or not all(isinstance(label, str) and label for label in labels):
        raise TrainingError(f"{path}: id2label is {names!r}, expected a name for each of 0, 1, …, two at least")
    if len(set(labels)) != len(labels):
        raise TrainingError(f"{path}: id2label names a label twice: {', '.join(map(str, labels))}")
    return tuple(str(label) for label in labels)
