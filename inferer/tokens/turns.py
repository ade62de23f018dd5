"""Turns at work that few threads should do at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    turn: threading.Lock = field(default_factory=threading.Lock)


class Turns:
    """Let at most `count` threads work at a time. The smallest and the oldest waiter go next by turns.

    So a small one waits for at most one turn more than the one in progress, and a large one behind k others for at most
    2k + 1.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []  # in the order of arrival
        self._smallest_next = True

    @contextmanager
    def turn(self, size: int, go_on: Callable[[], None], ask_s: float) -> Iterator[None]:
        """Hold a turn in the block. go_on: called each `ask_s` seconds of the wait; may raise to leave."""
        with self._lock:
            waiter = None if self._free else _Waiter(size)
            if waiter is None:
                self._free -= 1
            else:
                waiter.turn.acquire()
                self._waiters.append(waiter)
        if waiter is not None:
            self._wait(waiter, go_on, ask_s)
        try:
            yield
        finally:
            self._pass_on()

    def _wait(self, waiter: _Waiter, go_on: Callable[[], None], ask_s: float) -> None:
        try:
            while not waiter.turn.acquire(timeout=ask_s):
                go_on()
        except BaseException:
            with self._lock:
                has_turn = waiter not in self._waiters
                if not has_turn:
                    self._waiters.remove(waiter)
            if has_turn:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        with self._lock:
            if not self._waiters:
                self._free += 1
                return
            waiter = min(self._waiters, key=_size) if self._smallest_next else self._waiters[0]
            self._waiters.remove(waiter)
            self._smallest_next = not self._smallest_next
            waiter.turn.release()


def _size(waiter: _Waiter) -> int:
    return waiter.size
