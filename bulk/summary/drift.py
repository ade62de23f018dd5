"""Drift: how far the labels and scores of a table are from those that the bundle remembers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LITTLE, _MUCH = 0.1, 0.25  # the usual limits of the index (Siddiqi, Credit Risk Scorecards, 2006)
_Z95 = 1.6449


@dataclass(frozen=True)
class Drift:
    """The population stability index of two counts. chance: a lower index may be chance, at the level of 5 %."""

    index: float
    chance: float

    @property
    def meaning(self) -> str:
        """What the index says, in words."""
        if self.index <= self.chance:
            return f"within chance (up to {self.chance:.3f} for so many rows)"
        if self.index < _LITTLE:
            return "little"
        return "some: look at the labels that moved" if self.index < _MUCH else "much: the table is of another kind"


def drift(found: Sequence[int], expected: Sequence[int]) -> Drift | None:
    """Return the drift of the counts `found` from `expected`, class by class; None where either is empty.

    The index is the sum of (p - q) ln(p / q) over the shares p and q. Half a row is added to each class, so that an
    empty one has a logarithm. Without drift the index is about (1/n + 1/m) chi-squared with one degree of freedom fewer
    than classes (Yurdakul, 2018); its 95 % quantile is that of Wilson and Hilferty.
    """
    rows, others = sum(found), sum(expected)
    if not rows or not others:
        return None
    classes = [(one, two) for one, two in zip(found, expected, strict=True) if one or two]
    half = 0.5 * len(classes)
    pairs = [((one + 0.5) / (rows + half), (two + 0.5) / (others + half)) for one, two in classes]
    index = sum((p - q) * math.log(p / q) for p, q in pairs)
    free = max(1, len(classes) - 1)
    quantile = free * (1 - 2 / (9 * free) + _Z95 * math.sqrt(2 / (9 * free))) ** 3
    return Drift(index, (1 / rows + 1 / others) * quantile)
