"""What one worker holds while it serves: the model, the settings, who is in flight, whether it is well."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, current_app

from inferer.errors import RunError
from inferer.model import ModelInferer
from service.errors import ServiceError
from service.metrics import Metrics
from service.settings import RETRY_AFTER_S, Settings

_EXTENSION = "inferer"


@dataclass
class State:
    """One worker's state. `is_draining` is put in by gunicorn.conf.py, which knows the worker.

    routes: the rules without variables, as written.
    """

    settings: Settings
    inferer: ModelInferer
    metrics: Metrics
    routes: frozenset[str] = frozenset()
    is_draining: Callable[[], bool] = lambda: False
    last_run_failed: bool = False
    in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places in flight; raises ServiceError (Overloaded) at once when all are taken."""
        with self._lock:
            if self.is_full():
                raise self.overloaded()
            self.in_flight += 1
        try:
            self.metrics.in_flight.inc()
            yield
        finally:
            with self._lock:
                self.in_flight -= 1
            self.metrics.in_flight.dec()

    def is_full(self) -> bool:
        """Return whether all places are taken."""
        return self.in_flight >= self.settings.max_in_flight

    def overloaded(self) -> ServiceError:
        """Return the error for whoever finds no place."""
        return ServiceError(
            "Overloaded",
            f"{self.settings.max_in_flight} requests are in flight, the most allowed; try again",
            {"Retry-After": str(RETRY_AFTER_S)},
        )

    def unready_because(self) -> str | None:
        """Return why this worker should get no requests, or None when it should.

        After a failed run it says so once, and tries a run of its own: a worker that gets no requests
        for being unready could not show otherwise that it is well again.
        """
        if self.is_draining():
            return "draining: the worker is stopping"
        if not self.last_run_failed:
            return None
        with contextlib.suppress(RunError):
            self.inferer.probe()
            self.last_run_failed = False
        return "the last model run failed; the log has the details"


def install(app: Flask, state: State) -> None:
    """Put `state` where `current_state` finds it."""
    app.extensions[_EXTENSION] = state


def current_state() -> State:
    """Return the state of the app that answers this request."""
    state: State = current_app.extensions[_EXTENSION]
    return state
