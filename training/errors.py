"""Errors of a user's data, options or base model, and of a run that diverged."""

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
    """Faults of the data, one line each in `faults`, with row and column. `path` is a file, a folder or an address."""

    def __init__(self, path: Path | str, faults: Sequence[str]) -> None:
        shown = list(faults[:_SHOWN_FAULTS])
        if len(faults) > _SHOWN_FAULTS:
            shown.append(f"… and {len(faults) - _SHOWN_FAULTS} more")
        what = faults[0] if len(faults) == 1 else f"{len(faults)} faults:\n  " + "\n  ".join(shown)
        super().__init__(f"{redacted(path)}: {what}")
        self.path = path
        self.faults = list(faults)
