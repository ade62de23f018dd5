"""The buffered connection: when a request is whole, where it ends, and which are cut."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders

from service.process.connection import BodyTooLarge, Connection, Progress

MOST = 100_000
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """Return a connection and its client."""
    ours, theirs = socket.socketpair()
    with Connection(ours, MOST) as connection, theirs:
        yield connection, theirs


def received(pair: tuple[Connection, socket.socket], data: bytes) -> Progress:
    """Send `data` from the client and receive it."""
    connection, client = pair
    client.sendall(data)
    return connection.receive()


@pytest.mark.parametrize(
    ("sent", "has_body"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (HEAD + b"Content-Length: 0\r\n\r\n", False),
        (HEAD + b"content-LENGTH:  5\r\nX-Y: z\r\n\r\nabcde", True),
        (CHUNKED + b"5\r\nabcde\r\n1 ;name=value\r\n\n\r\n0\r\n\r\n", True),
        (CHUNKED + b"a\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n", True),
    ],
)
def test_a_request_is_whole_with_its_last_byte(
    pair: tuple[Connection, socket.socket], sent: bytes, has_body: bool
) -> None:
    """However it is divided, a request is whole exactly when its last byte is there, and the next one stays apart."""
    connection, _ = pair
    for seed in range(20):
        rng = random.Random(seed)
        at = 0
        while at < len(sent) - 1:
            upto = min(at + rng.randint(1, 12), len(sent) - 1)
            assert received(pair, sent[at:upto]) is Progress.INCOMPLETE
            at = upto
        assert received(pair, sent[-1:] + b"GET /next") is Progress.WHOLE
        assert connection.has_body == has_body
        assert b"".join(iter(lambda: connection.recv(7), b"")) == sent
        connection.start_request()
        assert bytes(connection.received) == b"GET /next"
        connection.received.clear()


def test_head_and_body_of_a_reply_leave_together(pair: tuple[Connection, socket.socket]) -> None:
    """The head of a reply waits for the body, or for the end of its request; an interim reply does not wait."""
    connection, client = pair
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    client.setblocking(False)
    connection.sendall(head)
    with pytest.raises(BlockingIOError):
        client.recv(1000)
    connection.sendall(b"body")
    assert client.recv(1000) == head + b"body"
    connection.send_head()
    connection.start_request()
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.start_request()
    connection.sendall(head)
    connection.send_head()
    assert client.recv(1000) == head
    assert connection.has_replied


def test_only_its_announced_end_ends_a_request(pair: tuple[Connection, socket.socket]) -> None:
    """A client that closes has its incomplete request handed over, for the parser to refuse; without one it is gone."""
    connection, client = pair
    assert received(pair, HEAD) is Progress.INCOMPLETE
    client.shutdown(socket.SHUT_WR)
    assert connection.receive() is Progress.WHOLE
    assert connection.recv(1000) == HEAD
    assert connection.recv(1000) == b""
    assert connection.receive() is Progress.CLOSED


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (HEAD + b"Content-Length: 100001\r\n\r\n", None),  # Flask refuses it by its Content-Length
        (HEAD + b"Content-Length: 1, 1\r\n\r\n", None),  # gunicorn's parser refuses the rest
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", None),
        (b"GET / HTTP/1.1\nHost: x\n\n", None),
        (CHUNKED + b"xyz\r\n", None),
        (CHUNKED + b"1_0\r\n", None),
        (b"GET /" + b"a" * 66_000, LimitRequestHeaders),
        (CHUNKED + b"186a1\r\n", BodyTooLarge),
        (CHUNKED + b"1\r\nx\r\n" * 2000, InvalidChunkSize),
        (CHUNKED + b"1;" + b"x" * 2000, InvalidChunkSize),
        (CHUNKED + (b"40;" + b"x" * 1000 + b"\r\n" + b"y" * 64 + b"\r\n") * 200, InvalidChunkSize),
        (CHUNKED + b"5\r\nabcdeXX0\r\n\r\n", None),
        (CHUNKED + b"5;=\r\nabcde\r\n0\r\n\r\n", None),
    ],
)
def test_a_request_that_will_be_refused_is_cut(
    pair: tuple[Connection, socket.socket], sent: bytes, fault: type[Exception] | None
) -> None:
    """A request that is malformed or too large is handed over at once; its end is an error, or the end of its bytes."""
    connection, client = pair
    client.sendall(sent)
    while not connection.is_cut:
        before = len(connection.received)
        connection.receive()
        assert len(connection.received) > before
    while connection.received:
        connection.recv(10_000)
    if fault is None:
        assert connection.recv(1) == b""
    else:
        with pytest.raises(fault):
            connection.recv(1)


def test_large_chunks_pass(pair: tuple[Connection, socket.socket]) -> None:
    """Chunks of a usual size reach the limit of the body without a fault."""
    connection, client = pair
    body = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    client.sendall(CHUNKED + body * 100 + b"0\r\n\r\n")
    while connection.receive() is Progress.INCOMPLETE:
        pass
    assert not connection.is_cut


def test_unread_replies_stay_in_memory_in_order(pair: tuple[Connection, socket.socket]) -> None:
    """A reply larger than the kernel's buffers never blocks, and arrives whole when the client reads."""
    connection, client = pair
    first, second = random.Random(0).randbytes(3_000_000), b"the end"
    connection.sendall(first)
    connection.sendall(second)
    assert 0 < len(connection.unsent) < len(first)
    assert not connection.flush()
    reply = bytearray()
    while len(reply) < len(first) + len(second):
        reply += client.recv(100_000)
        connection.flush()
    assert bytes(reply) == first + second
    assert connection.flush()


def test_100_continue_is_sent_once_and_by_the_loop(pair: tuple[Connection, socket.socket]) -> None:
    """The client gets `100 Continue` when the loop asks for its body; gunicorn's own is ignored."""
    connection, client = pair
    assert received(pair, HEAD + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n") is Progress.INCOMPLETE
    connection.send_continue()
    assert connection.send(b"HTTP/1.1 100 Continue\r\n\r\n") == 25
    connection.sendall(b"done")
    assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\ndone"


def test_a_field_has_the_value_that_the_parser_sees(pair: tuple[Connection, socket.socket]) -> None:
    """Field names match in any case, repeated values are joined, and nothing outside the fields counts."""
    connection, _ = pair
    received(pair, b"POST /?x-api-key: no HTTP/1.1\r\nX-API-KEY:  a \r\nNot-X-Api-Key: b\r\nx-api-key: c\r\n\r\n")
    assert connection.field(b"x-api-key") == "a,c"
    assert connection.field(b"authorization") == ""
