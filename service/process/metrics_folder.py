"""The folder in which several workers share their metrics, and what servers that were killed left of theirs."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

_PREFIX = "inferer-metrics-"
_LOCK = "lock"

_held: list[object] = []  # the open lock files; the workers inherit them, and with them the lock


def make(parent: str | None) -> Path:
    """Return a new folder in `parent`, by default the one for temporary files; remove those that nobody holds."""
    place = Path(parent or tempfile.gettempdir())
    for folder in place.glob(f"{_PREFIX}*"):
        if _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    unfinished = made / f"{_LOCK}.new"
    lock = unfinished.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unfinished.rename(made / _LOCK)  # only now may others ask for it
    _held.append(lock)
    return made


def _is_left(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, another user's, or not yet finished
        return False
    return True
