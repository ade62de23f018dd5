"""One worker's model, settings, in-flight count and health."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from inferer.answers.cache import AnswerCache
from inferer.errors import RunError, shown
from inferer.model import ModelInferer
from service.capacity import Capacity
from service.errors import ServiceError
from service.keys import Keys
from service.settings import Settings
from service.telemetry.metrics import Metrics

if TYPE_CHECKING:  # OpenTelemetry is imported only where tracing is on
    from service.telemetry.spans import Tracer


@dataclass
class State:
    """One worker's state.

    routes: path as WSGI has it, with the model's name -> rule. is_draining: set by gunicorn_config.py.
    openapi: the OpenAPI document, once made. tracer: None unless tracing is on.
    """

    settings: Settings
    inferer: ModelInferer
    metrics: Metrics
    routes: dict[str, str] = field(default_factory=dict)
    is_draining: Callable[[], bool] = lambda: False
    last_run_failed: bool = False
    openapi: bytes | None = None
    tracer: Tracer | None = None

    def __post_init__(self) -> None:
        """Open the places for requests, read the keys, and make an empty cache of answers if one is wanted."""
        limits = self.settings
        self.capacity = Capacity(limits.max_in_flight, limits.max_in_flight_bytes, self.metrics.in_flight)
        self.keys = Keys(limits.api_keys)
        size = self.metrics.cache_bytes.set
        self.answer_cache = AnswerCache(limits.cache_bytes, size) if limits.cache_bytes else None

    def unready_because(self) -> str | None:
        """Return the reason why this worker should get no requests, or None.

        After a failed run the first call reports it and probes the model: a worker without requests has no other way
        to show that it has recovered.
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
        """Raise ServiceError (Unhealthy) if this worker should get no requests."""
        reason = self.unready_because()
        if reason is not None:
            raise ServiceError("Unhealthy", reason)

    def check_name(self, name: str) -> None:
        """Raise ServiceError (NotFound) unless `name` is the model's."""
        if name != self.settings.name:
            raise ServiceError("NotFound", f"no model {shown(name)} here; the model is {self.settings.name!r}")


def current_state() -> State:
    """Return the state of the current request's app."""
    state: State = current_app.extensions["inferer"]
    return state
