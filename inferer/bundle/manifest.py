"""The fields of a bundle's JSON files, read and checked one at a time. Plain types, no numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from inferer.bundle.files import MANIFEST, MOST_JSON_BYTES, contents
from inferer.errors import BundleError

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"
SOFTMAX, SIGMOID, NONE = ACTIVATIONS = ("softmax", "sigmoid", "none")
MEAN, MAX = POOLINGS = ("mean", "max")

LARGEST = 1000  # of temperature, scale and bias: far above any fitted value

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Windows:
    """The reading of a long text in windows: tokens that neighbours share, and the pooling of their logits."""

    overlap: int
    pooling: str


@dataclass(frozen=True, slots=True)
class Platt:
    """The affine change of one label's logit before it becomes a score: times scale, plus bias."""

    scale: float
    bias: float


def activation_of(problem_type: str) -> str:
    """Return the activation of a classifier."""
    return SOFTMAX if problem_type == SINGLE_LABEL else SIGMOID


def is_int(value: object, low: int, high: float = math.inf) -> TypeGuard[int]:
    """Return whether `value` is an integer, not a bool, from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Return whether `value` is a number, not a bool or NaN, from `low` to `high`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def read_json(folder: Path, name: str, sha256: object = None) -> dict[str, Any]:
    """Return the JSON object in a file of the bundle; its bytes must have the SHA-256 `sha256` (None: any)."""
    data = contents(folder / name, sha256, MOST_JSON_BYTES)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(folder, f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(folder, f"{name} holds a {type(value).__name__}, expected a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the JSON object in `file` of a bundle; a wrong value raises BundleError, which names the field."""

    folder: Path
    values: Mapping[str, Any]
    file: str = MANIFEST

    def unexpected(self, name: str, value: object, expected: str) -> BundleError:
        """Return the error for the value of a field that is not as expected."""
        return BundleError.unexpected(self.folder, f"{self.file}: {name}", value, expected)

    def get(self, name: str, kind: type[_T], allowed: tuple[str, ...] | None = None) -> _T:
        """Return the field `name`, which must be of `kind` and, where given, one of `allowed`."""
        value = self.values.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.unexpected(name, value, kind.__name__)
        if allowed is not None and value not in allowed:
            raise self.unexpected(name, value, f"one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return the field `name`, true or false; `default` where it is missing."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.unexpected(name, value, "true or false")
        return value

    def temperature(self) -> float:
        """Return the divisor of the logits."""
        value = self.values.get("temperature")
        if not is_number(value, 0, LARGEST) or value == 0:
            raise self.unexpected("temperature", value, f"a number above 0, at most {LARGEST}")
        return float(value)

    def activation(self, problem_type: str) -> str:
        """Return the function from logits to scores: a regression's own, or the one of the problem type."""
        value = self.values.get("activation")
        if problem_type == REGRESSION:
            return self.get("activation", str, (NONE, SIGMOID))
        if value is not None:
            raise self.unexpected("activation", value, f"null for {problem_type}")
        return activation_of(problem_type)

    def thresholds(self, labels: tuple[str, ...], problem_type: str) -> dict[str, float] | None:
        """Return the threshold of each label, in the labels' order; None unless multi-label."""
        if self.values.get("thresholds") is None and problem_type != MULTI_LABEL:
            return None
        given = self._per_label("thresholds", labels, problem_type)
        for label, threshold in given.items():
            if not is_number(threshold, 0, 1):
                raise self.unexpected(f"thresholds['{label}']", threshold, "a number 0 to 1")
        return {label: float(given[label]) for label in labels}

    def platt(self, labels: tuple[str, ...], problem_type: str) -> dict[str, Platt] | None:
        """Return the scale and bias of each label, in the labels' order; None without Platt scaling."""
        if self.values.get("platt") is None:
            return None
        given = self._per_label("platt", labels, problem_type)
        for label, one in given.items():
            ok = isinstance(one, dict) and set(one) == {"scale", "bias"} and is_number(one["bias"], -LARGEST, LARGEST)
            if not ok or not is_number(one["scale"], 0, LARGEST) or one["scale"] == 0:
                expected = f"a scale above 0, at most {LARGEST}, and a bias from -{LARGEST} to {LARGEST}"
                raise self.unexpected(f"platt['{label}']", one, expected)
        return {label: Platt(float(given[label]["scale"]), float(given[label]["bias"])) for label in labels}

    def abstain_threshold(self, problem_type: str) -> float | None:
        """Return the score below which a single-label model names no label; None when it always names one."""
        value = self.values.get("abstain_threshold")
        if value is None:
            return None
        if problem_type != SINGLE_LABEL:
            raise self.unexpected("abstain_threshold", value, f"null for {problem_type}")
        if not is_number(value, 0, 1):
            raise self.unexpected("abstain_threshold", value, "a number 0 to 1")
        return float(value)

    def windows(self, max_length: int) -> Windows:
        """Return the overlap and the pooling of windows."""
        given = Fields(self.folder, self.get("windows", dict))
        pooling, overlap = given.get("pooling", str, POOLINGS), given.get("overlap", int)
        if not 0 <= overlap < max_length:
            raise self.unexpected("windows.overlap", overlap, f"0 to {max_length - 1} tokens")
        return Windows(overlap, pooling)

    def _per_label(self, name: str, labels: tuple[str, ...], problem_type: str) -> dict[str, Any]:
        """Return the object `name`, whose keys must be exactly the labels, of a multi-label bundle."""
        value = self.values.get(name)
        if problem_type != MULTI_LABEL:
            raise self.unexpected(name, value, f"null for {problem_type}")
        if not isinstance(value, dict) or set(value) != set(labels):
            raise self.unexpected(name, value, f"a value for each of {', '.join(labels)}")
        return value
