"""The folder in which several workers share their metrics; each server locks its own and removes abandoned ones."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

_PREFIX = "inferer-metrics-"
_LOCK = "lock"

_open_locks: list[object] = []  # workers inherit the open file, and with it the lock


def make(parent: str | None) -> Path:
    """Return a new, locked folder in `parent` (default: the temporary folder); remove abandoned ones."""
    base = Path(parent or tempfile.gettempdir())
    for folder in base.glob(f"{_PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    unlocked = made / f"{_LOCK}.new"
    lock = unlocked.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unlocked.rename(made / _LOCK)  # other servers look at the folder only from now on
    _open_locks.append(lock)
    return made


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, of another user, or not yet complete
        return False
    return True
