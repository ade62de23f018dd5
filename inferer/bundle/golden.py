"""The golden set: texts stored in the bundle with their logits at export, and the comparison with the logits here.

int8 arithmetic differs between CPUs (u8*s8 products saturate on x86 without VNNI), so the export's own checks hold for
the exporting CPU only. Free of numpy, because the server's master process reads bundles before it forks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import is_number
from inferer.errors import BundleError, shown
from inferer.tokens.texts import SIDES, TextOrPair

ENFORCE, WARN, OFF = MODES = ("enforce", "warn", "off")
PASSED, FAILED = "passed", "failed"

# Rounding in the fp32 parts differs between CPUs. When it moves an activation over a step of int8, scores move by
# thousandths. Saturated products move them by hundredths up to 1 (docs/log.md).
MAX_DIFFERENCE = 0.02

_LARGEST_FLOAT32 = 3.4e38
_LEAST_RANGE = 1e-3


@dataclass(frozen=True, slots=True)
class GoldenText:
    """One text, or one pair, with its logits [labels] at export; int8 is None in a bundle of scheme fp32."""

    text: TextOrPair
    fp32: tuple[float, ...]
    int8: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """The result of running the golden set again.

    outcome: "passed", "failed" or "off". texts: how many were run; differing: how many of them failed; other_label:
    how many failed with another best label. largest_difference: of any score of any text; None without a run.
    """

    outcome: str
    texts: int = 0
    differing: int = 0
    other_label: int = 0
    largest_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain types."""
        return asdict(self)

    def __str__(self) -> str:
        if self.outcome == OFF:
            return "golden check off"
        if self.outcome == PASSED:
            return f"golden check passed on {self.texts} texts, scores differ by at most {self.largest_difference:.4f}"
        differing = f"{self.differing} of {self.texts} texts: {self.other_label} with another best label"
        gap = f"scores differ by up to {self.largest_difference:.4f} ({MAX_DIFFERENCE} allowed)"
        return f"golden check failed on {differing}, {gap}"


def read_golden(
    folder: Path, value: object, num_labels: int, *, int8: bool, pair: bool = False
) -> tuple[GoldenText, ...]:
    """Return the golden set in the manifest's `golden`, each entry checked.

    int8: whether the bundle has an int8 model and therefore int8 logits. pair: whether the texts are pairs. Raises
    BundleError, naming the entry.
    """
    if not isinstance(value, list) or not value:
        raise BundleError.unexpected(folder, "golden", value, "a list of at least one text with its logits")
    sides = SIDES if pair else SIDES[:1]
    return tuple(_entry(folder, f"golden[{i}]", entry, sides, num_labels, int8=int8) for i, entry in enumerate(value))


def _entry(folder: Path, name: str, entry: object, sides: Sequence[str], num_labels: int, *, int8: bool) -> GoldenText:
    if not isinstance(entry, dict) or set(entry) != {*sides, "fp32", "int8"}:
        raise BundleError.unexpected(folder, name, entry, f"an object of {', '.join(sides)}, fp32 and int8")
    for side in sides:
        if not isinstance(entry[side], str) or not entry[side]:
            raise BundleError.unexpected(folder, f"{name}.{side}", entry[side], "a text")
    text = entry["text"] if len(sides) == 1 else (entry["text"], entry["text_pair"])
    fp32 = _logits(folder, f"{name}.fp32", entry["fp32"], num_labels)
    if int8:
        return GoldenText(text, fp32, _logits(folder, f"{name}.int8", entry["int8"], num_labels))
    if entry["int8"] is not None:
        raise BundleError.unexpected(folder, f"{name}.int8", entry["int8"], "null for scheme fp32")
    return GoldenText(text, fp32, None)


def _logits(folder: Path, name: str, value: object, num_labels: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != num_labels:
        raise BundleError.unexpected(folder, name, value, f"a list of {num_labels} logits, one per label")
    for number in value:
        if not is_number(number, -_LARGEST_FLOAT32, _LARGEST_FLOAT32):
            raise BundleError(folder, f"{name} has {shown(number)}, expected finite numbers")
    return tuple(float(number) for number in value)


def unit_of(stored: Iterable[Sequence[float]]) -> float:
    """Return the unit in which a regression's numbers [1] are compared: the range of those of the golden set.

    A model that gives every text nearly the same number is compared by a share of that number.
    """
    numbers = [number for row in stored for number in row]
    return max(max(numbers) - min(numbers), _LEAST_RANGE * max(map(abs, numbers))) or 1.0


def compare(pairs: Iterable[tuple[Sequence[float], Sequence[float]]], unit: float = 1.0) -> GoldenCheck:
    """Compare scores [labels] at export with those found here, one pair (stored, found) per text.

    A text passes when it has the stored best label and no score differs by over MAX_DIFFERENCE of `unit`; NaN differs
    by 1.
    """
    texts = differing = other_label = 0
    largest = 0.0
    for stored, found in pairs:
        texts += 1
        gaps = [abs(one - other) / unit for one, other in zip(stored, found, strict=True)]
        gap = max(1.0 if math.isnan(gap) else gap for gap in gaps)
        moved = stored.index(max(stored)) != found.index(max(found))
        other_label += moved
        differing += moved or gap > MAX_DIFFERENCE
        largest = max(largest, gap)
    return GoldenCheck(FAILED if differing else PASSED, texts, differing, other_label, largest)
