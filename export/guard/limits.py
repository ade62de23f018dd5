"""The user's limits on the change by int8: their units, and their check against figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from export.errors import ExportError
from training.report.intervals import Figure

# A limit beyond these forbids nothing; the user probably meant a fraction, or mistyped.
_MOST_POINTS = 50
_LEAST_PERCENT = 50
_ROUNDING = 1e-9  # one of 200 texts must hold a limit of 0.5 points, though 100 * 0.005 is not 0.5 in binary


@dataclass(frozen=True)
class Limits:
    """Limits that int8 must hold on the user's texts; None sets no limit.

    max_accuracy_drop: fp32's accuracy minus int8's, in percentage points, 0 to 50. min_agreement: texts with the same
    label (multi-label: the same set of labels), in percent, 50 to 100. Both apply to the measured value, not to its
    interval. Raises ExportError for other values.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        drop, agreement = self.max_accuracy_drop, self.min_agreement
        if drop is not None and not 0 <= drop <= _MOST_POINTS:
            raise ExportError(
                f"--max-accuracy-drop is {drop:g}, expected 0 to {_MOST_POINTS} percentage points "
                "(0.5 lets an accuracy of 90.0 % fall to 89.5 %)"
            )
        if agreement is not None and not _LEAST_PERCENT <= agreement <= 100:
            raise ExportError(
                f"--min-agreement is {agreement:g}, expected {_LEAST_PERCENT} to 100 percent (99 means 99 %, not 0.99)"
            )

    @property
    def given(self) -> bool:
        """Return whether a limit is set."""
        return self.max_accuracy_drop is not None or self.min_agreement is not None

    def missed(self, figures: Mapping[str, Figure]) -> tuple[str, ...]:
        """Return the names of the figures that miss a limit: accuracy_drop, agreement, both or none."""
        missed = []
        if self.max_accuracy_drop is not None:
            points = 100 * figures["accuracy_drop"].value
            if not points <= self.max_accuracy_drop + _ROUNDING:
                missed.append("accuracy_drop")
        if self.min_agreement is not None:
            percent = 100 * figures["agreement"].value
            if not percent >= self.min_agreement - _ROUNDING:
                missed.append("agreement")
        return tuple(missed)

    def as_dict(self) -> dict[str, float | None]:
        """Return the limits as plain types, with their units in their names."""
        return {
            "max_accuracy_drop_points": self.max_accuracy_drop,
            "min_agreement_percent": self.min_agreement,
        }
