"""The fields of a bundle's manifest, one at a time: read, checked, refused by name. Plain types, no numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from inferer.errors import BundleError, shown

MANIFEST = "inferer.json"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
MEAN, MAX = "mean", "max"
POOLINGS = (MEAN, MAX)

LARGEST = 1000  # temperature, scale and bias: far above any that was ever fitted

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Windows:
    """How a long text is read in windows: tokens that neighbours share, and how their logits become one answer's."""

    overlap: int
    pooling: str


@dataclass(frozen=True, slots=True)
class Platt:
    """What is done to one label's logit before it becomes a score: times scale, plus bias."""

    scale: float
    bias: float


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of the bundle."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(folder, f"{name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(folder, f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(folder, f"{name} holds a {type(value).__name__}, expected a JSON object")
    return value


def field(
    folder: Path,
    manifest: Mapping[str, Any],
    name: str,
    kind: type[_T] | tuple[type[_T], ...],
    allowed: tuple[str, ...] | None = None,
) -> _T:
    """Return the field `name`, which must be of `kind` and, where that is given, one of `allowed`."""
    value = manifest.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        raise BundleError(folder, f"{MANIFEST}: {name} is {shown(value)}, expected {names}")
    if allowed is not None and value not in allowed:
        raise BundleError(folder, f"{MANIFEST}: {name} is {shown(value)}, expected one of {', '.join(allowed)}")
    return value


def temperature_of(folder: Path, manifest: Mapping[str, Any]) -> float:
    """Return what the logits are divided by."""
    temperature = field(folder, manifest, "temperature", (int, float))
    if not 0 < temperature <= LARGEST:
        raise BundleError(folder, f"temperature is {shown(temperature)}, expected a number above 0, at most {LARGEST}")
    return float(temperature)


def thresholds_of(
    folder: Path, manifest: Mapping[str, Any], labels: tuple[str, ...], problem_type: str
) -> dict[str, float] | None:
    """Return each label's threshold; None for single-label, which has none."""
    given = manifest.get("thresholds")
    if problem_type == SINGLE_LABEL:
        if given is not None:
            raise BundleError(folder, f"{MANIFEST}: thresholds is {shown(given)}, expected null for {SINGLE_LABEL}")
        return None
    if not isinstance(given, dict) or set(given) != set(labels):
        raise BundleError(
            folder, f"{MANIFEST}: thresholds is {shown(given)}, expected a number for each of {', '.join(labels)}"
        )
    for label, threshold in given.items():
        if not _is_number(threshold) or not 0 <= threshold <= 1:
            raise BundleError(folder, f"thresholds: {shown(threshold)} for '{label}', expected a number 0 to 1")
    return {label: float(given[label]) for label in labels}


def platt_of(
    folder: Path, manifest: Mapping[str, Any], labels: tuple[str, ...], problem_type: str
) -> dict[str, Platt] | None:
    """Return each label's scale and bias, in the labels' order; None where scores are not calibrated so."""
    given = manifest.get("platt")
    if given is None:
        return None
    if problem_type == SINGLE_LABEL:
        raise BundleError(folder, f"{MANIFEST}: platt is {shown(given)}, expected null for {SINGLE_LABEL}")
    if not isinstance(given, dict) or set(given) != set(labels):
        raise BundleError(
            folder, f"{MANIFEST}: platt is {shown(given)}, expected scale and bias for each of {', '.join(labels)}"
        )
    for label, one in given.items():
        whole = isinstance(one, dict) and set(one) == {"scale", "bias"} and all(map(_is_number, one.values()))
        if not whole or not 0 < one["scale"] <= LARGEST or not abs(one["bias"]) <= LARGEST:
            raise BundleError(
                folder,
                f"platt: {shown(one)} for '{label}', expected a scale above 0, at most {LARGEST}, and a "
                f"bias from -{LARGEST} to {LARGEST}",
            )
    return {label: Platt(float(given[label]["scale"]), float(given[label]["bias"])) for label in labels}


def abstain_threshold_of(folder: Path, manifest: Mapping[str, Any], problem_type: str) -> float | None:
    """Return the score below which a single-label answer names no label; None where each names one."""
    given = manifest.get("abstain_threshold")
    if given is None:
        return None
    if problem_type != SINGLE_LABEL:
        raise BundleError(folder, f"{MANIFEST}: abstain_threshold is {shown(given)}, expected null for {problem_type}")
    if not _is_number(given) or not 0 <= given <= 1:
        raise BundleError(folder, f"abstain_threshold is {shown(given)}, expected a number 0 to 1")
    return float(given)


def windows_of(folder: Path, manifest: Mapping[str, Any], max_length: int) -> Windows:
    """Return how a long text is read in windows."""
    given = field(folder, manifest, "windows", dict)
    pooling = field(folder, given, "pooling", str, POOLINGS)
    overlap = field(folder, given, "overlap", int)
    if not 0 <= overlap < max_length:
        raise BundleError(folder, f"windows.overlap is {overlap}, expected 0 to {max_length - 1} tokens")
    return Windows(overlap, pooling)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not _is_nan(value)


def _is_nan(value: int | float) -> bool:
    return isinstance(value, float) and math.isnan(value)
