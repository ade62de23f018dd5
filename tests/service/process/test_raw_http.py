"""The look at a request that saves a refusal gunicorn's parser: it must never see another request than the parser."""

from __future__ import annotations

import contextlib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.process.raw_http import Simple, simple_request
from tests.support.apps import HeldApp, comes_to
from tests.support.load import Plan, run_in_child
from tests.support.server import raw, run_to_end, serving, whole

POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

_LINES = (
    b"POST /predict HTTP/1.1",
    b"POST /predict?a=b HTTP/1.1",
    b"POST /a%20b/%ff HTTP/1.1",
    b"GET /health HTTP/1.0",
    b"POST http://h/predict HTTP/1.1",
    b"POST //predict HTTP/1.1",
    b"POST /#a HTTP/1.1",
    b"POST  /predict HTTP/1.1",
    b"post /predict HTTP/1.1",
    b"POST /predict HTTP/2.0",
    b"POST /predict",
)
_HEADERS = (
    b"Host: x",
    b"Content-Length: 5",
    b"content-length:5",
    b"Content-Length: 5, 5",
    b"Content-Length: 05",
    b"Content-Length: +5",
    b"Content-Length : 5",
    b"Content-Length: ",
    b"Content-Length: 5\t",
    b"Content-Length: 99",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: identity",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, upgrade",
    b"X-Request-Id: abc",
    b" folded",
    b"\tfolded: 1",
    b"no colon",
    b"X_Y: 1",
    b"Bad\x00: 1",
    b"X: \x00",
    b"X: a\nContent-Length: 3",
    b"X: a\rContent-Length: 3",
    b"\xc3\xa9: 1",
    b"X: \xc3\xa9",
    b": 1",
    b"Expect: 100-continue",
)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from((b"\r\n",) * 5 + (b"\n",)))
    headers = st.sampled_from(draw(st.sampled_from((_HEADERS, _HEADERS[:3], (b"Host: x", *_HEADERS[12:])))))
    lines = [draw(st.sampled_from(_LINES[:4] * 4 + _LINES)), *draw(st.lists(headers, max_size=3, unique=True))]
    data = bytearray(end.join(lines) + end + end + draw(st.sampled_from((b"12345POST / HTTP", b"12345", b"12", b""))))
    changes = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=2)
    for place, value in draw(st.one_of(st.just([]), changes)):
        data[place] = value
    return bytes(data)


def _by_gunicorn(data: bytes) -> tuple[str, str, int | None] | None:
    """Return method, path and the size of the body that gunicorn reads; None where it refuses, or wants more."""
    try:
        request = Request(Config(), IterUnreader(iter([data])), ("127.0.0.1", 1))
        body = request.body.read()
    except (ParseException, StopIteration, OSError):
        return None
    return request.method, request.path, len(body)


@settings(max_examples=1500, deadline=None)
@given(_requests())
@example(POST + b"Content-Length: 2\r\n\r\n{}")
@example(b"GET /health HTTP/1.0\r\n\r\n")
def test_what_is_simple_is_what_gunicorn_reads(data: bytes) -> None:
    """A request that is taken for simple has the method, the path and the length that gunicorn's parser finds."""
    request = simple_request(data)
    if request is None:
        return
    end = data.index(b"\r\n\r\n") + 4
    assert _by_gunicorn(data[: request.size]) == (
        request.environ["REQUEST_METHOD"],
        data.split(b" ")[1].split(b"?")[0].decode("latin-1"),
        request.size - end,
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (POST + b"Content-Length: 2\r\n\r\n{}next", (len(POST) + 23, True)),
        (POST + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}", (len(POST) + 42, False)),
        (b"GET /health HTTP/1.0\r\n\r\n", (24, False)),
        (POST + b"Content-Length: 3\r\n\r\n{}", None),
        (POST + b"Content-Length: 2\r\n", None),
        (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", None),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        (POST + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\n{}", None),
        (POST + b"Content-Length : 2\r\n\r\n{}", None),
        (b"", None),
    ],
)
def test_what_is_simple(data: bytes, expected: tuple[int, bool] | None) -> None:
    """A whole request of one clear length is simple, and its connection kept as HTTP says; no other is."""
    request = simple_request(data)
    assert (None if request is None else (request.size, request.keep)) == expected


# In a process of its own, which can be ended: a pattern that hangs holds Python's lock.
_BLANKS = """
from service.process.raw_http import simple_request

n = 1_000_000  # far more than a request may have
for sent in (b"X: a" + b" " * n + b"b", b"X: " + b"\\t " * n, b"X" * n + b": 1"):
    for end, read in ((b"\\r\\n\\r\\n", True), (b"", False)):
        assert (simple_request(b"GET /health HTTP/1.1\\r\\n" + sent + end) is not None) is read
"""


