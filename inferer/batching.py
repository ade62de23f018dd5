"""Many concurrent callers, one run: what queued while the last run was busy goes next, together.

Nothing waits for a batch to fill, and there is no thread here: a caller who finds the model idle runs his own text at
once. Who comes meanwhile queues; when a run ends, the caller who has waited longest runs for himself and for those
beside whom he costs little, and hands the turn on. So each run has the first of the queue in it, and whoever has k
callers before him starts after k runs at the latest, whatever comes after him.

Knows encodings, lengths and time; nothing of texts, labels or HTTP. Only for models whose logits do not depend on the
batch (`shared`); of others each text runs by itself, in the same queue.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from inferer.errors import CallerGoneError, DeadlineError

if TYPE_CHECKING:  # settings read MAX_BATCH_TOKENS before the fork, where numpy is not wanted
    import numpy as np
    from numpy.typing import NDArray

    from inferer.encoding import Encoding

    Rows: TypeAlias = NDArray[np.float32]

# Tokens of one run, padding included. Here a text costs least in runs of 256 to 512 tokens, MiniLM and BERT-base
# alike; larger ones fall out of the cache and only hold memory (benchmarks/results/batching.json).
MAX_BATCH_TOKENS = 512
# What a run costs beside its tokens, in tokens: a text may join when the padding that it brings is less.
RUN_COST_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Cancellation:
    """When a caller stops waiting for a run; a run that has begun is always finished.

    deadline: by the clock of time.monotonic(). is_cancelled: called before every run that the caller waited for, and
    before every run of a call but its first; True cancels the job.
    """

    deadline: float = math.inf
    is_cancelled: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Logits, one row [labels] a text, in the order given; seconds waited for runs, and seconds in them."""

    rows: list[Rows]
    queue_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """What was done so far. tokens counts those of texts, padding those beside; queue_s is summed over callers."""

    runs: int = 0
    texts: int = 0
    tokens: int = 0
    padding: int = 0
    largest: int = 0
    queue_s: float = 0.0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a run: texts, tokens of the longest, tokens of all without padding."""

    texts: int
    longest: int
    tokens: int

    @property
    def padded(self) -> int:
        return self.texts * self.longest

    def with_(self, other: _Size) -> _Size:
        return _Size(self.texts + other.texts, max(self.longest, other.longest), self.tokens + other.tokens)


@dataclass(slots=True, eq=False)
class _Job:
    """Texts of one caller that go in one run; a caller has one at a time in the queue, so callers take turns."""

    encodings: Sequence[Encoding]
    cancellation: Cancellation
    size: _Size
    queued: float
    waiting: bool = False
    leads: bool = False
    gone: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)
    to_wake: list[_Job] = field(default_factory=list)
    rows: Rows | None = None
    error: Exception | None = None
    started: float = 0.0
    infer_s: float = 0.0


class Batcher:
    """Share runs between any number of threads.

    run: logits [texts, labels] of encodings. shared: whether texts may share a run. max_tokens: of one run, padding
    included; a longer text runs alone. at_once: how many runs may be under way. on_run: told (texts, tokens with
    padding) of each run that ended.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Encoding]], Rows],
        *,
        shared: bool = True,
        max_tokens: int = MAX_BATCH_TOKENS,
        at_once: int = 1,
        on_run: Callable[[int, int], None] | None = None,
    ) -> None:
        self._run = run
        self.shared = shared
        self.max_tokens = max_tokens
        self.on_run = on_run
        self._idle = at_once
        self._queue: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._stats = BatcherStats()

    @property
    def waiting(self) -> int:
        """Return the number of texts that wait for a run."""
        with self._lock:
            return sum(len(job.encodings) for job in self._queue)

    @property
    def stats(self) -> BatcherStats:
        """Return what was done so far."""
        return self._stats

    def run(self, encodings: Sequence[Encoding], cancellation: Cancellation | None = None) -> BatchResult:
        """Return the logits of `encodings`, however they were batched.

        Raises DeadlineError or CallerGoneError when `cancellation` ended before all was run, and what a run of these
        encodings raises; never what another caller's raised.
        """
        cancellation = cancellation or Cancellation()
        if len(encodings) == 1:
            job = self._one(encodings, cancellation)
            return BatchResult([self._rows(job)[0]], job.started - job.queued, job.infer_s)
        rows: dict[int, Rows] = {}
        queue_s = infer_s = 0.0
        for number, places in enumerate(self._parts(encodings)):
            job = self._one([encodings[place] for place in places], cancellation, further=number > 0)
            rows.update(zip(places, self._rows(job), strict=True))
            queue_s += job.started - job.queued
            infer_s += job.infer_s
        return BatchResult([rows[place] for place in range(len(encodings))], queue_s, infer_s)

    def _parts(self, encodings: Sequence[Encoding]) -> list[list[int]]:
        """Return the places of `encodings` in parts for one run each, like lengths together."""
        parts: list[list[int]] = []
        size = _Size(0, 0, 0)
        for place in sorted(range(len(encodings)), key=lambda place: len(encodings[place].input_ids)):
            one = _size(encodings[place : place + 1])
            if parts and self._may_share(size, one):
                parts[-1].append(place)
                size = size.with_(one)
            else:
                parts.append([place])
                size = one
        return parts

    def _may_share(self, run: _Size, other: _Size) -> bool:
        both = run.with_(other)
        padding = (both.padded - both.tokens) - (run.padded - run.tokens) - (other.padded - other.tokens)
        return self.shared and both.padded <= self.max_tokens and padding <= RUN_COST_TOKENS

    @staticmethod
    def _rows(job: _Job) -> Rows:
        if job.error is not None:
            raise job.error
        assert job.rows is not None  # noqa: S101 - a job ends with rows or an error
        return job.rows

    def _one(self, encodings: Sequence[Encoding], cancellation: Cancellation, *, further: bool = False) -> _Job:
        """Return the job of `encodings`, done. further: one of several of the same caller, who may have left since."""
        now = time.monotonic()
        job = _Job(encodings, cancellation, _size(encodings), queued=now, started=now)
        with self._lock:
            if cancellation.deadline <= now:
                self._drop(job, DeadlineError(0.0))
                return job
            if further and cancellation.is_cancelled is not None and cancellation.is_cancelled():
                self._drop(job, CallerGoneError(0.0))
                return job
            if self._idle and not self._queue:
                self._idle -= 1
                job.leads = True
            else:
                job.turn.acquire()
                job.waiting = True
                self._queue.append(job)
        if not job.leads:
            self._wait(job)
        if job.leads:
            self._lead(job)
        return job

    def _wait(self, job: _Job) -> None:
        """Return when `job` is done or has the turn."""
        left = job.cancellation.deadline - job.queued
        try:
            if job.turn.acquire(timeout=-1 if left > threading.TIMEOUT_MAX else left):
                return
            with self._lock:
                if job.waiting:
                    self._queue.remove(job)
                    self._drop(job, DeadlineError(time.monotonic() - job.queued))
                    return
            job.turn.acquire()  # its run has begun: the answer comes
        except BaseException:  # Ctrl-C: leave no trace in the queue, and keep no turn
            with self._lock:
                job.gone = True
                if job.waiting:
                    self._queue.remove(job)
                elif job.leads:
                    self._hand_on(job.to_wake)
            raise

    def _lead(self, job: _Job) -> None:
        """Run `job` and those who may share its run, and hand the turn on.

        The others are woken by whoever leads next, as his run begins: woken before, they would take Python's lock from
        him one after the other, and the model would stand idle (a quarter of the time with 64 clients).
        """
        others: list[_Job] = []
        size = job.size
        try:
            with self._lock:
                size = self._companions(job, others)
            _wake(job.to_wake)
            self._compute([job, *others])
            with self._lock:
                self._count(size, sum(one.started - one.queued for one in (job, *others)))
        except BaseException:  # Ctrl-C in this thread: the others keep their places
            with self._lock:
                for other in others:
                    other.waiting = True
                self._queue = deque([*others, *(one for one in self._queue if one.waiting and one not in others)])
                others = []
            raise
        finally:
            with self._lock:
                self._hand_on([*job.to_wake, *others])
        if self.on_run is not None:
            self.on_run(size.texts, size.padded)

    def _companions(self, job: _Job, chosen: list[_Job]) -> _Size:
        """Move from the queue to `chosen` those who go with `job`, nearest in length first. The lock is held."""
        size = job.size
        if not self.shared or not self._queue:
            return size
        now = time.monotonic()
        by_length = sorted(self._queue, key=lambda other: abs(other.size.longest - job.size.longest))
        for other in by_length:  # of the same length, who came first: sorting is stable
            if (size.texts + 1) * size.longest > self.max_tokens:
                break  # nobody fits any more
            if not self._may_share(size, other.size):
                continue
            if self._is_over(other, now):
                continue
            other.waiting = False
            chosen.append(other)
            size = size.with_(other.size)
        self._queue = deque(other for other in self._queue if other.waiting)
        return size

    def _compute(self, jobs: list[_Job]) -> None:
        """Run `jobs` together; where that fails, each alone, so that a failure stays with its own caller."""
        started = time.monotonic()
        try:
            rows = self._run([encoding for job in jobs for encoding in job.encodings])
        except Exception as error:  # noqa: BLE001 - handed on whole to the caller whose it is
            if len(jobs) == 1:
                jobs[0].error, jobs[0].started = error, started
                return
            for job in jobs:
                self._compute([job])
            return
        infer_s = time.monotonic() - started
        place = 0
        for job in jobs:
            job.rows = rows[place : place + len(job.encodings)]
            place += len(job.encodings)
            job.started, job.infer_s = started, infer_s

    def _hand_on(self, to_wake: list[_Job]) -> None:
        """Give the turn, and those he is to wake, to the first in the queue who still wants it. The lock is held."""
        now = time.monotonic()
        while self._queue:
            job = self._queue.popleft()
            if not self._is_over(job, now):
                job.waiting, job.leads, job.to_wake = False, True, to_wake
                job.turn.release()
                return
        self._idle += 1
        _wake(to_wake)

    def _is_over(self, job: _Job, now: float) -> bool:
        """Return whether `job`, out of the queue, ends here: too late, or nobody wants it. The lock is held."""
        if job.gone:
            job.waiting = False
            return True
        if job.cancellation.deadline <= now:
            self._drop(job, DeadlineError(now - job.queued))
        elif job.cancellation.is_cancelled is not None and job.cancellation.is_cancelled():
            self._drop(job, CallerGoneError(now - job.queued))
        else:
            return False
        job.turn.release()
        return True

    def _drop(self, job: _Job, error: Exception) -> None:
        job.waiting = False
        job.error = error
        self._stats = replace(self._stats, dropped=self._stats.dropped + 1)

    def _count(self, size: _Size, queue_s: float) -> None:
        done = self._stats
        self._stats = BatcherStats(
            runs=done.runs + 1,
            texts=done.texts + size.texts,
            tokens=done.tokens + size.tokens,
            padding=done.padding + size.padded - size.tokens,
            largest=max(done.largest, size.texts),
            queue_s=done.queue_s + queue_s,
            dropped=done.dropped,
        )


def _wake(jobs: list[_Job]) -> None:
    """Let the callers of `jobs`, which are done, take their answers; empties the list."""
    while jobs:
        jobs.pop(0).turn.release()


def _size(encodings: Sequence[Encoding]) -> _Size:
    lengths = [len(encoding.input_ids) for encoding in encodings]
    return _Size(len(lengths), max(lengths), sum(lengths))
