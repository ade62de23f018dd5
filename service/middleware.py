"""WSGI middleware around Flask: each request's record, headers, log line and metrics, 429 at capacity, 404 for aliases.

Requests that arrive at capacity are refused before Flask: under overload they are the majority, and their cost is
taken from the requests in flight.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from werkzeug.wsgi import ClosingIterator

from inferer.errors import shown
from service.errors import STATUS, ServiceError, error_response
from service.process import handover
from service.process.handover import MEMORY
from service.request import RECORD, RequestRecord, request_id_of
from service.settings import ALL, OFF
from service.state import State
from service.telemetry.logs import RequestLog

# Browsers must not sniff, frame, run or cache a reply of an API.
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]

# CORS: the headers that pages of INFERER_CORS_ORIGINS may read, and those of the reply to a preflight.
EXPOSED_HEADERS = "Retry-After, Server-Timing, X-Abstained-Texts, X-Request-Id, X-Truncated-Texts"
_PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key, X-Request-Id, X-Request-Timeout-Ms"),
    ("Access-Control-Max-Age", "600"),
]

# A second way to write a route: an encoded slash, letter, digit, "-", "." or "_", or a fragment, before the query.
_ALIAS = re.compile(r"[^?]*?(#|%(2[DEF]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F))", re.IGNORECASE)

_Headers = list[tuple[str, str]]
_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]


class Middleware:
    """The WSGI application that gunicorn calls; `app` is Flask's."""

    def __init__(self, app: _App, state: State) -> None:
        self._app = app
        self._state = state
        self._request_log = RequestLog()
        self._origins = frozenset(state.settings.cors_origins)
        self._monitoring_paths = frozenset(state.settings.machine_paths)

    def __call__(self, environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
        """Reply to one request."""
        arrived, refusal = handover.take()
        record = RequestRecord(request_id_of(environ), arrived, time.monotonic())
        environ[RECORD] = record
        tracer = self._state.tracer
        if tracer is not None and not self._is_probe(environ):
            record.trace = tracer.begin(environ)

        def start(status: str, headers: _Headers, exc_info: Any = None) -> Any:
            record.status = int(status[:3])
            return start_response(status, self._complete(headers, environ, record), exc_info)

        method, requested = environ["REQUEST_METHOD"], environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        if method == "OPTIONS" and requested is not None and self._allowed_origin(environ):
            start("204 No Content", [*_PREFLIGHT])  # a preflight comes without a key
            body: Iterable[bytes] = ()
        elif _is_alias(environ):
            found = (
                f"no route {shown(environ['PATH_INFO'])}: a route has one spelling, without extra slashes or encoding"
            )
            body = error_response(ServiceError("NotFound", found), record.request_id)(environ, start)
        elif refusal is not None:
            record.route = self._state.routes.get(environ["PATH_INFO"], record.route)
            response = error_response(self._state.capacity.overloaded(memory=refusal == MEMORY), record.request_id)
            response.status = "429 Too Many Requests"
            body = response(environ, start)
        else:
            body = self._app(environ, start)
        return ClosingIterator(body, lambda: self._finish(environ, record))

    def unseen(self, error_type: str, message: str) -> tuple[_Headers, bytes]:
        """Return headers and body of the error reply to a request that the application does not see."""
        record = RequestRecord(request_id_of({}), 0.0, 0.0)
        response = error_response(ServiceError(error_type, message), record.request_id)
        return self._complete(response.headers.to_wsgi_list(), {}, record), response.get_data()

    def _complete(self, headers: _Headers, environ: dict[str, Any], record: RequestRecord) -> _Headers:
        """Return `headers` with those of every reply added."""
        given = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in SECURITY_HEADERS if name.lower() not in given]
        headers += self._cors_headers(environ)
        headers.append(("X-Request-Id", record.request_id))
        if stages := record.stages():
            timings = [f"{stage};dur={milliseconds:.3f}" for stage, milliseconds in stages.items()]
            if record.cached:
                timings.append(f'cache;desc="{record.cached} of {len(record.num_tokens)}"')
            headers.append(("Server-Timing", ", ".join(timings)))
        # Some contracts have no field for these.
        if record.truncated:
            headers.append(("X-Truncated-Texts", str(record.truncated)))
        if record.abstained:
            headers.append(("X-Abstained-Texts", str(record.abstained)))
        return headers

    def _allowed_origin(self, environ: dict[str, Any]) -> str | None:
        """Return the value of Access-Control-Allow-Origin for the request; None if its origin is not allowed."""
        if self._origins == {"*"}:
            return "*"
        origin = environ.get("HTTP_ORIGIN")
        return origin if origin in self._origins else None

    def _cors_headers(self, environ: dict[str, Any]) -> _Headers:
        """Return the headers of every reply by the CORS protocol of the Fetch standard."""
        origin = self._allowed_origin(environ)
        headers = [("Vary", "Origin")] if self._origins and origin != "*" else []
        if origin is not None:
            headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED_HEADERS)]
        return headers

    def _is_probe(self, environ: dict[str, Any]) -> bool:
        return environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"] in self._monitoring_paths

    def _is_logged(self, environ: dict[str, Any], record: RequestRecord) -> bool:
        which = self._state.settings.access_log
        if record.status >= 400:
            return which != OFF
        return which == ALL and not self._is_probe(environ)

    def _finish(self, environ: dict[str, Any], record: RequestRecord) -> None:
        """Count, log and trace the request, after its reply was sent."""
        seconds = time.monotonic() - record.arrived
        if record.status == STATUS["Overloaded"]:  # refused here, or by `Capacity.memory`
            record.rejected = "overloaded"
        self._state.metrics.count_request(record, seconds)
        if self._is_logged(environ, record):
            self._log(environ, record, seconds)
        if self._state.tracer is not None and record.trace is not None:
            self._state.tracer.end(record.trace, record, environ)

    def _log(self, environ: dict[str, Any], record: RequestRecord, seconds: float) -> None:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        values: dict[str, Any] = {
            **record.ids(),
            "method": method,
            "route": record.route,
            "status": record.status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if record.rejected is not None:
            values["rejected"] = record.rejected
        if stages := record.stages():
            values |= {f"{stage}_ms": round(milliseconds, 3) for stage, milliseconds in stages.items()}
            tokens = record.num_tokens
            values |= {"texts": len(tokens), "tokens": sum(tokens), "truncated": record.truncated}
            if record.cached is not None:
                values["cached"] = record.cached
        if self._state.settings.log_texts:
            values["input"] = list(record.texts)
        took = f"{record.status} in {seconds * 1000:.1f} ms"
        self._request_log.write(f"{method} {quote(path[:200])} {took}, id {record.request_id}", values)


def _is_alias(environ: dict[str, Any]) -> bool:
    """Return whether the path is written in a way that a proxy's rule on a route's path would not match.

    Werkzeug strips slashes, and gunicorn decodes and drops fragments.
    """
    target = environ.get("RAW_URI", "")
    return environ["PATH_INFO"].startswith("//") or bool(("%" in target or "#" in target) and _ALIAS.match(target))
