"""The facts that the worker knows of a request before the application sees it, handed over within a thread."""

from __future__ import annotations

import threading
import time

# Reasons to refuse a request: as many are in flight, or those hold as much memory, as the settings allow.
REQUESTS, MEMORY = "requests", "memory"

_local = threading.local()


def note(arrived: float, refusal: str | None = None) -> None:
    """Store the arrival (time.monotonic()) of this thread's next request, and the reason to refuse it, if any."""
    _local.noted = arrived, refusal


def take() -> tuple[float, str | None]:
    """Return the stored arrival and reason once; without them, the present time and None."""
    noted: tuple[float, str | None] | None = getattr(_local, "noted", None)
    _local.noted = None
    return (time.monotonic(), None) if noted is None else noted
