"""The load generator of tests/support/load.py against a scripted server."""

from __future__ import annotations

import itertools
import json
import math
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.load import Plan, Result, run, run_in_child
from tests.support.server import free_port, run_to_end

CLOSE = None
Script = Callable[[int, int], Iterable[bytes | None]]  # number of the connection, of the request on it -> what to send


def reply(body: bytes = b'{"label":"pos"}', status: int = 200, *headers: str) -> bytes:
    """Return an HTTP reply."""
    lines = [f"HTTP/1.1 {status} Some Reason", "Server: x", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Connection(socketserver.StreamRequestHandler):
    """Reads requests and sends the script's pieces, a moment apart."""

    server: StandIn
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve one connection until either side closes it."""
        number = next(self.server.numbers)
        try:
            for asked in itertools.count():
                head = list(itertools.takewhile(bytes.strip, self.rfile))
                if not head:
                    return
                length = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:")]
                self.server.seen.append((number, b"".join(head), self.rfile.read(sum(length))))
                for piece in self.server.script(number, asked):
                    if piece is CLOSE:
                        return
                    self.wfile.write(piece)
                    time.sleep(0.002)
        except ConnectionError:
            pass


class StandIn(socketserver.ThreadingTCPServer):
    """A server on a free port; `seen` has the connection's number, the head and the body of every request."""

    request_queue_size = 64

    def __init__(self, script: Script, handler: type[Connection] = Connection, port: int = 0) -> None:
        self.script, self.numbers = script, itertools.count()
        self.seen: list[tuple[int, bytes, bytes]] = []
        super().__init__(("127.0.0.1", port), handler)
        self.port = int(self.server_address[1])

    def asked(self, path: str) -> list[tuple[int, bytes, bytes]]:
        """Return the requests for `path`."""
        return [one for one in self.seen if one[1].split()[1] == path.encode()]


@contextmanager
def standing_in(
    script: Script = lambda _connection, _request: [reply()], handler: type[Connection] = Connection, port: int = 0
) -> Iterator[StandIn]:
    """Run a stand-in until the block ends."""
    with StandIn(script, handler, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def counts(result: Result) -> dict[str, int]:
    """Return the nonzero counts of faults."""
    names = ("resets", "cut_short", "unanswered", "reconnects", "refused", "probe_lost")
    return {name: vars(result)[name] for name in names if vars(result)[name]}


def test_each_request_is_counted_once() -> None:
    """With `requests`, the server sees exactly so many, and each is in the statuses, latencies and start times."""
    with standing_in(lambda _, request: [reply(status=429 if request % 2 else 200)]) as server:
        result = run(Plan(server.port, 4, 0, requests=101))
    assert len(server.seen) == sum(result.statuses.values()) == 101
    assert set(result.statuses) == {200, 429}
    for listed in (result.latencies_ms, result.started_s):
        assert {status: len(values) for status, values in listed.items()} == result.statuses
    assert (counts(result), result.connections) == ({}, 4)
    assert result.throughput() == result.statuses[200] / result.seconds > 0


def test_clients_go_round_through_the_bodies_from_different_ones() -> None:
    """Each client sends all bodies in order, over and over, and clients begin at different ones."""
    bodies = [json.dumps({"text": text}).encode() for text in "abcdef"]
    with standing_in() as server:
        run(Plan(server.port, 3, 0, bodies, requests=60))
    sent = {number: [body for connection, _, body in server.seen if connection == number] for number in range(3)}
    firsts = {own[0] for own in sent.values()}
    assert firsts == {bodies[0], bodies[2], bodies[4]}
    for own in sent.values():
        turned = itertools.islice(itertools.cycle(bodies), bodies.index(own[0]), None)
        assert own == list(itertools.islice(turned, len(own)))


def test_method_path_and_headers_are_sent() -> None:
    """The request has the plan's method, path and headers, the length of its body, and JSON as its type."""
    with standing_in() as server:
        run(Plan(server.port, 1, 0, [b"{}"], "/x", "PUT", {"X-Api-Key": "secret"}, requests=1))
        run(Plan(server.port, 1, 0, [b"text"], headers={"Content-Type": "text/plain"}, requests=1))
    (_, head, body), (_, other, _) = server.seen
    assert head.splitlines()[0] == b"PUT /x HTTP/1.1"
    named = {b"host: 127.0.0.1", b"x-api-key: secret", b"content-length: 2", b"content-type: application/json"}
    assert set(head.splitlines()[1:]) == named
    assert body == b"{}"
    assert [line for line in other.splitlines() if line.startswith(b"content-type")] == [b"content-type: text/plain"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_reply_may_come_in_pieces(size: int) -> None:
    """A reply counts the same whole or in pieces, also with head and body cut in the middle."""
    long = b"0123456789" * 50_000
    whole = reply(long if size > 7 else b'{"a":1}', 200)
    with standing_in(lambda *_: [whole[at : at + size] for at in range(0, len(whole), size)]) as server:
        result = run(Plan(server.port, 1, 0, [b"{}"], requests=2, keep_bodies=True))
    assert result.answers == [(0, 200, whole.split(b"\r\n\r\n")[1])] * 2
    assert (counts(result), result.connections) == ({}, 1)


def test_header_names_have_no_case_and_a_204_no_body() -> None:
    """Headers are found in any case and spacing, and a 204 needs no length."""
    heads = [b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:2\r\n\r\n{}", b"HTTP/1.1 204 No Content\r\n\r\n"]
    with standing_in(lambda _, request: [heads[request]]) as server:
        result = run(Plan(server.port, 1, 0, requests=2, keep_bodies=True))
    assert result.answers == [(0, 200, b"{}"), (0, 204, b"")]


def test_kept_bodies_belong_to_their_requests() -> None:
    """Each kept answer is listed with the index of the body that it answers."""
    echoing: list[bytes] = []

    class Echo(Connection):
        """Sends back the body."""

        def handle(self) -> None:
            """Put the body of each request into its reply."""
            while head := list(itertools.takewhile(bytes.strip, self.rfile)):
                length = next(int(line.split(b":")[1]) for line in head if line.startswith(b"content-length"))
                echoing.append(self.rfile.read(length))
                self.wfile.write(reply(echoing[-1]))

    bodies = [str(number).encode() * number for number in range(1, 8)]
    with standing_in(handler=Echo) as server:
        result = run(Plan(server.port, 1, 0, bodies, requests=20, keep_bodies=True))
    assert len(result.answers) == len(echoing) == 20
    assert all(bodies[index] == answer for index, _, answer in result.answers)


@pytest.mark.parametrize(
    "closing", [reply(b"{}", 200, "Connection: close"), b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
def test_an_announced_close_is_followed_by_a_new_connection(closing: bytes) -> None:
    """After a reply that announces the close, the next request uses a new connection and counts as no fault."""
    with standing_in(lambda *_: [closing, CLOSE]) as server:
        result = run(Plan(server.port, 2, 0, requests=10))
    assert result.statuses == {200: 10}
    assert (counts(result), result.connections) == ({}, 10)


def test_a_request_lost_with_a_kept_alive_connection_is_sent_again() -> None:
    """When a kept-alive connection is closed before any byte of the reply, its request is sent again."""
    with standing_in(lambda _, request: [CLOSE] if request else [reply()]) as server:
        result = run(Plan(server.port, 1, 0, [b"a", b"b", b"c", b"d"], requests=4))
    assert result.statuses == {200: 4}
    assert counts(result) == {"reconnects": 3}
    assert [body for _, _, body in server.seen] == [b"a", b"b", b"b", b"c", b"c", b"d", b"d"]


def test_a_kept_alive_connection_closed_while_idle_is_opened_again() -> None:
    """When a connection is closed between two requests, the next one goes on a new connection."""
    wait = reply(b"{}", 429, "Retry-After: 1")
    with standing_in(lambda connection, _: [reply()] if connection else [wait, CLOSE]) as server:
        result = run(Plan(server.port, 1, 0, requests=2, honour_retry_after=True))
    assert result.statuses == {200: 1, 429: 1}
    assert (counts(result), len(server.seen)) == ({"reconnects": 1}, 2)


def test_a_close_right_after_a_reply_loses_nothing() -> None:
    """When connections close after each reply without notice, each request still gets its reply."""
    with standing_in(lambda *_: [reply(), CLOSE]) as server:
        result = run(Plan(server.port, 3, 0, requests=30))
    assert (result.statuses, set(counts(result))) == ({200: 30}, {"reconnects"})


def test_a_new_connection_closed_without_a_reply_is_a_reset() -> None:
    """A request whose new connection is closed without a reply is a reset, and is not sent again."""
    with standing_in(lambda connection, _: [CLOSE] if connection < 3 else [reply()]) as server:
        result = run(Plan(server.port, 1, 0, [b"a", b"b", b"c", b"d"], requests=4))
    assert result.statuses == {200: 1}
    assert counts(result) == {"resets": 3}
    assert [body for _, _, body in server.seen] == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("sent", [1, 20, len(reply()) - 1])
def test_a_reply_that_breaks_off_is_a_reset(sent: int) -> None:
    """A reply that breaks off, in its head or its body, is a reset also on a kept-alive connection."""
    with standing_in(lambda _, request: [reply()[:sent], CLOSE] if request else [reply()]) as server:
        result = run(Plan(server.port, 1, 0, requests=4))
    assert result.statuses == {200: 2}
    assert (counts(result), len(server.seen)) == ({"resets": 2}, 4)


class Deaf(Connection):
    """Reads no more than the beginning of a request."""

    def handle(self) -> None:
        """Read a byte and close."""
        self.rfile.read(1)


def test_an_incompletely_sent_request_counts_as_cut_short() -> None:
    """A request that the server closed before all of it was sent counts as cut short and not as a reset."""
    with standing_in(handler=Deaf) as server:
        result = run(Plan(server.port, 2, 0, [b" " * 30_000_000], requests=4))
    assert (counts(result), result.statuses) == ({"cut_short": 4}, {})


class Early(Connection):
    """Refuses a request by its head."""

    def handle(self) -> None:
        """Reply and read on, or a reset would lose the reply."""
        self.rfile.readline()
        self.wfile.write(reply(b"{}", 413))
        while self.connection.recv(1 << 20):
            pass


def test_a_reply_before_the_request_was_wholly_sent_counts() -> None:
    """A reply that came before all of the request was sent counts, and the next request has a new connection."""
    with standing_in(handler=Early) as server:
        result = run(Plan(server.port, 1, 0, [b" " * 30_000_000], requests=3))
    assert result.statuses == {413: 3}
    assert (counts(result), result.connections) == ({}, 3)


def test_a_refused_connect_is_counted_and_tried_again() -> None:
    """Refused connects are counted, and a server that starts later gets the requests."""
    port = free_port()
    nobody = run(Plan(port, 2, 0.2))
    assert (set(counts(nobody)), nobody.statuses, nobody.connections) == ({"refused"}, {}, 0)
    assert nobody.refused >= 2
    results: list[Result] = []
    asking = threading.Thread(target=lambda: results.append(run(Plan(port, 1, 0, requests=3))))
    asking.start()
    time.sleep(0.2)
    with standing_in(port=port):
        asking.join()
    assert results[0].statuses == {200: 3}
    assert set(counts(results[0])) == {"refused"}


def test_retry_after_is_honoured_only_where_asked_for() -> None:
    """A client waits as long as Retry-After says, and without `honour_retry_after` goes on at once."""
    with standing_in(lambda *_: [reply(b"{}", 429, "retry-after: 60")]) as server:
        assert run(Plan(server.port, 3, 0.3, honour_retry_after=True)).statuses == {429: 3}
        assert run(Plan(server.port, 3, 0, requests=30)).statuses == {429: 30}


def test_what_is_in_hand_at_the_end_is_waited_for() -> None:
    """Replies that come after the end are counted, but not in the throughput."""
    over = threading.Event()

    def late(_connection: int, _request: int) -> Iterator[bytes]:
        over.wait(10)
        yield reply()

    with standing_in(late) as server:
        threading.Timer(0.4, over.set).start()
        result = run(Plan(server.port, 3, 0.1))
    assert (result.statuses, counts(result), result.seconds) == ({200: 3}, {}, 0.1)
    assert result.throughput() == 0


def test_a_server_that_does_not_answer_ends_the_run() -> None:
    """Requests without a reply when patience ends are counted as unanswered, and the run ends."""

    class Stuck(Connection):
        """Answers the first request of a connection, and health always."""

        def handle(self) -> None:
            """Read everything."""
            for asked in itertools.count():
                head = list(itertools.takewhile(bytes.strip, self.rfile))
                if not head:
                    return
                if asked == 0 or head[0].startswith(b"GET"):
                    self.wfile.write(reply())

    with standing_in(handler=Stuck) as server:
        plan = Plan(server.port, 3, 0.1, patience_s=0.3, probe_path="/health/live", probe_every_s=0.01)
        for result in (run(plan), run(replace(plan, requests=50))):
            found = counts(result)
            found.pop("probe_lost", None)  # a busy machine may lose a probe
            assert (found, result.statuses) == ({"unanswered": 3}, {200: 3})
            assert set(result.probe_statuses) == {200}


def test_the_warm_up_is_not_counted() -> None:
    """Requests of the warm-up appear in no count, list or result."""
    with standing_in() as server:
        result = run(Plan(server.port, 2, 0, requests=10, warm_up_s=0.2, keep_bodies=True))
    assert len(server.seen) > 10
    assert result.statuses == {200: 10}
    assert len(result.answers) == 10
    assert min(result.started_s[200]) >= 0


def test_a_run_by_time_ends_by_itself() -> None:
    """Without `requests`, clients ask until `seconds` are over, and every request that the server saw is counted."""
    with standing_in() as server:
        result = run(Plan(server.port, 3, 0.3))
    assert sum(result.statuses.values()) == len(server.seen) > 3
    assert (counts(result), result.seconds) == ({}, 0.3)
    assert all(0 <= at < 0.3 for at in result.started_s[200])


@pytest.mark.parametrize(
    "bad",
    [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", reply() + b"more"],
)
def test_a_reply_that_cannot_be_read_ends_the_run(bad: bytes) -> None:
    """Malformed HTTP, a missing Content-Length or a longer body ends the run with an error that shows the reply."""
    with standing_in(lambda *_: [bad]) as server, pytest.raises(ValueError, match=r"SSH|chunked|more"):
        run(Plan(server.port, 2, 5))


@pytest.mark.parametrize("new", [False, True])
def test_the_probe_has_a_connection_of_its_own(new: bool) -> None:
    """The probe runs beside the clients, on one connection or a new one each time, and counts separately."""
    with standing_in() as server:
        result = run(Plan(server.port, 2, 0.4, probe_path="/health/live", probe_every_s=0.02, probe_new_connection=new))
    probes, others = server.asked("/health/live"), server.asked("/predict")
    assert result.probe_statuses == {200: len(probes)} == {200: len(result.probe_ms)}
    assert result.statuses == {200: len(others)}
    assert len({connection for connection, *_ in probes}) == (len(probes) if new else 1)
    assert not {connection for connection, *_ in probes} & {connection for connection, *_ in others}
    assert probes[0][1].startswith(b"GET /health/live HTTP/1.1\r\n")
    assert all((b"connection: close\r\n" in head) is new for _, head, _ in probes)
    assert 1 < len(probes) <= 21
    assert (counts(result), result.connections) == ({}, 2)


def test_lost_probes_are_counted() -> None:
    """Probes that get no reply are counted as lost, and not among the clients' resets."""
    with standing_in(lambda connection, _: [CLOSE] if connection else [reply()]) as server:
        result = run(Plan(server.port, 1, 0.2, probe_path="/health/live", probe_every_s=0.05))
    assert set(counts(result)) == {"probe_lost"}
    assert result.probe_lost == len(server.asked("/health/live"))


def test_figures_are_what_the_lists_say() -> None:
    """Throughput, percentiles and timeline match figures computed by hand."""
    latencies = {200: [4.0, 1.0, 3.0, 2.0], 429: [0.5]}
    result = Result(2.0, 0.0, latencies, {200: [0.01, 0.08, 0.31, 0.38], 429: [0.12]}, in_time=3)
    assert result.statuses == {200: 4, 429: 1}
    assert result.throughput() == 1.5
    assert [result.percentile(q) for q in (0, 25, 26, 50, 99, 100)] == [1, 1, 2, 2, 4, 4]
    assert result.percentile(50, status=429) == 0.5
    assert result.timeline() == [{200: 2}, {429: 1}, {}, {200: 2}]
    assert result.timeline(1) == [{200: 4, 429: 1}]
    assert replace(result, latencies_ms={}, started_s={}).timeline() == []


def test_a_child_process_gives_the_same_kind_of_result() -> None:
    """A run in a child process returns the same result as in this process, bytes and numbers alike."""
    plan = Plan(0, 2, 0, [b'{"text":"\xc3\xa9"}', b"\xff"], headers={"X-A": "b"}, requests=12, keep_bodies=True)
    with standing_in(lambda *_: [reply(bytes(range(256)))]) as server:
        result = run_in_child(replace(plan, port=server.port, probe_path="/health/live"))
    assert isinstance(result, Result)
    assert Counter(result.answers) == Counter([(0, 200, bytes(range(256))), (1, 200, bytes(range(256)))] * 6)
    assert {body for _, _, body in server.asked("/predict")} == set(plan.bodies)
    assert result.statuses == {200: 12}
    assert set(result.probe_statuses) == {200}
    assert 0 < result.percentile(100) < math.inf


def test_a_child_process_that_fails_says_why() -> None:
    """A run that fails in a child process raises with the child's message."""
    with standing_in(lambda *_: [b"nonsense\r\n\r\n"]) as server, pytest.raises(RuntimeError, match="nonsense"):
        run_in_child(Plan(server.port, 1, 1))


def test_the_command_prints_a_summary(tmp_path: Path) -> None:
    """From a shell, the bodies of a file are sent with the headers given, and the last line is a JSON summary."""
    file = tmp_path / "bodies"
    file.write_bytes(b'{"text": "a"}\n{"text": "b"}\n')
    command = [sys.executable, "-m", "tests.support.load", "--clients", "2", "--seconds", "1", "--requests", "10"]
    with standing_in() as server:
        options = ["--port", str(server.port), "--body-file", str(file), "--header", "X-Api-Key: secret"]
        done = run_to_end(*command, *options)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["statuses"] == {"200": 10}
    assert summary["resets"] == 0
    assert summary["throughput"] > 0
    assert set(summary["ms"]["200"]) == {"50", "90", "99", "100"}
    assert {body for _, _, body in server.seen} == {b'{"text": "a"}', b'{"text": "b"}'}
    assert all(b"x-api-key: secret\r\n" in head for _, head, _ in server.seen)
