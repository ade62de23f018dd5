"""A receiver of spans on loopback: OTLP over HTTP, decoded by the protocol's own messages."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """The spans received so far, by trace and in the order of arrival.

    url: for OTEL_EXPORTER_OTLP_ENDPOINT. resources: the attributes of those that sent spans. paths, headers: of the
    requests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.traces: dict[str, list[Span]] = defaultdict(list)
        self.resources: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def add(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Keep the spans of one request."""
        with self._lock:
            self.paths.add(path)
            self.headers.append(headers)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(group.resource))
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self.traces[span.trace_id.hex()].append(span)

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """Return the spans of one trace, or all."""
        with self._lock:
            if trace_id is not None:
                return list(self.traces.get(trace_id, []))
            return [span for spans in self.traces.values() for span in spans]


def attributes(owner: Any) -> dict[str, Any]:
    """Return the attributes of a span or resource as Python values."""
    return {one.key: _value(one.value) for one in owner.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """Run a receiver that answers every request with `status`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if status == 200:
                found.add(self.path, dict(self.headers), body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
