"""The record of one request, for its headers, log line and metrics."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inferer.options import Timings
from inferer.tokens.texts import TextOrPair

# The key of the record in the WSGI environment.
RECORD = "inferer.record"
_SAFE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

UNMATCHED = "unmatched"


class Trace(NamedTuple):
    """One request's part of a trace.

    id: 32 hexadecimal digits, the caller's if it sent one. parent: the caller's span, or 0. state: OpenTelemetry's
    TraceState, or None.
    """

    id: str
    span_id: int
    parent: int
    state: Any
    is_sampled: bool


@dataclass(slots=True)
class RequestRecord:
    """One request. arrived, started: time.monotonic() of its arrival and of its thread's start.

    route: the matching rule, or UNMATCHED; never the path, which would make any number of metrics. rejected: the reason
    of a refusal for load: overloaded, deadline or caller_gone. cached: how many answers came from the cache; None
    without one. labels: the distinct ones of the answers. trace: None unless tracing is on.
    """

    request_id: str
    arrived: float
    started: float
    route: str = UNMATCHED
    status: int = 0
    timings: Timings | None = None
    num_tokens: Sequence[int] = ()
    truncated: int = 0
    abstained: int = 0
    labels: Sequence[str] = ()
    cached: int | None = None
    texts: Sequence[TextOrPair] = field(default=(), repr=False)
    rejected: str | None = None
    trace: Trace | None = field(default=None, repr=False)

    def ids(self) -> dict[str, str]:
        """Return the ids that a line of the log has: the request's, and its trace's."""
        if self.trace is None:
            return {"request_id": self.request_id}
        return {"request_id": self.request_id, "trace_id": self.trace.id}

    def stages(self) -> dict[str, float]:
        """Return the milliseconds of each stage, or nothing if the model did not run."""
        if self.timings is None:
            return {}
        queue_s = self.started - self.arrived + self.timings.queue_s  # for a thread, and for model runs
        seconds = {"queue": queue_s, "tokenize": self.timings.tokenize_s, "infer": self.timings.infer_s}
        return {stage: value * 1000 for stage, value in seconds.items()}


def request_id_of(environ: dict[str, Any]) -> str:
    """Return the caller's id if it is safe to echo and log, else a new one of 128 random bits.

    An id is a name and no secret; the system's random numbers cost 11 µs and the interpreter's lock.
    """
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _SAFE.fullmatch(given) else f"{random.getrandbits(128):032x}"


def record_of(environ: dict[str, Any]) -> RequestRecord:
    """Return the record of a request by its WSGI environment."""
    record: RequestRecord = environ[RECORD]
    return record
