"""What one worker holds while it serves: the model, the settings, who is in flight, whether it is well."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import current_app
from flask.sansio.app import App

from inferer.errors import RunError, shown
from inferer.model import ModelInferer
from service.errors import ServiceError
from service.metrics import Metrics
from service.settings import RETRY_AFTER_S, Settings

if TYPE_CHECKING:
    from service.contracts.base import Contract

_EXTENSION = "inferer"


@dataclass
class State:
    """One worker's state. `is_draining` is put in by gunicorn.conf.py, which knows the worker.

    routes: path to rule, with this model's name where a rule has one. contracts: those that share a path, told by keys.
    """

    settings: Settings
    inferer: ModelInferer
    metrics: Metrics
    routes: Mapping[str, str] = field(default_factory=dict)
    contracts: Sequence[Contract[Any]] = ()
    is_draining: Callable[[], bool] = lambda: False
    last_run_failed: bool = False
    openapi: bytes | None = None
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

    def check_ready(self) -> None:
        """Raise ServiceError (Unhealthy) when this worker should get no requests."""
        reason = self.unready_because()
        if reason is not None:
            raise ServiceError("Unhealthy", reason)

    def check_name(self, name: str) -> None:
        """Raise ServiceError (NotFound) when `name` is not the model's."""
        if name != self.settings.name:
            raise ServiceError("NotFound", f"no model {shown(name)} here; the model is {self.settings.name!r}")


def install(app: App, state: State) -> None:
    """Put `state` where `current_state` finds it."""
    app.extensions[_EXTENSION] = state


def state_of(app: App) -> State:
    """Return the state of an app."""
    state: State = app.extensions[_EXTENSION]
    return state


def current_state() -> State:
    """Return the state of the app that answers this request."""
    return state_of(current_app)
