"""When the request that this thread answers arrived, and whether it found all places taken: told by the worker."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

_here = threading.local()


class Arrival(NamedTuple):
    """at: time.monotonic() when the request was there, before it waited for a thread. refuse: no place was free."""

    at: float
    refuse: bool = False


def note(arrival: Arrival) -> None:
    """Say how the request that this thread is about to answer arrived."""
    _here.arrival = arrival


def take() -> Arrival:
    """Return that, once; an arrival now when nobody said."""
    arrival: Arrival | None = getattr(_here, "arrival", None)
    _here.arrival = None
    return arrival or Arrival(time.monotonic())
