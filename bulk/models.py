"""Models in the processes that score: each loads a bundle once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from inferer.model import ModelInferer

_MOST = 4  # models in a process at once: more are needed only where one job of Spark or Ray has as many
_models: dict[str, ModelInferer] = {}


def model_at(bundle: str | os.PathLike[str], options: Mapping[str, Any], threads: int) -> ModelInferer:
    """Return the model of `bundle` in this process, loaded at the first call. options: of `ModelInferer`."""
    return _kept(f"{bundle} {threads} {sorted(options.items())}", lambda: _loaded(bundle, options, threads))


def model_of(
    name: str, files: Callable[[], Mapping[str, bytes]], options: Mapping[str, Any], threads: int
) -> ModelInferer:
    """Return the model of the bundle that `files` gives at the first call. name: another content has another."""

    def load() -> ModelInferer:
        with TemporaryDirectory(prefix="inferer-bundle-") as folder:
            for file, content in files().items():
                (Path(folder) / file).write_bytes(content)
            return _loaded(folder, options, threads)

    return _kept(f"{name} {threads} {sorted(options.items())}", load)


def _loaded(bundle: str | os.PathLike[str], options: Mapping[str, Any], threads: int) -> ModelInferer:
    return ModelInferer(bundle, intra_op_threads=threads, spinning=False, **options)


def _kept(key: str, load: Callable[[], ModelInferer]) -> ModelInferer:
    if key not in _models:
        while len(_models) >= _MOST:
            del _models[next(iter(_models))]
        _models[key] = load()
    return _models[key]


def portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `ModelInferer` for another machine: the content of a configuration file for its path."""
    config = options.get("config")
    if config is None or isinstance(config, Mapping):
        return dict(options)
    return {**options, "config": json.loads(Path(config).read_text(encoding="utf-8"))}
