"""The open connections of each worker, which all workers see, so that none takes another's share.

All workers wait on the same listening socket, and the kernel gives a connection to the first that accepts: measured
on two cores, one of two workers held all of 32 connections, and kept them, as connections stay open between requests.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

# A worker with more connections than another leaves the next one to it, and looks again after each _STEP_S. Once none
# has been taken for _PATIENCE_S (the other worker hangs), it takes all for _GREED_S.
_STEP_S = 0.001
_PATIENCE_S = 0.02
_GREED_S = 0.5
_MOST_WORKERS = 256
_BYTES = 8
_ABSENT = 2**62


class ConnectionCounts:
    """A count per worker, in memory that the master and the workers forked later share."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, _MOST_WORKERS * _BYTES)).cast("q")
        self._owners: list[object | None] = [None] * _MOST_WORKERS
        for index in range(_MOST_WORKERS):
            self._memory[index] = _ABSENT

    def place(self, owner: object) -> Place:
        """Return a place for a worker that is about to be forked; only the master calls this.

        Once all are taken, a worker gets a place of its own, which it compares with none.
        """
        if None not in self._owners:
            return ConnectionCounts().place(owner)
        index = self._owners.index(None)
        self._owners[index] = owner
        return Place(self._memory, index)

    def free(self, owner: object) -> None:
        """Free the place of a worker that has ended, however it ended; only the master calls this."""
        if owner in self._owners:
            index = self._owners.index(owner)
            self._owners[index] = None
            self._memory[index] = _ABSENT


class Place:
    """The count of one worker among all of them. yields_until: the time until which it leaves connections to others."""

    def __init__(self, memory: memoryview[int], index: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._index, self._clock = memory, index, clock
        self.yields_until = self._since = self._greedy_until = 0.0
        self._fewest = 0

    def set(self, count: int) -> None:
        """Tell the others that this worker has `count` connections open and accepts more."""
        self._memory[self._index] = count

    def leave(self) -> None:
        """Tell the others that this worker accepts none."""
        self._memory[self._index] = _ABSENT

    def yields(self) -> bool:
        """Return whether this worker leaves a connection that waits to another, which has fewer."""
        now, counts = self._clock(), self._memory.tolist()
        fewest = min(counts)
        if fewest >= counts[self._index] or now < self._greedy_until:
            return False
        if fewest != self._fewest or now > self.yields_until + _PATIENCE_S:
            self._fewest, self._since = fewest, now
        elif now > self._since + _PATIENCE_S:
            self._greedy_until = now + _GREED_S
            return False
        self.yields_until = now + _STEP_S
        return True
