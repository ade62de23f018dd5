"""Connections of several workers: each takes its share, and none waits for a worker that hangs."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

from service.process import connection_counts
from service.process.connection_counts import ConnectionCounts, Place
from tests.support.apps import until
from tests.support.server import Server, all_ready, serving, workers


def connected(server: Server, stack: ExitStack, count: int) -> None:
    """Open connections that stay open, each with a reply received, until the stack closes."""
    for _ in range(count):
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        stack.callback(client.close)
        client.request("GET", "/health/live")
        reply = client.getresponse()
        assert (reply.status, bool(reply.read())) == (200, True)


def sockets(pid: int) -> int:
    """Return the number of sockets that a process has open."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def misses_until_equal(server: Server, stack: ExitStack, behind: int, ahead: int, difference: int) -> int:
    """Open connections until the worker `behind` has as many as `ahead`; return how many `ahead` took, at most 9.

    A busy machine may let the worker behind miss one; after a miss, `ahead` takes all for _GREED_S.
    """
    missed, before = 0, sockets(ahead)
    while difference > 0 and missed < 9:
        count = sockets(behind)
        connected(server, stack, 1)
        if sockets(behind) > count:
            difference -= 1
        else:
            difference += 1
            missed += 1
            time.sleep(connection_counts._GREED_S)
    assert sockets(ahead) - before == missed
    return missed


def test_a_worker_with_fewer_connections_gets_the_next_ones(tiny_bundle: Path, tmp_path: Path) -> None:
    """One worker stands still while the other accepts 16, then gets the next; by chance it would get half of them."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_WORKERS="2") as server, ExitStack() as stack:
        all_ready(server, 2)
        still, other = workers(server)
        before = sockets(other)
        os.kill(still, signal.SIGSTOP)
        connected(server, stack, 16)
        assert sockets(other) - before == 16
        os.kill(still, signal.SIGCONT)
        time.sleep(connection_counts._GREED_S)
        assert misses_until_equal(server, stack, still, other, 16) < 9


def test_a_worker_that_hangs_delays_no_connection(tiny_bundle: Path, tmp_path: Path) -> None:
    """While one worker stands still the other accepts all; once it is killed, a new worker gets its share."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_WORKERS="2") as server, ExitStack() as stack:
        all_ready(server, 2)
        hung, other = workers(server)
        os.kill(hung, signal.SIGSTOP)
        before = sockets(other)
        connected(server, stack, 16)
        assert sockets(other) - before == 16
        os.kill(hung, signal.SIGKILL)
        all_ready(server, 3)
        (new,) = set(workers(server)) - {other}
        idle, before = sockets(new), sockets(other)

        def takes_one() -> bool:
            connected(server, stack, 1)
            return sockets(new) > idle

        until(takes_one)  # it accepts soon after its line in the log
        behind = 16 + sockets(other) - before - 1
        time.sleep(connection_counts._GREED_S)
        assert misses_until_equal(server, stack, new, other, behind) < 9


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def two_places() -> tuple[Clock, Place, Place]:
    """Return a clock and the places of two workers on one memory."""
    clock = Clock()
    memory = memoryview(bytearray(16)).cast("q")
    return clock, Place(memory, 0, clock), Place(memory, 1, clock)


def test_the_worker_with_more_connections_yields_until_the_other_has_as_many() -> None:
    """Equal counts yield to none; a worker that accepts none is never waited for."""
    clock, first, second = two_places()
    first.set(3)
    second.set(2)
    assert first.yields()
    assert not second.yields()
    assert clock.now < first.yields_until < clock.now + 0.01
    second.set(3)
    assert not first.yields()
    second.set(0)
    assert first.yields()
    second.leave()
    assert not first.yields()


def test_a_wait_in_vain_ends() -> None:
    """After the patience has passed without a change the worker takes all for a while, then yields again."""
    clock, first, second = two_places()
    first.set(3)
    second.set(2)
    start = clock.now
    while first.yields():
        clock.now = first.yields_until
    assert clock.now - start < 0.03
    clock.now += 0.4
    assert not first.yields()
    clock.now += 0.2
    assert first.yields()


def test_a_place_is_given_again_once_its_worker_has_ended() -> None:
    """Counts of workers that ended are not seen; one worker more than there are places compares with none."""
    counts = ConnectionCounts()
    first, second = counts.place("first"), counts.place("second")
    first.set(5)
    second.set(1)
    assert first.yields()
    counts.free("second")
    counts.free("a worker without a place")
    assert not first.yields()
    counts.place("third").set(0)
    assert first.yields()
    rest = [counts.place(number) for number in range(connection_counts._MOST_WORKERS)]
    rest[-1].set(9)
    assert not rest[-1].yields()
