"""Processes that score batches side by side, each with a model on one thread; the results keep the input's order."""

from __future__ import annotations

import collections
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from bulk.errors import JobError
from bulk.models import model_at
from bulk.scoring import ScoreOptions, score

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_AHEAD = 2  # batches per process that wait or run

_state: dict[str, Any] = {}  # of a worker process: its model and its options


def _start(parent: int, bundle: str, model_options: dict[str, Any], options: ScoreOptions) -> None:
    """Load the model of a worker process, which ends with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    _state.update(model=model_at(bundle, model_options, threads=1), options=options)


def _score(batch: pa.RecordBatch) -> pa.RecordBatch:
    (scored,) = score([batch], _state["model"], _state["options"])
    return scored


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back in the block, and for good in a process that starts in it: its parent ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def scored(
    batches: Iterable[pa.RecordBatch],
    bundle: str,
    model_options: dict[str, Any],
    options: ScoreOptions,
    processes: int,
) -> Iterator[pa.RecordBatch]:
    """Yield `batches` with their predictions, in order. At most a few batches per process are in memory.

    Raises JobError where a process dies, as one does that the system kills for want of memory.
    """
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(os.getpid(), bundle, model_options, options),
    )
    waiting: collections.deque[Future[pa.RecordBatch]] = collections.deque()
    try:
        for batch in batches:
            with _without_interrupts():  # submitting may start a process
                waiting.append(pool.submit(_score, batch))
            if len(waiting) >= _AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        remedy = "the same command continues; fewer --processes need less memory"
        raise JobError(f"a process that scores was killed, perhaps for want of memory; {remedy}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
