"""A receiver of spans on loopback: OTLP over HTTP, decoded by the protocol's own messages."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector:
    """What was received so far. url: for OTEL_EXPORTER_OTLP_ENDPOINT. requests: path, headers and body of each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def groups(self) -> list[ResourceSpans]:
        """Return the spans of every process that sent some, decoded only now: a benchmark's load runs meanwhile."""
        return [
            group
            for _, _, body in list(self.requests)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
        ]

    @property
    def traces(self) -> dict[str, list[Span]]:
        """Return the spans by trace."""
        found = defaultdict(list)
        for group in self.groups:
            for scope in group.scope_spans:
                for span in scope.spans:
                    found[span.trace_id.hex()].append(span)
        return found


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
                found.requests.append((self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *_: Any) -> None:
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
