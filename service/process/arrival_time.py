"""The arrival time of the request that a thread handles; the worker sees it before the application does."""

from __future__ import annotations

import threading
import time

_local = threading.local()


def note(arrived: float) -> None:
    """Store the arrival (time.monotonic()) of this thread's next request."""
    _local.arrived = arrived


def take() -> float:
    """Return the stored arrival once; without one, the present time."""
    arrived: float | None = getattr(_local, "arrived", None)
    _local.arrived = None
    return time.monotonic() if arrived is None else arrived
