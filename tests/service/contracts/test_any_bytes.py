"""Arbitrary bytes, headers and encodings: no 5xx, and a server that survives."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.server import Server

pytestmark = pytest.mark.slow

PATHS = (
    "/predict", "/", "/explain", "/invocations", "/v1/models/tiny:predict", "/v2/models/tiny/infer",
    "/v2/models/tiny/versions/1/infer",
)  # fmt: skip
TYPES = (
    "application/json", "application/json; charset=utf-16", "application/json; charset=", "text/plain", "text/csv",
    "text/csv; charset=latin-1", "application/octet-stream", "multipart/form-data; boundary=x", "", ";;;", "a/b/c",
)  # fmt: skip
CODINGS = ("utf-8", "utf-16", "utf-32", "latin-1", "utf-7", "utf-8-sig")

_bodies = (
    {"text": "good"}, {"texts": ["good", "bad"]}, {"inputs": "good"}, {"inputs": [["good"]], "parameters": {}},
    {"instances": ["good"]}, {"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": ["good"]}]},
)  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_keys = ("text", "texts", "inputs", "parameters", "instances", "top_k", "truncation", "threshold", "label", "max_parts",
    "truncate", "truncation_direction", "raw_scores", "outputs", "id", "name", "shape", "datatype", "data",
    "function_to_apply",
)  # fmt: skip
_like_ours = st.dictionaries(st.sampled_from(_keys), _json | st.sampled_from(_bodies), max_size=5)


@st.composite
def _body(draw: st.DrawFn) -> bytes:
    """Return bytes: any, or JSON in any encoding, whole or cut off."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    value = draw(st.sampled_from(_bodies) | _like_ours | _json)
    data = json.dumps(value, ensure_ascii=draw(st.booleans())).encode(draw(st.sampled_from(CODINGS)), "replace")
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


_value = st.text(st.characters(min_codepoint=1, max_codepoint=255, blacklist_characters="\r\n"), max_size=40)
_NAMES = (
    "X-Request-Id", "X-Request-Timeout-Ms", "Authorization", "X-API-Key", "Accept", "Accept-Encoding", "Connection",
    "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "If-None-Match", "Range",
    "Inference-Header-Content-Length", "Origin", "Access-Control-Request-Method", "X-Forwarded-For",
    "X-Forwarded-Proto", "Transfer-Encoding", "Upgrade",
)  # fmt: skip
_headers = st.lists(st.tuples(st.sampled_from(_NAMES), _value), max_size=4)


def exchanged(server: Server, request: bytes, *, whole: bool = False) -> bytes:
    """Send `request` and return the reply; close the sending side unless the request is `whole`."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        try:
            client.sendall(request)
            if not whole:
                client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):  # closed in the middle of malformed HTTP
            return b""


def status_of(reply: bytes) -> int:
    """Return the status of a reply, 0 without one."""
    return int(reply[9:12]) if reply.startswith(b"HTTP/1.") else 0


@pytest.fixture(scope="module", autouse=True)
def alive(server: Server) -> Iterator[None]:
    """At the end the same worker serves, and has logged no failure."""
    before = server.process.pid
    yield
    assert server.predict({"text": "good"}).json()["label"] == "pos"
    assert server.process.pid == before
    assert not [line for line in server.logged() if line["level"] in ("error", "critical")]


@settings(max_examples=400)
@given(path=st.sampled_from(PATHS), kind=st.sampled_from(TYPES), body=_body())
def test_any_body_of_any_type(server: Server, path: str, kind: str, body: bytes) -> None:
    """Any body of any type on any path gets a reply that is not a 5xx; a refusal has the JSON error body."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    reply = exchanged(server, request, whole=True)
    assert 200 <= status_of(reply) < 500, reply
    told = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert status_of(reply) == 200 or set(told) == {"error", "error_type", "request_id"}


@settings(max_examples=400)
@given(
    method=st.sampled_from(("GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "QUERY")),
    path=st.sampled_from((*PATHS, "/health", "/info", "/metrics", "/openapi.json", "/page/index.html", "/docs", "/v2"))
    | st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20).map(lambda text: "/" + text),
    headers=_headers,
)
def test_any_headers(server: Server, method: str, path: str, headers: list[tuple[str, str]]) -> None:
    """Any method, path and headers get a closed connection or a reply; the only 5xx is that of a deadline."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    body = b'{"text": "good"}' if method == "POST" else b""
    length = "" if any(name == "Content-Length" for name, _ in headers) else f"Content-Length: {len(body)}\r\n"
    reply = exchanged(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}{length}\r\n".encode("latin-1") + body)
    # A half-closed connection counts as a client that left.
    assert status_of(reply) < 500 or b"DeadlineExceeded" in reply, reply


_begun = st.builds(bytes.__add__, st.just(b"POST /predict HTTP/1.1\r\n"), st.binary(max_size=200))


@settings(max_examples=200)
@given(request=st.binary(max_size=300) | _begun)
def test_any_bytes_at_all(server: Server, request: bytes) -> None:
    """Malformed HTTP gets a 4xx or a closed connection."""
    assert status_of(exchanged(server, request)) < 500
