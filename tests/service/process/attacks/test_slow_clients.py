"""Clients without a key, slow or malicious, on a real gunicorn: they hold no thread, no place and little memory.

docs/run.md promises each row of its table of faults by a test of this file, small here and in full size in `make soak`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.process.client import PATIENCE_S
from tests.support.apps import HeldApp, comes_to, metric, until
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, raw, serving, whole, workers

FULL = os.environ.get("SOAK") == "1"
KEY = "a-key-of-some-length"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"text": "good"}'
BIG_PAGE = b"GET /page/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"  # 1.5 MB, without a key


class Attack:
    """Connections to a server, in a thread; `start` opens them, `go_on` is called until the block ends."""

    every_s = 0.05

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sockets: list[socket.socket] = []

    def connect(self, sent: bytes, receive_buffer: int | None = None) -> socket.socket | None:
        """Open a connection and send; return it, or None if the server ends it."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(5)
        self._sockets.append(client)
        with contextlib.suppress(OSError):
            client.connect(("127.0.0.1", self._server.port))
            client.sendall(sent)
            return client
        return None

    def start(self) -> None:
        """Open connections."""

    def go_on(self) -> None:
        """Open or use more."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the attack during the block."""
        ends = threading.Event()

        def run() -> None:
            self.start()
            while not ends.wait(self.every_s):
                self.go_on()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
            for client in self._sockets:
                client.close()


class HalfRequests(Attack):
    """80 heads or bodies that stop halfway."""

    def start(self) -> None:
        """Send the halves."""
        for number in range(80):
            self.connect(HEAD[:40] if number % 2 else HEAD + b"Content-Length: 30\r\n\r\n" + BODY)


class HeadsWithoutBody(Attack):
    """15 heads per second whose bodies never come."""

    every_s = 1 / 15

    def go_on(self) -> None:
        """Send one more."""
        self.connect(HEAD + b"Content-Length: 3000\r\n\r\n")


class Malformed(Attack):
    """45 malformed requests per second by clients that keep their side open."""

    every_s = 1 / 45

    def go_on(self) -> None:
        """Send one more."""
        self.connect(b"GARBAGE\r\n\r\n")


class UnreadReplies(Attack):
    """80 clients that request 1.5 MB several times and read nothing."""

    def start(self) -> None:
        """Send the requests."""
        for _ in range(80):
            self.connect(BIG_PAGE * 4, receive_buffer=2048)


