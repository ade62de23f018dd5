"""The golden set: texts stored in the bundle with the logits that they had at export, and whether they still have them.

int8 arithmetic is not the same on every CPU (u8*s8 products saturate on x86 without VNNI), so what the export
checked holds for the CPU that it ran on. Reading and comparing only: who runs the texts is the caller's affair.
Free of numpy, since the server's master process reads bundles before it forks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inferer.errors import BundleError, shown

ENFORCE, WARN, OFF = "enforce", "warn", "off"
MODES = (ENFORCE, WARN, OFF)
PASSED, FAILED = "passed", "failed"

# Rounding in the fp32 parts differs between CPUs; where it moves an activation over a step of int8, scores move by
# thousandths. Saturated products move them by hundredths to whole units (docs/log.md).
MAX_DIFFERENCE = 0.02

_LARGEST_FLOAT32 = 3.4e38


@dataclass(frozen=True, slots=True)
class GoldenText:
    """One text with its logits [labels] at export; int8 is None in a bundle of scheme fp32."""

    text: str
    fp32: tuple[float, ...]
    int8: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """What a re-run of the golden set found.

    outcome: "passed", "failed" or "off". texts: how many were run. differing: how many of them failed, and
    other_label: how many of those because their best label is another. largest_difference: of a score, over all
    texts and labels; None when none was run.
    """

    outcome: str
    texts: int = 0
    differing: int = 0
    other_label: int = 0
    largest_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as plain types."""
        return asdict(self)

    def __str__(self) -> str:
        if self.outcome == OFF:
            return "golden check off"
        if self.outcome == PASSED:
            return f"golden check passed on {self.texts} texts, scores differ by at most {self.largest_difference:.4f}"
        return (
            f"golden check failed on {self.differing} of {self.texts} texts: {self.other_label} with another best "
            f"label, scores differ by up to {self.largest_difference:.4f} ({MAX_DIFFERENCE} allowed)"
        )


def read_golden(folder: Path, value: object, num_labels: int, *, int8: bool) -> tuple[GoldenText, ...]:
    """Return the golden set from the manifest's `golden`, checked entry by entry.

    int8: whether the bundle has an int8 model, and so int8 logits. Raises BundleError, naming the entry.
    """
    if not isinstance(value, list) or not value:
        raise BundleError(folder, f"golden is {shown(value)}, expected a list of at least one text with its logits")
    return tuple(_entry(folder, i, entry, num_labels, int8=int8) for i, entry in enumerate(value))


def _entry(folder: Path, index: int, entry: object, num_labels: int, *, int8: bool) -> GoldenText:
    if not isinstance(entry, dict) or set(entry) != {"text", "fp32", "int8"}:
        raise BundleError(folder, f"golden[{index}] is {shown(entry)}, expected an object of text, fp32 and int8")
    text = entry["text"]
    if not isinstance(text, str) or not text:
        raise BundleError(folder, f"golden[{index}].text is {shown(text)}, expected a text")
    fp32 = _logits(folder, f"golden[{index}].fp32", entry["fp32"], num_labels)
    if int8:
        return GoldenText(text, fp32, _logits(folder, f"golden[{index}].int8", entry["int8"], num_labels))
    if entry["int8"] is not None:
        raise BundleError(folder, f"golden[{index}].int8 is {shown(entry['int8'])}, expected null for scheme fp32")
    return GoldenText(text, fp32, None)


def _logits(folder: Path, name: str, value: object, num_labels: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != num_labels:
        raise BundleError(folder, f"{name} is {shown(value)}, expected a list of {num_labels} logits, one a label")
    for number in value:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not -_LARGEST_FLOAT32 <= number <= _LARGEST_FLOAT32:
            raise BundleError(folder, f"{name} has {shown(number)}, expected finite numbers")
    return tuple(float(number) for number in value)


def compare(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> GoldenCheck:
    """Return what the comparison of (stored, found) scores [labels], a pair a text, finds.

    A text passes when its best label is the stored one and no score is further than MAX_DIFFERENCE from its own.
    Scores that are not numbers fail, as a difference of 1.
    """
    texts = differing = other_label = 0
    largest = 0.0
    for stored, found in pairs:
        texts += 1
        gaps = [abs(one - other) for one, other in zip(stored, found, strict=True)]
        gap = max(1.0 if math.isnan(gap) else gap for gap in gaps)
        moved = _best(stored) != _best(found)
        other_label += moved
        differing += moved or gap > MAX_DIFFERENCE
        largest = max(largest, gap)
    return GoldenCheck(FAILED if differing else PASSED, texts, differing, other_label, largest)


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda i: scores[i])
