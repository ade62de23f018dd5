"""The `config` argument of ModelInferer and of export: a mapping or a JSON file.

It describes a bare state dict (model_type, model_name) and overrides labels, problem_type, max_length, thresholds.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from inferer.bundle.manifest import is_int, is_number
from inferer.bundle.reader import PROBLEM_TYPES
from inferer.errors import ConfigError, shown

Threshold: TypeAlias = float | Mapping[str, float]  # for every label, or of each label

_ALIASES = {"max_seq_length": "max_length", "threshold": "thresholds"}
_KEYS = ("model_type", "model_name", "labels", "id2label", "problem_type", "max_length", "thresholds")


@dataclass(frozen=True)
class Config:
    """The values of a config, None where absent. `given` is the mapping as plain JSON types."""

    model_type: str | None = None
    model_name: str | None = None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    max_length: int | None = None
    thresholds: Threshold | None = None
    given: Mapping[str, Any] | None = None


def read_config(config: Mapping[str, Any] | str | os.PathLike[str] | None) -> Config:
    """Return the values of `config`, checked key by key.

    config: a mapping, or the path of a JSON file with one; a relative `model_name` in a file is looked up beside the
    file first. Raises ConfigError, naming the key, its value and the expected value.
    """
    if config is None:
        return Config()
    if isinstance(config, str | os.PathLike):
        values = _read_file(Path(config))
    elif isinstance(config, Mapping):
        values = dict(config)
    else:
        raise ConfigError("config", config, "a mapping or the path of a JSON file")
    for alias, name in _ALIASES.items():
        if alias in values:
            if name in values:
                raise ConfigError(f"config.{alias}", values[alias], f"only one of {alias} and {name}")
            values[name] = values.pop(alias)
    for key in values:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), (*_KEYS, *_ALIASES), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError("config", key, f"the keys {', '.join(_KEYS)}{hint}")
    for key in ("model_type", "model_name"):
        if key in values and not (isinstance(values[key], str) and values[key]):
            raise ConfigError(f"config.{key}", values[key], "a name")
    problem_type, max_length = values.get("problem_type"), values.get("max_length")
    if problem_type is not None and problem_type not in PROBLEM_TYPES:
        raise ConfigError("config.problem_type", problem_type, f"one of {', '.join(PROBLEM_TYPES)}")
    if max_length is not None and not is_int(max_length, 3):
        raise ConfigError("config.max_length", max_length, "a number of tokens from 3")
    labels, thresholds = _labels(values), check_thresholds("config.thresholds", values.get("thresholds"))
    plain = {key: values.get(key) for key in ("model_type", "model_name", "problem_type", "max_length")}
    return Config(**plain, labels=labels, thresholds=thresholds, given=values)


def check_thresholds(name: str, value: Any) -> float | dict[str, float] | None:
    """Return `value` if it is None, a number from 0 to 1, or a mapping of labels to such numbers."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        for label, threshold in value.items():
            if not isinstance(label, str):
                raise ConfigError(name, label, "label names as keys")
            _check_unit(f"{name}[{shown(label)}]", threshold)
        return {label: float(threshold) for label, threshold in value.items()}
    _check_unit(name, value)
    return float(value)


def spread_thresholds(
    name: str, value: Threshold, labels: tuple[str, ...], base: Mapping[str, float]
) -> dict[str, float]:
    """Return one threshold per label: `value` for all labels, or `base` updated by the mapping `value`."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(labels, value)
    for label in value:
        if label not in labels:
            raise ConfigError(name, label, f"one of the labels {', '.join(labels)}")
    return {**base, **value}


def _check_unit(name: str, value: object) -> None:
    if not is_number(value, 0, 1):
        raise ConfigError(name, value, "a number from 0 to 1")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError("config", path, f"a readable JSON file ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError("config", path, "a JSON object in the file")
    name = values.get("model_name")
    if isinstance(name, str) and name and (path.parent / name).is_dir():
        values["model_name"] = str((path.parent / name).resolve())
    return values


def _labels(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    labels, id2label = values.get("labels"), values.get("id2label")
    if labels is not None and id2label is not None:
        raise ConfigError("config.labels", labels, "only one of labels and id2label")
    if id2label is not None:
        if not isinstance(id2label, Mapping):
            raise ConfigError("config.id2label", id2label, "a mapping from 0, 1, … to names")
        by_id = {str(key): name for key, name in id2label.items()}
        if set(by_id) != {str(i) for i in range(len(by_id))}:
            raise ConfigError("config.id2label", sorted(by_id), f"the keys 0 to {len(by_id) - 1}")
        labels = [by_id[str(i)] for i in range(len(by_id))]
    if labels is None:
        return None
    if not isinstance(labels, list | tuple) or not labels or not all(isinstance(n, str) and n for n in labels):
        raise ConfigError("config.labels", labels, "a list of names in the order of the logits")
    if len(set(labels)) != len(labels):
        raise ConfigError("config.labels", labels, "each name once")
    return tuple(labels)
