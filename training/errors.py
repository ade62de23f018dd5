"""Errors of a user's data, options or base model, and of a run that diverged.

TrainingError          an option, a recipe, a base model: one line
├── DivergedError        the weights became infinite or NaN
└── DataError            faults in the data: a list, each with row and column
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.data.location import redacted

_SHOWN_FAULTS = 20


class TrainingError(Exception):
    """Training cannot go on, for a reason that the user can mend."""


class DivergedError(TrainingError):
    """The run's weights became infinite or NaN; the run cannot be resumed."""


class DataError(TrainingError):
    """Faults of the data, one line each in `faults`. `path` is a file, a folder or an address."""

    def __init__(self, path: Path | str, faults: Sequence[str]) -> None:
        lines = list(faults[:_SHOWN_FAULTS])
        if len(faults) > _SHOWN_FAULTS:
            lines.append(f"… and {len(faults) - _SHOWN_FAULTS} more")
        if len(faults) == 1:
            message = f"{redacted(path)}: {faults[0]}"
        else:
            message = f"{redacted(path)}: {len(faults)} faults:\n  " + "\n  ".join(lines)
        super().__init__(message)
        self.path = path
        self.faults = list(faults)