class UnreadMetrics(Attack):
    """Five clients that request /metrics many times and read nothing."""

    def start(self) -> None:
        """Send the requests."""
        for _ in range(5):
            self.connect(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n\r\n" % KEY.encode() * 300, 2048)


class Trickle(Attack):
    """One byte per second on each of 200 connections."""

    every_s = 1

    def start(self) -> None:
        """Open the connections."""
        self._at = 0
        self._slow = [self.connect(b"P") for _ in range(200)]

    def go_on(self) -> None:
        """Send one more byte on each."""
        self._at += 1
        for number, client in enumerate(self._slow):
            try:
                assert client is not None
                client.sendall((HEAD * 9)[self._at : self._at + 1])
            except (OSError, AssertionError):  # the server has closed it
                self._slow[number] = self.connect(b"P")


class StalledBodies(Attack):
    """40 bodies of almost 2 MB that stop before their end; without keys anybody can send them."""

    def start(self) -> None:
        """Send all but the last bytes."""
        for _ in range(40):
            self.connect(HEAD + b"Content-Length: 1990000\r\n\r\n" + b" " * 1_900_000)


class WholeWithoutKey(Attack):
    """Whole predictions without a key, 100 at once every two seconds."""

    every_s = 2

    def start(self) -> None:
        """Open the connections."""
        self._open = [self.connect(b"") for _ in range(100)]

    def go_on(self) -> None:
        """Send a request on each."""
        for client in self._open:
            with contextlib.suppress(OSError, AttributeError):
                client.sendall(HEAD + b"Content-Length: 16\r\n\r\n" + BODY)


def load(server: Server, seconds: float) -> Result:
    """Return the requests of eight clients with a key, and health checks on connections of their own."""
    bodies = [json.dumps({"text": text}).encode() for text in ("good", "bad odd", "plain good bad")]
    plan = Plan(
        server.port, 8, seconds, bodies, headers={"X-API-Key": KEY}, probe_path="/health/live", probe_every_s=0.05,
        probe_new_connection=True, warm_up_s=0.5,
    )  # fmt: skip
    return run_in_child(plan)


@pytest.mark.parametrize(
    "attack",
    [HalfRequests, HeadsWithoutBody, Malformed, UnreadReplies, UnreadMetrics, Trickle, WholeWithoutKey],
    ids=lambda one: one.__name__,
)
def test_clients_without_a_key_cannot_shut_others_out(
    shared_bundle: Path, tmp_path: Path, attack: type[Attack]
) -> None:
    """During the attack every request with a key gets 200, in at least 90 % of the number, and health checks pass.

    The small test leaves time for noise: the old worker served none of these requests, or a few per cent.
    """
    with serving(shared_bundle, tmp_path / "log", INFERER_API_KEYS=KEY) as server:
        seconds = 10 if FULL else 2
        before = load(server, seconds)
        with attack(server).running():
            time.sleep(1)
            during = load(server, seconds)
        after = load(server, seconds)
        for result in (before, during, after):
            assert set(result.statuses) == {200}
            assert set(result.probe_statuses) == {200}
            assert result.resets == result.cut_short == result.unanswered == result.probe_lost == 0
        usual = (before.throughput() + after.throughput()) / 2
        assert during.throughput() > (0.9 if FULL else 0.5) * usual
        assert sorted(during.probe_ms)[int(len(during.probe_ms) * 0.99)] < (200 if FULL else 500)
        until(lambda: b"inferer_in_flight_requests 0.0" in server.request("GET", "/metrics", x_api_key=KEY).body)


def connected(server: Server, timeout_s: float = 5) -> socket.socket:
    """Return a new connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout_s)


def test_a_reset_ends_its_own_connection_alone(shared_bundle: Path, tmp_path: Path) -> None:
    """A client that resets before it gets `100 Continue`, which is sent by the loop, leaves the worker as it was."""
    with serving(shared_bundle, tmp_path / "log") as server:
        (worker,) = workers(server)
        for _ in range(5):
            os.kill(worker, signal.SIGSTOP)  # so that head and reset are there at once
            clients = [connected(server) for _ in range(10)]
            for client in clients:
                client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 16\r\n\r\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            os.kill(worker, signal.SIGCONT)
            assert server.predict({"text": "good"}).status == 200
        assert workers(server) == [worker]


def test_stalled_bodies_are_refused_and_small_requests_are_not(shared_bundle: Path, tmp_path: Path) -> None:
    """Incomplete bodies beyond the memory of all requests get 429, the longest-waiting first; others go on."""
    with serving(shared_bundle, tmp_path / "log") as server, StalledBodies(server).running():
        until(lambda: metric(server, "inferer_rejected_total", reason="overloaded") >= 5)
        for _ in range(20):
            with raw(server, BODY[:5], length=16) as client:  # a head whose body comes later
                time.sleep(0.02)
                client.sendall(BODY[5:])
                assert b'"label":"pos"' in whole(client)


def test_an_empty_line_before_a_request_evades_no_cap(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """A request after an empty line, which HTTP allows, counts like any other."""
    settings = {"INFERER_MAX_IN_FLIGHT": "1"}
    request = b"\r\n" + HEAD + b"Content-Length: 16\r\n\r\n" + BODY
    with serving(shared_bundle, tmp_path / "log", held.name, **settings) as server, ThreadPoolExecutor(1) as pool:
        with held.held(), connected(server) as client:
            running = pool.submit(server.predict, {"text": "good"})
            until(lambda: held.runs == [1])
            client.sendall(request)
            assert whole(client).startswith(b"HTTP/1.1 429 ")
        assert running.result().status == 200

        def served() -> bool:
            with connected(server) as client:
                client.sendall(request + b"\r\n" + request)
                return whole(client).startswith(b"HTTP/1.1 200 ")

        until(served)  # a request gives its place back just after its reply


def test_a_malformed_body_that_nobody_reads_gets_one_reply(shared_bundle: Path, tmp_path: Path) -> None:
    """A body with a fault in its chunks, sent to a route that reads none, gets that route's reply and no second one."""
    for body in (b"5\r\nabcdeXX0\r\n\r\n", b"1\r\nx\r\n0\r\nTrailer without colon\r\n\r\n"):
        with serving(shared_bundle, tmp_path / "log") as server, connected(server) as client:
            client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            reply = b"".join(iter(lambda c=client: c.recv(10_000), b""))
            assert reply.startswith(b"HTTP/1.1 404 ")
            assert reply.count(b"HTTP/1.1 ") == 1


def test_408_for_a_request_that_does_not_arrive_in_time(shared_bundle: Path, tmp_path: Path) -> None:
    """Half a head and half a body get 408 after 10 s, an unread reply is dropped; a slow body is served after 12 s."""
    slow = BODY + b" " * 400_000
    with (
        serving(shared_bundle, tmp_path / "log") as server,
        ThreadPoolExecutor(1) as pool,
        raw(server, BODY[:5], length=16) as body,
        raw(server, b"", length=len(slow)) as upload,
        connected(server, 20) as head,
        socket.socket() as reader,
    ):
        head.sendall(HEAD[:30])
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        reader.connect(("127.0.0.1", server.port))
        reader.sendall(BIG_PAGE)
        started = time.monotonic()
        uploaded = pool.submit(send_slowly, upload, slow, bytes_per_s=33_000)
        for client in (body, head):
            reply = whole(client)
            assert PATIENCE_S - 1 < time.monotonic() - started < PATIENCE_S + 2
            assert reply.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"Connection: close\r\n" in reply
            error = json.loads(reply.partition(b"\r\n\r\n")[2])
            assert error["error_type"] == "RequestTimeout"
            assert f"not arrived whole within {PATIENCE_S} s" in error["error"]
            assert client.recv(1) == b""
        comes_to(server, 2, "inferer_rejected_total", reason="slow_sender")
        comes_to(server, 1, "inferer_rejected_total", reason="slow_reader")
        assert metric(server, "inferer_rejected_total", reason="overloaded") == 0
        uploaded.result()
        assert time.monotonic() - started > PATIENCE_S + 1
        assert b'"label":"pos"' in whole(upload)


def send_slowly(client: socket.socket, data: bytes, *, bytes_per_s: int) -> None:
    """Send `data` at a rate."""
    part = bytes_per_s // 10
    for at in range(0, len(data), part):
        client.sendall(data[at : at + part])
        time.sleep(0.1)


@pytest.mark.parametrize("key", [None, "a wrong one", KEY])
def test_a_key_is_checked_before_the_body_arrives(shared_bundle: Path, tmp_path: Path, key: str | None) -> None:
    """Without a valid key a request gets 401 at once while its body is still to come; with it the service waits."""
    head = HEAD + (f"X-API-Key: {key}\r\n".encode() if key else b"") + b"Content-Length: 16\r\n\r\n"
    with serving(shared_bundle, tmp_path / "log", INFERER_API_KEYS=KEY) as server, connected(server, 2) as client:
        client.sendall(head)
        if key == KEY:
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.sendall(BODY)
            assert b'"label":"pos"' in whole(client)
        else:
            reply = whole(client)
            assert reply.startswith(b"HTTP/1.1 401 ")
            assert b"Connection: close\r\n" in reply
            # The rest must not be taken for a request.
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000) == b""


