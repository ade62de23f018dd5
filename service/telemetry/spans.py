"""The spans of requests: OpenTelemetry's SDK, and its OTLP exporter over HTTP. Imported only where tracing is on.

The SDK reads the variables OTEL_*; settings.py has checked those that matter. A request's span begins with its arrival;
the spans of its stages are made after the reply was sent, from the times in its record.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import quote

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SdkTracer

from inferer.version import __version__
from service.request import UNMATCHED, RequestRecord

# How long a worker that stops waits for its last spans; a collector that hangs must not delay it.
_FLUSH_S = 3

# Values of http.request.method by OpenTelemetry's semantic conventions; any other method is "_OTHER".
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))


class _Headers(Getter[dict[str, Any]]):
    """The headers in a WSGI environment."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get(f"HTTP_{key.upper().replace('-', '_')}")
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        return [name.removeprefix("HTTP_").replace("_", "-") for name in carrier if name.startswith("HTTP_")]


_headers = _Headers()


class Trace:
    """One request's part of a trace.

    trace_id: 32 hexadecimal digits, the caller's if it sent one. exemplar: labels for a metric; None unless sampled.
    """

    def __init__(self, tracer: SdkTracer, span: Span, clock_ns: int) -> None:
        """clock_ns: the Unix time at which time.monotonic() was 0."""
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.exemplar = None
        if context.trace_flags.sampled:
            self.exemplar = {"trace_id": self.trace_id, "span_id": f"{context.span_id:016x}"}
        self._tracer = tracer
        self._span = span
        self._clock_ns = clock_ns

    def end(self, record: RequestRecord, environ: dict[str, Any]) -> None:
        """End the request's span, and add those of its stages; the reply has been sent."""
        span, method = self._span, environ["REQUEST_METHOD"]
        if not span.is_recording():
            return
        method = method if method in _METHODS else "_OTHER"
        values: dict[str, Any] = {
            "http.request.method": method,
            "http.response.status_code": record.status,
            "url.path": quote(environ["PATH_INFO"][:200]),
            "url.scheme": environ["wsgi.url_scheme"],
            "inferer.request_id": record.request_id,
        }
        if record.route != UNMATCHED:
            span.update_name(f"{method} {record.route}")
            values["http.route"] = record.route
        if record.rejected is not None:
            values["inferer.rejected"] = record.rejected
        if record.status >= 500:
            span.set_status(StatusCode.ERROR)
            values["error.type"] = str(record.status)
        if record.timings is not None:
            values |= {
                "inferer.texts": len(record.num_tokens),
                "inferer.tokens": sum(record.num_tokens),
                "inferer.truncated": record.truncated,
                "inferer.labels": record.labels,
            }
            if record.cached is not None:
                values["inferer.cached"] = record.cached
            self._add_stages(record)
        span.set_attributes(values)
        span.end()

    def _add_stages(self, record: RequestRecord) -> None:
        timings = record.timings
        if timings is None or not timings.tokenized_from:  # the cache had all answers
            return
        self._add("tokenize", timings.tokenized_from, timings.tokenize_s)
        for run in timings.runs:
            self._add("queue", run.queued, run.started - run.queued)
            self._add("infer", run.started, run.infer_s, {"inferer.run.texts": run.texts, "inferer.run.tokens": run.tokens})

    def _add(self, name: str, started: float, seconds: float, values: dict[str, int] | None = None) -> None:
        start = self._clock_ns + int(started * 1e9)
        parent = set_span_in_context(self._span)
        span = self._tracer.start_span(name, parent, attributes=values, start_time=start)
        span.end(start + int(seconds * 1e9))


class Tracer:
    """Begins the traces of requests, and sends their spans in batches from a thread of its own.

    A collector that is slow or gone costs spans and lines of the log, never a request.
    """

    def __init__(self, model: str) -> None:
        """model: its name, which every span's resource has."""
        ours = Resource.create({"service.name": "inferer", "service.version": __version__, "inferer.model": model})
        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("inferer", __version__)

    def begin(self, record: RequestRecord, environ: dict[str, Any]) -> Trace:
        """Return the trace of a request: the one that its headers name, or a new one."""
        clock_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            environ["REQUEST_METHOD"],
            extract(environ, getter=_headers),
            SpanKind.SERVER,
            start_time=clock_ns + int(record.arrived * 1e9),
        )
        return Trace(self._tracer, span, clock_ns)

    def close(self) -> None:
        """Send the spans that wait, for a few seconds at most."""
        limit = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        limit.start()
        self._provider.shutdown()
        limit.cancel()
