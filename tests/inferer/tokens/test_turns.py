"""Turns: their number, their order, and waiters that leave."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from inferer.tokens.turns import Turns
from tests.support.apps import until


def waits(turns: Turns, count: int) -> None:
    """Return when `count` threads wait."""
    until(lambda: len(turns._waiters) == count)


def test_the_smallest_and_the_oldest_go_by_turns() -> None:
    """A small one waits for the turn in progress and at most one more; a large one gets every second turn."""
    turns, order, ends = Turns(1), [], threading.Event()

    def work(size: int) -> None:
        with turns.turn(size, lambda: None, 1):
            if not order:
                ends.wait(10)
            order.append(size)

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, 100)]
        until(lambda: turns._free == 0)
        for number, size in enumerate((90, 80, 70, 3, 2, 1), 1):
            done.append(pool.submit(work, size))
            waits(turns, number)
        ends.set()
    assert [one.result() for one in done] == [None] * 7
    assert order == [100, 1, 90, 2, 80, 3, 70]


def test_no_more_than_the_count_work_at_a_time() -> None:
    """Two turns are held by two threads at most, and by two where more wait."""
    turns, lock, now, most = Turns(2), threading.Lock(), [0], [0]
    both = threading.Barrier(2)

    def work() -> None:
        with turns.turn(1, lambda: None, 1):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            both.wait(10)
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(work) for _ in range(8)]:
            one.result(20)
    assert most == [2]
    assert turns._free == 2


def test_a_waiter_that_leaves_gives_up_its_place() -> None:
    """A waiter whose check raises leaves; the others and the count of turns stay right."""
    turns = Turns(1)

    def leave() -> None:
        raise TimeoutError

    with turns.turn(1, lambda: None, 1):
        with pytest.raises(TimeoutError), turns.turn(1, leave, 0.001):
            pass
        assert not turns._waiters
    assert turns._free == 1
    with pytest.raises(ValueError, match="work"), turns.turn(1, lambda: None, 1):
        raise ValueError("work")
    assert turns._free == 1