def test_a_body_that_is_too_large_is_refused_before_it_arrives(shared_bundle: Path, tmp_path: Path) -> None:
    """413 comes at once for a Content-Length over the limit, and for chunks as soon as they exceed it."""
    with serving(shared_bundle, tmp_path / "log", INFERER_MAX_BODY_BYTES="1000") as server:
        for sent in (b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"):
            with connected(server) as client:
                client.sendall(HEAD + sent)
                reply = whole(client)
                assert reply.startswith(b"HTTP/1.1 413 ")
                assert b"Connection: close\r\n" in reply
        with connected(server) as client:
            client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1000 + b"0\r\n\r\n")
            assert whole(client).startswith(b"HTTP/1.1 400 ")


def test_many_tiny_chunks_are_refused(shared_bundle: Path, tmp_path: Path) -> None:
    """2 MB in chunks of one byte, which gunicorn's parser takes seconds for, end with 400 long before."""
    with serving(shared_bundle, tmp_path / "log") as server, connected(server) as client:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 2_000_000)
        reply = whole(client)
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"chunks are malformed" in reply
        assert time.monotonic() - started < 3


def test_100_continue_comes_before_the_body(shared_bundle: Path, tmp_path: Path) -> None:
    """A client that waits for `100 Continue` gets it once and then its reply; without a key it gets 401 instead."""
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 16\r\n"
    with serving(shared_bundle, tmp_path / "log", INFERER_API_KEYS=KEY) as server:
        with connected(server) as client:
            client.sendall(head + f"Authorization: Bearer {KEY}\r\n\r\n".encode())
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(BODY)
            reply = whole(client)
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert b"100 Continue" not in reply
        with connected(server) as client:
            client.sendall(head + b"\r\n")
            assert whole(client).startswith(b"HTTP/1.1 401 ")


