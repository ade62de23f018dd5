"""Turns at work that few threads should do at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    has_turn: bool = False
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
        waiter = _Waiter(size)
        try:
            with self._lock:
                if self._free:
                    self._free -= 1
                    waiter.has_turn = True
                else:
                    waiter.turn.acquire()
                    self._waiters.append(waiter)
            while not waiter.has_turn and not waiter.turn.acquire(timeout=ask_s):
                go_on()
            yield
        finally:  # Ctrl-C may come anywhere
            self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return
        if waiter.has_turn:
            self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            if not self._waiters:
                self._free += 1
                return
            waiter = min(self._waiters, key=_size) if self._smallest_next else self._waiters[0]
            self._waiters.remove(waiter)
            self._smallest_next = not self._smallest_next
            waiter.has_turn = True
            waiter.turn.release()


def _size(waiter: _Waiter) -> int:
    return waiter.size
