"""Batches of concurrent callers' texts, without a thread and without a waiting time.

A caller that finds the model idle runs its texts at once; callers that arrive during a run queue for the next one.
Where runs go side by side, the texts of one call are spread over them. Each run has a leader from the queue, and takes
along queued texts that add little padding. The oldest and the smallest caller lead by turns: a caller behind k others
starts after at most 2k + 1 runs, and a small one waits for the run in progress and one more, however many large ones
are queued. Sharing (`shared`) needs logits that do not depend on the batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from inferer.errors import CallerGoneError, DeadlineError, WaitError

if TYPE_CHECKING:  # service.settings imports MAX_BATCH_TOKENS before the fork, without numpy
    import numpy as np
    from numpy.typing import NDArray

    from inferer.tokens.encoding import Encoding

    Rows: TypeAlias = NDArray[np.float32]
    Run: TypeAlias = Callable[[Sequence[Encoding]], Rows]

# Tokens of one run, padding included. A text costs least in runs of 256 to 512 tokens, with MiniLM and BERT-base
# alike; larger runs leave the cache and hold memory (benchmarks/results/batching.json).
MAX_BATCH_TOKENS = 512
MOST_BATCH_TOKENS = 100_000  # a sane upper limit: gigabytes of attention
# The fixed cost of a run, expressed in tokens: a text may join a run when it adds at most this much padding.
RUN_COST_TOKENS = 24
# A call's texts are spread over runs side by side in parts of at least so many tokens: a smaller part is over before
# another thread has begun.
_LEAST_PART_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Cancellation:
    """When a caller stops waiting; a run that has begun is always finished.

    deadline, arrived: by the clock of time.monotonic(); errors tell the time since `arrived`. is_cancelled: called
    before every run that the caller waited for, and before every run of a call but its first; True ends the call.
    """

    deadline: float = math.inf
    is_cancelled: Callable[[], bool] | None = None
    arrived: float = field(default_factory=time.monotonic)

    def check(self, *, ask: bool = True) -> None:
        """Raise DeadlineError if the deadline has passed, or CallerGoneError if, with `ask`, the caller has left."""
        error = self.error(time.monotonic(), ask=ask)
        if error is not None:
            raise error

    def error(self, now: float, *, ask: bool) -> WaitError | None:
        """Return the error to end the call with, or None."""
        if self.deadline <= now:
            return DeadlineError(now - self.arrived)
        if ask and self.is_cancelled is not None and self.is_cancelled():
            return CallerGoneError(now - self.arrived)
        return None


class ModelRun(NamedTuple):
    """One run that a call took part in.

    queued, started: time.monotonic(). texts, tokens: those of all callers in the run, padding included.
    """

    queued: float
    started: float
    infer_s: float
    texts: int
    tokens: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Logits, one row [labels] per encoding, in the caller's order; the runs that they took."""

    rows: list[Rows]
    runs: list[ModelRun]


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a run: its texts, and the tokens of the longest one."""

    texts: int
    longest: int

    @property
    def padded(self) -> int:
        return self.texts * self.longest

    def __add__(self, other: _Size) -> _Size:
        return _Size(self.texts + other.texts, max(self.longest, other.longest))


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's texts for one run. A caller queues no more jobs at a time than it has parts side by side, so callers
    take turns.

    turn: held until the job is done or leads. waiting: in the queue. to_wake: finished jobs that this leader wakes.
    """

    encodings: Sequence[Encoding]
    cancellation: Cancellation
    size: _Size
    queued: float
    waiting: bool = False
    leads: bool = False
    gone: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)
    to_wake: list[_Job] = field(default_factory=list)
    rows: Rows | tuple[()] = ()
    error: Exception | None = None
    run: ModelRun | None = None

    def drop(self, error: Exception) -> None:
        self.waiting = False
        self.error = error