def test_a_slow_reader_is_dropped_and_counted(shared_bundle: Path, tmp_path: Path) -> None:
    """Unread replies that hold more memory than requests may hold together end the slowest readers' connections."""
    with serving(shared_bundle, tmp_path / "log", INFERER_MAX_IN_FLIGHT_BYTES="5000000") as server:
        (worker,) = workers(server)
        attack = UnreadReplies(server)
        with attack.running():
            until(lambda: metric(server, "inferer_rejected_total", reason="slow_reader") >= 70)
            assert server.predict({"text": "good"}).status == 200
        assert workers(server) == [worker]


def test_connections_per_address_can_be_limited(shared_bundle: Path, tmp_path: Path) -> None:
    """Connections of one address beyond the setting close at once and are counted; open ones and later ones go on."""
    check = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(shared_bundle, tmp_path / "log", INFERER_MAX_CONNECTIONS_PER_ADDRESS="8") as server:
        until(lambda: server.request("GET", "/health/live").status == 200)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(server)) for _ in range(20)]
            served = [client for client in clients if answers(client, check)]
            assert 4 <= len(served) <= 8  # connections of before may still be closing
            assert all(answers(client, check) for client in served)
        until(lambda: server.request("GET", "/health/live").status == 200)
        assert metric(server, "inferer_rejected_total", reason="address") >= 12


def answers(client: socket.socket, request: bytes) -> bool:
    """Return whether a health check on this connection is answered."""
    with contextlib.suppress(OSError, AssertionError):
        client.sendall(request)
        return b"live" in whole(client)
    return False


def test_the_cap_counts_requests_before_a_thread_has_them(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """Of many requests at once, those beyond the cap get 429, which says so; half-sent ones count for nothing."""
    settings = {"INFERER_MAX_IN_FLIGHT": "4"}
    with serving(shared_bundle, tmp_path / "log", held.name, **settings) as server, contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(raw(server, BODY[:5], length=16))
        with held.held():
            clients = [stack.enter_context(raw(server, BODY)) for _ in range(12)]
            until(lambda: metric(server, "inferer_rejected_total", reason="overloaded") == 8)
            assert metric(server, "inferer_in_flight_requests") == 4
        replies = [whole(client) for client in clients]
        refused = [one for one in replies if one.startswith(b"HTTP/1.1 429 ")]
        assert len(refused) == 8
        assert all(b"4 requests are in flight, the most allowed" in one for one in refused)
        assert sum(b'"label":"pos"' in one for one in replies) == 4
