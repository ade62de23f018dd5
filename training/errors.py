"""What a user can get wrong before or during training, each told in a line or a short list.

TrainingError          an option, a recipe, a base model: one line
├── DivergedError        a run came to nothing
└── DataError            faults in the data: a list, each with row and column
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.data.location import redacted

_SHOWN_FAULTS = 20


class TrainingError(Exception):
    """Training cannot go on for a reason that the user can mend."""


class DivergedError(TrainingError):
    """A run came to weights that are no numbers; nothing of it is worth going on from."""


class DataError(TrainingError):
    """The data has faults; `faults` holds a line for each. `path` is its file or folder, or its address."""

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
