"""When the request that this thread answers arrived, before it waited for a thread: told by the worker."""

from __future__ import annotations

import threading
import time

_here = threading.local()


def note(at: float) -> None:
    """Say when the request that this thread is about to answer arrived, by time.monotonic()."""
    _here.at = at


def take() -> float:
    """Return that time, once; now when nobody said."""
    at: float | None = getattr(_here, "at", None)
    _here.at = None
    return time.monotonic() if at is None else at