def test_blanks_in_a_value_hang_nothing() -> None:
    """A header with a million blanks is read, where a pattern that tries all their divisions would take hours."""
    assert run_to_end(sys.executable, "-c", _BLANKS, timeout_s=120).returncode == 0


def test_what_a_refusal_needs_is_read() -> None:
    """The path is decoded as WSGI has it; the id and the origin are found whatever the case of their names."""
    request = simple_request(b"POST /a%20b?c HTTP/1.1\r\nHost: x\r\nx-request-ID:  abc \r\nORIGIN: http://o\r\n\r\n")
    assert isinstance(request, Simple)
    assert request.environ == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/a b",
        "HTTP_X_REQUEST_ID": "abc",
        "HTTP_ORIGIN": "http://o",
    }


def test_a_refused_connection_can_be_used_again(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """After 429 the same connection is answered: by 429, also when two requests come at once, then by a prediction."""
    body = b'{"text": "bad"}'
    asked = POST + b"Content-Length: 15\r\nX-Request-Id: mine\r\n\r\n" + body
    env = {"INFERER_MAX_IN_FLIGHT": "1", "INFERER_CORS_ORIGINS": "http://o"}
    with (
        serving(shared_bundle, tmp_path / "log", held.name, **env) as server,
        ThreadPoolExecutor(1) as pool,
        contextlib.ExitStack() as stack,
    ):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
        with held.held():
            busy = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            client.sendall(asked + asked)
            replies = b""
            while replies.count(b'"request_id":"mine"}') < 2:
                replies += client.recv(10_000)
            first = replies.partition(b"\r\n\r\n")[0].split(b"\r\n")
            assert first[0] == b"HTTP/1.1 429 Too Many Requests"
            assert {b"Connection: keep-alive", b"Retry-After: 1", b"X-Request-Id: mine", b"Vary: Origin"} < set(first)
            assert b"X-Content-Type-Options: nosniff" in first
        assert busy.result().status == 200
        comes_to(server, 0, "inferer_in_flight_requests")
        client.sendall(asked)
        assert b'"label":"neg"' in whole(client)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /predict HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_every_kind_of_request_is_refused(shared_bundle: Path, held: HeldApp, tmp_path: Path, sent: bytes) -> None:
    """HTTP/1.0, a connection that is not kept and a chunked body get the same 429, and the end of the connection."""
    env = {"INFERER_MAX_IN_FLIGHT": "1"}
    with serving(shared_bundle, tmp_path / "log", held.name, **env) as server, ThreadPoolExecutor(1) as pool:
        with held.held():
            busy = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            with socket.create_connection(("127.0.0.1", server.port), 20) as client:
                client.sendall(sent)
                reply = b"".join(iter(lambda: client.recv(10_000), b""))
            assert reply.startswith(b"HTTP/1.1 429")
            assert b"connection: close" in reply.lower()
            assert b'"error_type":"Overloaded"' in reply
        assert busy.result().status == 200
        comes_to(server, 1, "inferer_rejected_total", reason="overloaded")


def test_refusals_are_paced(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """Clients that ask again at once are all refused, and not more than 500 times a second after the first 500."""
    env = {"INFERER_MAX_IN_FLIGHT": "1"}
    with serving(shared_bundle, tmp_path / "log", held.name, **env) as server, ThreadPoolExecutor(1) as pool:
        with held.held():
            busy = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            result = run_in_child(Plan(server.port, 40, 4, [b"{}"], warm_up_s=0))
        assert set(result.statuses) == {429}
        assert 40 <= result.statuses[429] <= 500 + 500 * 5
        assert (result.resets, result.unanswered) == (0, 0)
        assert busy.result().status == 200


def test_a_client_that_leaves_while_it_is_refused_harms_nobody(
    shared_bundle: Path, held: HeldApp, tmp_path: Path
) -> None:
    """Clients that send a request and are gone before its refusal leave the server as it was."""
    env = {"INFERER_MAX_IN_FLIGHT": "1"}
    with serving(shared_bundle, tmp_path / "log", held.name, **env) as server, ThreadPoolExecutor(1) as pool:
        with held.held():
            busy = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            for _ in range(20):
                raw(server, b"{}").close()
            assert server.predict({"text": "good"}).status == 429
        assert busy.result().status == 200
        assert server.predict({"text": "good"}).status == 200
