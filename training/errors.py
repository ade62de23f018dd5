"""What a user can get wrong before or during training, each told in a line or a short list.

TrainingError          an option, a recipe, a base model: one line
└── DataError            faults in the data: a list, each with row and column
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SHOWN_FAULTS = 20


class TrainingError(Exception):
    """Training cannot go on for a reason that the user can mend."""


class DataError(TrainingError):
    """The data has faults; `faults` holds a line for each."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        shown = list(faults[:_SHOWN_FAULTS])
        if len(faults) > _SHOWN_FAULTS:
            shown.append(f"… and {len(faults) - _SHOWN_FAULTS} more")
        if len(faults) == 1:
            message = f"{path}: {faults[0]}"
        else:
            message = f"{path}: {len(faults)} faults:\n  " + "\n  ".join(shown)
        super().__init__(message)
        self.path = path
        self.faults = list(faults)