class Batcher:
    """Share runs of a model between any number of threads.

    run: returns the logits [texts, labels] of encodings. shared: whether texts may share a run. max_tokens: limit of
    one run, padding included; a longer text runs alone. at_once: how many runs may be in progress together. parts:
    over how many of them the texts of one call are spread.
    Attribute on_run: called after each run with its texts and its tokens, padding included.
    """

    def __init__(
        self, run: Run, *, shared: bool = True, max_tokens: int = MAX_BATCH_TOKENS, at_once: int = 1, parts: int = 1
    ) -> None:
        self._run = run
        self.shared = shared
        self.max_tokens = max_tokens
        self.on_run: Callable[[int, int], None] | None = None
        self._idle = at_once
        self._parts = parts
        self._helpers = ThreadPoolExecutor(parts - 1, "parts") if parts > 1 else None  # starts threads when needed
        self._smallest_next = True
        self._queue: deque[_Job] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Return the number of texts in the queue."""
        with self._lock:
            return sum(len(job.encodings) for job in self._queue)

    def run(self, encodings: Sequence[Encoding], cancellation: Cancellation | None = None) -> BatchResult:
        """Return the logits of `encodings`, in as many runs as they need.

        Raises DeadlineError or CallerGoneError when the call was cancelled before its last run, and the error of a
        run that fails with these encodings alone. The errors of other callers never reach this one.
        """
        cancellation = cancellation or Cancellation()
        split = self._split(encodings)
        jobs: dict[int, _Job] = {}
        numbers = iter(range(len(split)))  # shared by the threads of the call

        def work() -> None:
            for number in numbers:
                own = [encodings[place] for place in split[number]]
                job = jobs[number] = self._run_job(own, cancellation, is_first=number == 0)
                if job.error is not None:
                    deque(numbers, maxlen=0)  # the others begin no more runs

        self._work_together(work, min(self._parts, len(split)) - 1)
        rows: dict[int, Rows] = {}
        runs: list[ModelRun] = []
        for number, job in sorted(jobs.items()):
            if job.error is not None:
                raise job.error
            rows.update(zip(split[number], job.rows, strict=True))
            if job.run is not None:
                runs.append(job.run)
        return BatchResult([rows[place] for place in range(len(encodings))], runs)

    def _work_together(self, work: Callable[[], None], helpers: int) -> None:
        """Call `work` here and, where threads are free, in up to `helpers` more; return when all are done."""
        if self._helpers is None or helpers < 1:
            work()
            return
        others = [self._helpers.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for other in others:
                if not other.cancel():
                    other.result()

    def _split(self, encodings: Sequence[Encoding]) -> list[list[int]]:
        """Return the places of `encodings`, split into one list per run, similar lengths together."""
        most = self.max_tokens
        if self._parts > 1:
            tokens = sum(len(encoding.input_ids) for encoding in encodings)
            most = min(most, max(_LEAST_PART_TOKENS, math.ceil(tokens / self._parts)))
        runs: list[list[int]] = []
        size = _Size(0, 0)
        for place in sorted(range(len(encodings)), key=lambda place: len(encodings[place].input_ids)):
            one = _size(encodings[place : place + 1])
            if runs and self._may_share(size, one, most):
                runs[-1].append(place)
                size += one
            else:
                runs.append([place])
                size = one
        return runs

    def _may_share(self, run: _Size, other: _Size, most: int) -> bool:
        both = run + other
        added = both.padded - run.padded - other.padded  # of padding: the texts' own tokens cancel out
        return self.shared and both.padded <= most and added <= RUN_COST_TOKENS

    def _run_job(self, encodings: Sequence[Encoding], cancellation: Cancellation, *, is_first: bool) -> _Job:
        """Return a finished job for `encodings`. is_first: the caller has had no other run in this call."""
        now = time.monotonic()
        job = _Job(encodings, cancellation, _size(encodings), queued=now)
        job.turn.acquire()
        with self._lock:
            if _is_over(job, now, ask=not is_first):
                return job
            if self._idle and not self._queue:
                self._idle -= 1
                job.leads = True
            else:
                job.waiting = True
                self._queue.append(job)
        if not job.leads:
            self._wait(job)
        if job.leads:
            self._lead(job)
        return job

    def _wait(self, job: _Job) -> None:
        """Return when `job` is done or leads."""
        left = job.cancellation.deadline - job.queued
        try:
            if job.turn.acquire(timeout=-1 if left > threading.TIMEOUT_MAX else left):
                return
            with self._lock:
                if job.waiting:
                    self._queue.remove(job)
                    job.drop(DeadlineError(time.monotonic() - job.cancellation.arrived))
                    return
            job.turn.acquire()  # its run has begun
        except BaseException:  # Ctrl-C: leave the queue, or pass the lead on
            with self._lock:
                job.gone = True
                if job.waiting:
                    self._queue.remove(job)
                elif job.leads:
                    self._pass_lead(job.to_wake)
            raise

    def _lead(self, job: _Job) -> None:
        """Run `job` together with its companions, and pass the lead on.

        The next leader wakes the companions once its own run has begun. Woken earlier, they would compete with the
        leader for the GIL while the model stands idle (a quarter of the time with 64 clients).
        """
        companions: list[_Job] = []
        size = job.size
        try:
            with self._lock:
                size = self._take_companions(job, companions)
            _wake(job.to_wake)
            self._compute([job, *companions], size)
        except BaseException:  # Ctrl-C in this thread: the companions keep their places
            with self._lock:
                for other in companions:
                    other.waiting = True
                rest = [other for other in self._queue if other.waiting and other not in companions]
                self._queue = deque([*companions, *rest])
                companions = []
            raise
        finally:
            with self._lock:
                self._pass_lead([*job.to_wake, *companions])
        if self.on_run is not None:
            self.on_run(size.texts, size.padded)

    def _take_companions(self, job: _Job, companions: list[_Job]) -> _Size:
        """Move jobs that may share the run of `job` from the queue to `companions`; return the size of the run.

        Jobs nearest in length come first, equal ones in the order of arrival. The lock is held.
        """
        size = job.size
        if not self.shared or not self._queue:
            return size
        now = time.monotonic()
        for other in sorted(self._queue, key=lambda other: abs(other.size.longest - job.size.longest)):
            if (size.texts + 1) * size.longest > self.max_tokens:
                break  # the run is full
            if not self._may_share(size, other.size, self.max_tokens) or _is_over(other, now):
                continue
            other.waiting = False
            companions.append(other)
            size += other.size
        self._queue = deque(other for other in self._queue if other.waiting)
        return size

    def _compute(self, jobs: list[_Job], size: _Size) -> None:
        """Run `jobs` together; when that fails, run each alone, so that only the caller at fault gets the error.

        size: of all `jobs`.
        """
        started = time.monotonic()
        try:
            rows = self._run([encoding for job in jobs for encoding in job.encodings])
        except Exception as error:  # noqa: BLE001 - handed on whole to the caller at fault
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._compute([job], job.size)
            return
        infer_s = time.monotonic() - started
        for job in jobs:
            job.rows, rows = rows[: len(job.encodings)], rows[len(job.encodings) :]
            job.run = ModelRun(job.queued, started, infer_s, size.texts, size.padded)

    def _pass_lead(self, to_wake: list[_Job]) -> None:
        """Let the oldest live job in the queue lead, or every other time the smallest, and wake the jobs `to_wake`.

        The lock is held.
        """
        now = time.monotonic()
        while self._queue:
            job = min(self._queue, key=_padded) if self._smallest_next else self._queue[0]
            self._queue.remove(job)
            if not _is_over(job, now):
                self._smallest_next = not self._smallest_next
                job.waiting, job.leads, job.to_wake = False, True, to_wake
                job.turn.release()
                return
        self._idle += 1
        _wake(to_wake)


def _is_over(job: _Job, now: float, *, ask: bool = True) -> bool:
    """Drop `job` and return True when its deadline passed or, with `ask`, its caller left. The lock is held."""
    if job.gone:
        job.waiting = False
        return True
    error = job.cancellation.error(now, ask=ask)
    if error is None:
        return False
    job.drop(error)
    job.turn.release()
    return True


def _padded(job: _Job) -> int:
    return job.size.padded


def _wake(jobs: list[_Job]) -> None:
    """Wake the callers of the finished `jobs`; empties the list."""
    while jobs:
        jobs.pop(0).turn.release()


def _size(encodings: Sequence[Encoding]) -> _Size:
    return _Size(len(encodings), max(len(encoding.input_ids) for encoding in encodings))
