"""Models in the processes that score: each loads a bundle once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferer.model import ModelInferer

_models: dict[str, ModelInferer] = {}


def model_at(bundle: str | os.PathLike[str], options: Mapping[str, Any], threads: int) -> ModelInferer:
    """Return the model of `bundle` in this process, loaded at the first call. options: of `ModelInferer`."""
    key = f"{bundle} {threads} {sorted(options.items())}"
    if key not in _models:
        _models.clear()  # a process scores for one job at a time
        _models[key] = ModelInferer(bundle, intra_op_threads=threads, spinning=False, **options)
    return _models[key]


def portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `ModelInferer` for another machine: the content of a configuration file for its path."""
    config = options.get("config")
    if config is None or isinstance(config, Mapping):
        return dict(options)
    return {**options, "config": json.loads(Path(config).read_text(encoding="utf-8"))}
