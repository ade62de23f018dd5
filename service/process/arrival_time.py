"""When the request that this thread answers arrived: told by the worker, which saw it come."""

from __future__ import annotations

import threading
import time

_here = threading.local()


def note(arrived: float) -> None:
    """Say when (time.monotonic()) the request came that this thread is about to answer."""
    _here.arrived = arrived


def take() -> float:
    """Return that, once; now when nobody said."""
    arrived: float | None = getattr(_here, "arrived", None)
    _here.arrived = None
    return time.monotonic() if arrived is None else arrived
