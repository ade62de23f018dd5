"""The capacity of a worker: the number of requests in flight, and the memory that they may need together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.errors import ServiceError

# Retry-After of a request that is refused for load.
RETRY_AFTER_S = 1

# Estimates of bytes, from above. A body is held as bytes and as text, of up to 4 bytes per character; while it is
# parsed gunicorn and Werkzeug copy it. A score is a number in a dict, and 20 digits beside its label in the reply.
_PER_BODY_BYTE = 6
_PER_SCORE = 150


class Capacity:
    """Admit requests up to `max_requests` and, by estimate, `max_bytes`; thread-safe.

    gauge: follows the number of requests in flight. A request that needs at most its equal share of the memory is
    admitted whatever the others hold, so large requests cannot shut small ones out.
    """

    def __init__(self, max_requests: int, max_bytes: int, gauge: Gauge) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._gauge = gauge
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0  # of requests that need more than their share

    def enter(self) -> bool:
        """Count one request in flight, before a thread has it; return False at capacity."""
        with self._lock:
            if self._requests >= self._max_requests:
                return False
            self._requests += 1
        self._gauge.inc()
        return True

    def leave(self) -> None:
        """Count one request in flight less."""
        with self._lock:
            self._requests -= 1
        self._gauge.dec()

    @contextmanager
    def memory(self, body_bytes: int) -> Iterator[Lease]:
        """Count the memory of a request with a body of this size; raises ServiceError (Overloaded) without room."""
        lease = Lease(self)
        try:
            lease.add(_PER_BODY_BYTE * body_bytes)
            yield lease
        finally:
            with self._lock:
                self._bytes -= lease.counted

    def count(self, lease: Lease, needed: int) -> None:
        """Count `needed` bytes for a request; raises ServiceError (Overloaded) when others leave no room for them."""
        if needed <= self._max_bytes // self._max_requests:
            return
        with self._lock:
            others = self._bytes - lease.counted
            if others and others + needed > self._max_bytes:
                raise self.overloaded(memory=True)
            self._bytes = others + needed
            lease.counted = needed

    def overloaded(self, *, memory: bool = False) -> ServiceError:
        """Return the error of a request that arrives at capacity."""
        full = f"{self._max_requests} requests are in flight, the most allowed"
        if memory:
            full = f"requests in flight hold the memory that they may, {self._max_bytes} bytes by estimate"
        return ServiceError("Overloaded", f"{full}; try again", {"Retry-After": str(RETRY_AFTER_S)})


class Lease:
    """The memory of one request, by estimate. counted: the bytes that count against the limit."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._needed = 0
        self.counted = 0

    def add(self, needed: int) -> None:
        """Add bytes that the request is about to need; raises ServiceError (Overloaded)."""
        self._needed += needed
        self._capacity.count(self, self._needed)

    def add_scores(self, texts: int, labels: int) -> None:
        """Add the memory of predictions and their reply; raises ServiceError (Overloaded)."""
        self.add(_PER_SCORE * texts * labels)
