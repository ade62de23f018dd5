"""The spans of requests, for OpenTelemetry's collectors. Imported only where tracing is on.

A request's spans are made after its reply was sent, from the times in its record, as messages of the protocol (OTLP).
OpenTelemetry's own packages read OTEL_*, take part in the caller's trace, sample, and send. Only the SDK's spans are
left out: four of them take 120 µs of CPU from their start to their bytes, as messages they take 10
(benchmarks/tracing.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags, get_current_span

from inferer.version import __version__
from service.request import UNMATCHED, RequestRecord

# How long a worker that stops waits for its last spans; a collector that hangs must not delay it.
_FLUSH_S = 3

# Values of http.request.method by OpenTelemetry's semantic conventions; any other method is "_OTHER".
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))

_SAMPLED = TraceFlags.SAMPLED | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK


class _Headers(Getter[dict[str, Any]]):
    """The headers in a WSGI environment."""

    def get(self, carrier: dict[str, Any], key: str) -> list[str] | None:
        value = carrier.get(f"HTTP_{key.upper().replace('-', '_')}")
        return None if value is None else [value]

    def keys(self, carrier: dict[str, Any]) -> list[str]:
        return [name.removeprefix("HTTP_").replace("_", "-") for name in carrier if name.startswith("HTTP_")]


_headers = _Headers()


class Trace:
    """One request's part of a trace; `trace_id` has 32 hexadecimal digits, the caller's if it sent one."""

    def __init__(self, context: SpanContext, parent: SpanContext) -> None:
        """context: of the request's span. parent: of the caller's, which is invalid if it sent none."""
        self.context = context
        self.trace_id = f"{context.trace_id:032x}"
        self._parent = parent

    @property
    def exemplar(self) -> dict[str, str] | None:
        """Return the labels with which a metric points here; None unless the trace is sampled."""
        if not self.context.trace_flags.sampled:
            return None
        return {"trace_id": self.trace_id, "span_id": f"{self.context.span_id:016x}"}

    def encoded(self, record: RequestRecord, environ: dict[str, Any]) -> bytes:
        """Return the spans of the request and its stages, as the bytes of a `ScopeSpans`."""
        now = time.time_ns()
        clock_ns = now - time.monotonic_ns()
        found = ScopeSpans()
        span = self._add(found, clock_ns + int(record.arrived * 1e9), now)
        span.span_id = self.context.span_id.to_bytes(8)
        span.kind = Span.SPAN_KIND_SERVER
        if self._parent.is_valid:
            span.parent_span_id = self._parent.span_id.to_bytes(8)
            span.flags |= SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
        _describe(span, record, environ)
        timings = record.timings
        if timings is None or not timings.tokenized_from:  # no model, or the cache had all answers
            return _bytes(found)
        stages = [("tokenize", timings.tokenized_from, timings.tokenize_s)]
        for run in timings.runs:
            stages += [("queue", run.queued, run.started - run.queued), ("infer", run.started, run.infer_s)]
        for place, (name, started, seconds) in enumerate(stages):
            start = clock_ns + int(started * 1e9)
            stage = self._add(found, start, start + int(seconds * 1e9))
            stage.name, stage.kind = name, Span.SPAN_KIND_INTERNAL
            stage.span_id, stage.parent_span_id = _ids.generate_span_id().to_bytes(8), span.span_id
            if name == "infer":
                run = timings.runs[place // 2 - 1]
                _set(stage, "inferer.run.texts", run.texts)
                _set(stage, "inferer.run.tokens", run.tokens)
        return _bytes(found)

    def _add(self, found: ScopeSpans, start: int, end: int) -> Span:
        span: Span = found.spans.add(
            trace_id=self.context.trace_id.to_bytes(16),
            trace_state=self.context.trace_state.to_header(),
            start_time_unix_nano=start,
            end_time_unix_nano=end,
            flags=_SAMPLED,
        )
        return span


_ids = RandomIdGenerator()


def _describe(span: Span, record: RequestRecord, environ: dict[str, Any]) -> None:
    """Set the name, status and attributes of a request's span."""
    method = environ["REQUEST_METHOD"]
    method = method if method in _METHODS else "_OTHER"
    span.name = method
    _set(span, "http.request.method", method)
    _set(span, "http.response.status_code", record.status)
    _set(span, "url.path", quote(environ["PATH_INFO"][:200]))
    _set(span, "url.scheme", environ["wsgi.url_scheme"])
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


def _bytes(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


class _Encoded(NamedTuple):
    """The spans of a request in the SDK's queue, which looks at `context` alone."""

    context: SpanContext
    spans: bytes


class _Exporter(OTLPSpanExporter):
    """The SDK's exporter with its endpoint, headers, TLS, compression and retries, for encoded spans."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        scope = InstrumentationScope("inferer", __version__)
        nothing = ReadableSpan("", INVALID_SPAN_CONTEXT, resource=resource, instrumentation_scope=scope)
        self._empty = encode_spans([nothing])
        self._empty.resource_spans[0].scope_spans[0].ClearField("spans")

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send a batch of `_Encoded`."""
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._empty)
        request.resource_spans[0].scope_spans[0].MergeFromString(b"".join(one.spans for one in spans))
        sent = self._client.export(_bytes(request))
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

    def begin(self, environ: dict[str, Any]) -> Trace:
        """Return the trace of a request: the one that its headers name, or a new one."""
        around = extract(environ, getter=_headers)
        parent = get_current_span(around).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else _ids.generate_trace_id()
        sampled = self._sampler.should_sample(around, trace_id, environ["REQUEST_METHOD"], SpanKind.SERVER)
        flags = TraceFlags(TraceFlags.SAMPLED if sampled.decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        context = SpanContext(trace_id, _ids.generate_span_id(), False, flags, sampled.trace_state)
        return Trace(context, parent)

    def end(self, trace: Trace, record: RequestRecord, environ: dict[str, Any]) -> None:
        """Queue the spans of a request whose reply was sent, if its trace is sampled."""
        if trace.context.trace_flags.sampled:
            queued: Any = _Encoded(trace.context, trace.encoded(record, environ))
            self._processor.on_end(queued)

    def close(self) -> None:
        """Send the spans that wait, for a few seconds at most."""
        limit = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        limit.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        limit.cancel()
