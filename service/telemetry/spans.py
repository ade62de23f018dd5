"""The spans of requests, for OpenTelemetry's collectors. Imported only where tracing is on.

OpenTelemetry's packages read OTEL_*, take part in the caller's trace, sample, queue and send. Only the SDK's spans are
left out, for their cost (docs/log.md): the thread that sends makes the protocol's messages from the times of requests
that have their replies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, get_global_textmap
from opentelemetry.propagators.textmap import Getter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
)

from inferer.version import __version__
from service.request import UNMATCHED, RequestRecord, Trace

# How long a worker that stops waits for its last spans; a collector that hangs must not delay it.
_FLUSH_S = 3

# Values of http.request.method by OpenTelemetry's semantic conventions; any other method is "_OTHER".
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))

_SAMPLED = TraceFlags.SAMPLED | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK


class _Headers(Getter[dict[str, Any]]):
    """The headers in a WSGI environment."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get(_wsgi(key))
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        return [name.removeprefix("HTTP_").replace("_", "-") for name in carrier if name.startswith("HTTP_")]


def _wsgi(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


_headers = _Headers()
_ids = RandomIdGenerator()


# The SDK's queue looks at the flag alone.
_IN_QUEUE = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class _Finished(NamedTuple):
    """A request that has its reply. ended: time.monotonic(); clock_ns: the Unix time at which that was 0."""

    trace: Trace
    record: RequestRecord
    ended: float
    clock_ns: int
    method: str
    path: str
    scheme: str
    context: SpanContext = _IN_QUEUE

    def add_to(self, found: ScopeSpans) -> None:
        """Add the spans of the request and its stages."""
        span = self._span(found, self.record.arrived, self.ended - self.record.arrived)
        span.span_id = self.trace.span_id.to_bytes(8)
        span.kind = Span.SPAN_KIND_SERVER
        if self.trace.parent:
            span.parent_span_id = self.trace.parent.to_bytes(8)
            span.flags |= SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
        self._describe(span)
        timings = self.record.timings
        if timings is None or not timings.tokenized_from:  # no model, or the cache had all answers
            return
        self._stage(found, "tokenize", timings.tokenized_from, timings.tokenize_s)
        for run in timings.runs:
            self._stage(found, "queue", run.queued, run.started - run.queued)
            stage = self._stage(found, "infer", run.started, run.infer_s)
            _set(stage, "inferer.run.texts", run.texts)
            _set(stage, "inferer.run.tokens", run.tokens)

    def _stage(self, found: ScopeSpans, name: str, started: float, seconds: float) -> Span:
        span = self._span(found, started, seconds)
        span.name, span.kind = name, Span.SPAN_KIND_INTERNAL
        span.span_id, span.parent_span_id = _ids.generate_span_id().to_bytes(8), self.trace.span_id.to_bytes(8)
        return span

    def _span(self, found: ScopeSpans, started: float, seconds: float) -> Span:
        start = self.clock_ns + int(started * 1e9)
        span: Span = found.spans.add(
            trace_id=bytes.fromhex(self.trace.id),
            trace_state=self.trace.state.to_header() if self.trace.state else "",
            start_time_unix_nano=start,
            end_time_unix_nano=start + int(seconds * 1e9),
            flags=_SAMPLED,
        )
        return span

    def _describe(self, span: Span) -> None:
        record = self.record
        method = self.method if self.method in _METHODS else "_OTHER"
        span.name = method
        _set(span, "http.request.method", method)
        _set(span, "http.response.status_code", record.status)
        _set(span, "url.path", quote(self.path[:200]))
        _set(span, "url.scheme", self.scheme)
        _set(span, "inferer.request_id", record.request_id)
        if record.route != UNMATCHED:
            span.name = f"{method} {record.route}"
            _set(span, "http.route", record.route)
        if record.rejected is not None:
            _set(span, "inferer.rejected", record.rejected)
        if record.status >= 500:
            span.status.code = Status.STATUS_CODE_ERROR
            _set(span, "error.type", str(record.status))
        if record.timings is None:
            return
        _set(span, "inferer.texts", len(record.num_tokens))
        _set(span, "inferer.tokens", sum(record.num_tokens))
        _set(span, "inferer.truncated", record.truncated)
        labels = span.attributes.add(key="inferer.labels").value.array_value.values
        for label in record.labels:
            labels.add(string_value=label)
        if record.cached is not None:
            _set(span, "inferer.cached", record.cached)


def _set(span: Span, key: str, value: str | int) -> None:
    found = span.attributes.add(key=key).value
    if isinstance(value, str):
        found.string_value = value
    else:
        found.int_value = value


class _Exporter(OTLPSpanExporter):
    """The SDK's exporter with its endpoint, headers, TLS, compression and retries."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        scope = InstrumentationScope("inferer", __version__)
        nothing = ReadableSpan("", INVALID_SPAN_CONTEXT, resource=resource, instrumentation_scope=scope)
        self._empty = encode_spans([nothing])
        self._empty.resource_spans[0].scope_spans[0].ClearField("spans")

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send the spans of a batch of `_Finished`."""
        message = ExportTraceServiceRequest()
        message.CopyFrom(self._empty)
        found = message.resource_spans[0].scope_spans[0]
        for request in spans:
            request.add_to(found)
        sent = self._client.export(message.SerializeToString())
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


class Tracer:
    """Begins the traces of requests, and sends their spans in batches from a thread of its own.

    A collector that is slow or gone costs spans and lines of the log, never a request.
    """

    def __init__(self, model: str) -> None:
        """model: its name, which the resource of every span has."""
        ours = Resource.create({"service.name": "inferer", "service.version": __version__, "inferer.model": model})
        resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._exporter = _Exporter(resource)
        self._processor = BatchSpanProcessor(self._exporter)
        self._fields = tuple(map(_wsgi, get_global_textmap().fields))

    def begin(self, environ: dict[str, Any]) -> Trace:
        """Return the trace of a request: the one that its headers name, or a new one."""
        around = extract(environ, getter=_headers) if any(map(environ.__contains__, self._fields)) else Context()
        parent = get_current_span(around).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else _ids.generate_trace_id()
        found = self._sampler.should_sample(around, trace_id, environ["REQUEST_METHOD"], SpanKind.SERVER)
        is_sampled = found.decision is Decision.RECORD_AND_SAMPLE
        return Trace(f"{trace_id:032x}", _ids.generate_span_id(), parent.span_id, found.trace_state, is_sampled)

    def end(self, trace: Trace, record: RequestRecord, environ: dict[str, Any]) -> None:
        """Queue a request that has its reply, if its trace is sampled; `record` loses its texts."""
        if trace.is_sampled:
            record.texts = ()
            now, unix = time.monotonic(), time.time_ns()
            route = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["wsgi.url_scheme"]
            queued: Any = _Finished(trace, record, now, unix - int(now * 1e9), *route)
            self._processor.on_end(queued)

    def close(self) -> None:
        """Send the spans that wait, for a few seconds at most."""
        limit = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        limit.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        limit.cancel()
