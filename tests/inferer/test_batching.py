"""Batching: the texts and the order of runs, deadlines, failures, and results that depend on neither."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferer import CallerGoneError, DeadlineError, RunError
from inferer.batching import RUN_COST_TOKENS, Batcher, Cancellation
from inferer.tokens.encoding import Encoding

BAD = 99  # a token on which the model fails


def encoding(*ids: int) -> Encoding:
    """Return the encoding of a text with these token ids."""
    array = np.array(ids, dtype=np.int64)
    return Encoding(array, np.ones_like(array), np.zeros_like(array), len(ids), False, len(ids))


def of_length(length: int, first: int = 1) -> Encoding:
    """Return an encoding of `length` tokens."""
    return encoding(first, *[1] * (length - 1))


def logits(one: Encoding) -> list[float]:
    """Return the logits that a text gets alone."""
    return [float(one.input_ids.sum()), float(len(one.input_ids))]


class Model:
    """A model that records its runs, fails on BAD, and ends a run only with permission while it is held."""

    def __init__(self) -> None:
        self.runs: list[list[Encoding]] = []
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.held = False

    def __call__(self, encodings: Sequence[Encoding]) -> np.ndarray:
        """Return the logits of `encodings`."""
        self.runs.append(list(encodings))
        if self.held:
            self.started.release()
            assert self.may_end.acquire(timeout=30)
        if any(BAD in one.input_ids for one in encodings):
            raise RunError("on purpose")
        return np.array([logits(one) for one in encodings], dtype=np.float32)


class Held:
    """A batcher whose model is busy with one text until `release`; callers are queued in a known order."""

    def __init__(self, **options: Any) -> None:
        self.model = Model()
        self.batcher = Batcher(self.model, **options)
        self.pool = ThreadPoolExecutor(64)
        self.model.held = True
        self.first = self.pool.submit(self.batcher.run, [of_length(1)])
        assert self.model.started.acquire(timeout=30)

    def queue(self, *encodings: Encoding, cancellation: Cancellation | None = None) -> Future[Any]:
        """Run `encodings` for a new caller; return once it waits in the queue."""
        before = self.batcher.waiting
        future = self.pool.submit(self.batcher.run, encodings, cancellation)
        end = time.monotonic() + 30
        while self.batcher.waiting == before:
            assert time.monotonic() < end
            time.sleep(0.001)
        return future

    def release(self) -> list[list[int]]:
        """Let all runs end; return the lengths of the texts of each run."""
        self.model.held = False
        self.model.may_end.release(64)
        self.first.result(30)
        self.pool.shutdown()
        return [[len(one.input_ids) for one in run] for run in self.model.runs[1:]]


def rows(future: Future[Any]) -> list[list[float]]:
    """Return a caller's logits as plain numbers."""
    return [row.tolist() for row in future.result(30).rows]


def test_texts_queued_during_a_run_share_the_next() -> None:
    """Callers that arrive during a run share the next one, and each gets the logits of its own text."""
    held = Held()
    texts = [of_length(8, first) for first in range(5)]
    results = [held.queue(text) for text in texts]
    assert held.batcher.waiting == 5
    assert held.release() == [[8] * 5]
    assert [rows(result) for result in results] == [[logits(text)] for text in texts]
    assert all(run.started > run.queued for result in results for run in result.result(30).runs)


def test_a_lone_caller_runs_at_once_in_its_own_thread() -> None:
    """A caller that finds the model idle runs at once, in its own thread."""
    threads = []

    def run(encodings: Sequence[Encoding]) -> np.ndarray:
        threads.append(threading.current_thread())
        return np.zeros((len(encodings), 2), np.float32)

    Batcher(run).run([of_length(4)])
    assert threads == [threading.current_thread()]


def test_a_run_is_bounded_in_tokens_with_padding() -> None:
    """No run of several texts has more tokens than allowed, padding included."""
    held = Held(max_tokens=32)
    for _ in range(9):
        held.queue(of_length(8))
    assert held.release() == [[8] * 4, [8] * 4, [8]]


def test_a_text_longer_than_the_bound_runs_alone() -> None:
    """A text with more tokens than a run may have runs alone."""
    held = Held(max_tokens=32)
    held.queue(of_length(40))
    held.queue(of_length(8))
    assert held.release() == [[8], [40]]


def test_texts_are_grouped_by_length() -> None:
    """A run takes texts of similar length first, and no text whose padding costs more than another run."""
    far = 10 + RUN_COST_TOKENS + 1
    held = Held(max_tokens=1000)
    for length in (10, far, 12, far, 10):
        held.queue(of_length(length))
    assert held.release() == [[10, 10, 12], [far, far]]


def test_the_oldest_and_the_smallest_lead_in_turn() -> None:
    """The head of the queue is in one of the next two runs, however many smaller texts came later."""
    held = Held(max_tokens=64)
    old = held.queue(of_length(60))
    for _ in range(20):
        held.queue(of_length(8))
    assert held.release() == [[8] * 8, [60], [8] * 8, [8] * 4]
    assert old.result(30).rows[0].tolist() == logits(of_length(60))


def test_a_small_text_waits_for_one_large_run_however_many_wait() -> None:
    """Small texts that come while large ones wait start after at most one large run, and large ones start between."""
    held = Held(max_tokens=64)
    for _ in range(6):
        held.queue(of_length(60))
    small = [held.queue(of_length(length, 7)) for length in (4, 5)]
    held.model.may_end.release()  # the run in progress ends; the small texts share the next
    assert held.model.started.acquire(timeout=30)
    late = held.queue(of_length(3, 9))
    assert held.release() == [[4, 5], [60], [3], [60], [60], [60], [60], [60]]
    assert [rows(one) for one in (*small, late)] == [[logits(of_length(*of))] for of in ((4, 7), (5, 7), (3, 9))]


def test_a_caller_with_many_texts_takes_turns() -> None:
    """A caller with one text waits for at most one part of a large call."""
    held = Held(max_tokens=16)
    held.queue(*[of_length(8)] * 20)
    held.queue(of_length(8, 7))
    lengths = held.release()
    place = next(i for i, run in enumerate(held.model.runs[1:]) if any(one.input_ids[0] == 7 for one in run))
    assert place <= 1
    assert sum(map(len, lengths)) == 21


def test_the_parts_of_a_large_call_come_back_in_order() -> None:
    """The results of one call, with texts of any lengths, are in the order given."""
    rng = random.Random(0)
    texts = [of_length(rng.randint(1, 60), first=1000 + i) for i in range(100)]
    model = Model()
    result = Batcher(model, max_tokens=128).run(texts)
    assert [row.tolist() for row in result.rows] == [logits(text) for text in texts]
    assert len(model.runs) < 60
    assert all(len(run) * max(len(one.input_ids) for one in run) <= 128 for run in model.runs)


def test_without_sharing_every_text_runs_alone() -> None:
    """With shared=False no run has two texts, of one caller or of several."""
    held = Held(shared=False)
    held.queue(of_length(8), of_length(8))
    held.queue(of_length(8))
    assert held.release() == [[8]] * 3


def test_a_failing_text_fails_only_its_own_caller() -> None:
    """When a run fails, each caller is run alone, and only the caller of the failing text gets the error."""
    held = Held()
    good = [held.queue(of_length(4, first)) for first in (1, 2)]
    bad = held.queue(of_length(4, BAD))
    also = held.queue(of_length(4, 3))
    held.release()
    with pytest.raises(RunError, match="on purpose"):
        bad.result(30)
    assert [rows(result)[0][0] for result in (*good, also)] == [4.0, 5.0, 6.0]


def test_a_text_whose_deadline_passed_is_not_run() -> None:
    """A caller whose deadline passes in the queue gets a DeadlineError at that time, and its text costs no run."""
    held = Held()
    late = held.queue(of_length(8), cancellation=Cancellation(time.monotonic() + 0.05))
    with pytest.raises(DeadlineError, match="deadline passed after 0.0"):
        late.result(30)
    assert not held.first.done()
    assert held.batcher.waiting == 0
    assert held.release() == []


def test_a_deadline_that_passed_before_the_call_is_not_run() -> None:
    """A call after its deadline is refused, and the model stays idle and ready."""
    model = Model()
    batcher = Batcher(model)
    with pytest.raises(DeadlineError):
        batcher.run([of_length(8)], Cancellation(time.monotonic() - 1))
    assert model.runs == []
    assert len(batcher.run([of_length(8)]).rows) == 1


def test_a_deadline_during_the_run_still_gives_the_result() -> None:
    """A caller whose run has begun gets its result, though its deadline passes meanwhile."""
    held = Held()
    result = held.queue(of_length(8), cancellation=Cancellation(time.monotonic() + 0.3))
    held.model.may_end.release()  # the first run ends, the second begins and is held
    assert held.model.started.acquire(timeout=30)
    time.sleep(0.4)
    assert not result.done()
    held.release()
    assert rows(result) == [logits(of_length(8))]


def test_a_caller_that_left_costs_no_run() -> None:
    """A caller that has left when its turn comes gets CallerGoneError, and the next caller the turn."""
    held = Held()
    gone = held.queue(of_length(8), cancellation=Cancellation(is_cancelled=lambda: True))
    stays = held.queue(of_length(8, 5), cancellation=Cancellation(is_cancelled=lambda: False))
    assert held.release() == [[8]]
    assert rows(stays) == [logits(of_length(8, 5))]
    with pytest.raises(CallerGoneError):
        gone.result(30)


def test_several_runs_at_once_when_allowed() -> None:
    """With at_once=2 two runs are in progress together, and a third waits."""
    held = Held(at_once=2)
    second = held.pool.submit(held.batcher.run, [of_length(5)])
    assert held.model.started.acquire(timeout=30)
    held.queue(of_length(6))
    assert [len(run) for run in held.model.runs] == [1, 1]
    assert held.release() == [[5], [6]]
    assert rows(second) == [logits(of_length(5))]


def test_the_texts_of_a_call_are_spread_over_runs_side_by_side() -> None:
    """A lone call of many texts has as many runs in progress as allowed, of equal size, and its rows in order."""
    model = Model()
    model.held = True
    batcher = Batcher(model, at_once=2, parts=2)
    texts = [of_length(20, first) for first in range(1, 13)]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(batcher.run, texts)
        assert all(model.started.acquire(timeout=30) for _ in range(2))
        assert [len(run) for run in model.runs] == [6, 6]
        model.may_end.release(2)
        assert rows(call) == [logits(text) for text in texts]
    assert len(call.result().runs) == 2


def test_a_small_call_is_not_spread() -> None:
    """Texts of few tokens together share one run: a second thread would come too late."""
    model = Model()
    Batcher(model, at_once=2, parts=2).run([of_length(8)] * 8)
    assert [len(run) for run in model.runs] == [8]


def test_a_failing_part_ends_its_call() -> None:
    """The error of one part is the call's, no later part begins, and the batcher is idle again."""
    model = Model()
    batcher = Batcher(model, max_tokens=64, at_once=2, parts=2)
    texts = [of_length(60, BAD), *[of_length(61 + i) for i in range(40)]]
    with pytest.raises(RunError, match="on purpose"):
        batcher.run(texts)
    assert len(model.runs) < 20
    assert rows(ThreadPoolExecutor(1).submit(batcher.run, [of_length(3)])) == [logits(of_length(3))]


def test_each_run_is_reported() -> None:
    """on_run gets the texts and the tokens, padding included, of each run."""
    runs: list[tuple[int, int]] = []
    held = Held()
    held.batcher.on_run = lambda texts, tokens: runs.append((texts, tokens))
    for length in (8, 10, 10):
        held.queue(of_length(length))
    held.release()
    assert runs == [(1, 1), (3, 30)]


def test_results_arrive_once_the_next_run_has_begun() -> None:
    """Callers that shared a run have their results while the next run is in progress."""
    held = Held(max_tokens=16)
    results = [held.queue(of_length(8, first)) for first in range(2)]
    held.queue(of_length(9))
    for _ in range(2):
        held.model.may_end.release()
        assert held.model.started.acquire(timeout=30)
    try:
        assert [len(result.result(10).rows) for result in results] == [1, 1]
    finally:
        held.release()
    assert [len(run) for run in held.model.runs] == [1, 2, 1]


def test_a_leader_interrupted_before_its_run_still_wakes_the_others() -> None:
    """A caller interrupted between the last run and its own still wakes the callers of the last run."""
    interrupts = iter([KeyboardInterrupt])

    def is_cancelled() -> bool:
        for interrupt in interrupts:
            raise interrupt
        return False

    held = Held(max_tokens=16)
    results = [held.queue(of_length(8, first)) for first in range(2)]
    next_one = held.queue(of_length(8))
    results.append(held.queue(of_length(8, 2), cancellation=Cancellation(is_cancelled=is_cancelled)))
    held.release()
    assert isinstance(next_one.exception(30), KeyboardInterrupt)
    assert [rows(result) for result in results] == [[logits(of_length(8, first))] for first in range(3)]


@pytest.mark.parametrize("while_running", [True, False])
def test_ctrl_c_in_the_main_thread_loses_no_other_result(while_running: bool) -> None:
    """A caller interrupted in a run or in the queue gets KeyboardInterrupt, and all others get results."""
    model = Model()
    batcher = Batcher(model)
    pool = ThreadPoolExecutor(8)
    others: list[Future[Any]] = []
    interrupted = threading.Event()

    def run(encodings: Sequence[Encoding]) -> np.ndarray:
        if threading.current_thread() is threading.main_thread() and not interrupted.is_set():
            others.extend(pool.submit(batcher.run, [of_length(4, i)]) for i in range(4))
            while batcher.waiting < 4:
                time.sleep(0.001)
            interrupted.set()
            raise KeyboardInterrupt
        if not while_running and not interrupted.is_set():
            while batcher.waiting < 1:
                time.sleep(0.001)
            time.sleep(0.1)
            interrupted.set()
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)
        return model(encodings)

    batcher._run = run
    if not while_running:
        busy = pool.submit(batcher.run, [of_length(4, 0)])
        while batcher._idle:
            time.sleep(0.001)
        others += [busy]
    with pytest.raises(KeyboardInterrupt):
        batcher.run([of_length(3)])
    assert len(others) == (4 if while_running else 1)
    assert [rows(other) for other in others] == [[logits(of_length(4, i))] for i in range(len(others))]
    assert rows(pool.submit(batcher.run, [of_length(2)])) == [logits(of_length(2))]
    assert batcher.waiting == 0
    pool.shutdown()


# Any interleaving

caller = st.fixed_dictionaries(
    {
        "texts": st.lists(st.tuples(st.integers(1, 40), st.sampled_from((1, 2, 3, BAD))), min_size=1, max_size=4),
        "cancellation": st.sampled_from(("stays", "stays", "stays", "gone", "late", "hurried")),
        "pause_ms": st.integers(0, 3),
    }
)


@settings(max_examples=150)
@given(st.lists(caller, min_size=1, max_size=24), st.booleans(), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_any_interleaving_gives_each_caller_the_result_that_it_would_get_alone(
    callers: list[dict[str, Any]], shared: bool, at_once: int, run_ms: int, spread: bool
) -> None:
    """Whatever other callers do, a caller gets the logits of its texts alone, or its own error."""
    runs: list[int] = []

    def model(encodings: Sequence[Encoding]) -> np.ndarray:
        time.sleep(run_ms / 1000)
        runs.append(len(encodings))
        if any(BAD in one.input_ids for one in encodings):
            raise RunError("on purpose")
        return np.array([logits(one) for one in encodings], dtype=np.float32)

    parts = at_once if spread else 1
    batcher = Batcher(model, shared=shared, max_tokens=64, at_once=at_once, parts=parts)
    cancellation: dict[str, Callable[[], Cancellation]] = {
        "stays": Cancellation,
        "gone": lambda: Cancellation(is_cancelled=lambda: True),
        "late": lambda: Cancellation(time.monotonic() - 1),
        "hurried": lambda: Cancellation(time.monotonic() + 0.002),
    }

    def call(one: dict[str, Any]) -> None:
        time.sleep(one["pause_ms"] / 1000)
        texts = [of_length(length, first) for length, first in one["texts"]]
        try:
            result = batcher.run(texts, cancellation[one["cancellation"]]())
        except RunError:
            assert any(first == BAD for _, first in one["texts"])
        except DeadlineError:
            assert one["cancellation"] in ("late", "hurried")
        except CallerGoneError:
            assert one["cancellation"] == "gone"
        else:
            assert not any(first == BAD for _, first in one["texts"])
            assert one["cancellation"] != "late"
            assert [row.tolist() for row in result.rows] == [logits(text) for text in texts]

    with ThreadPoolExecutor(len(callers)) as pool:
        done = [pool.submit(call, one) for one in callers]
        for future in done:
            future.result(60)
    assert batcher.waiting == 0
    assert batcher._idle == at_once
    assert shared or all(size == 1 for size in runs)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.lists(st.integers(1, 40), max_size=12))
def test_no_caller_waits_for_more_runs_than_callers_before_it(before: list[int], after: list[int]) -> None:
    """A caller behind k others is in one of the first 2k + 2 runs, however many callers come later."""
    held = Held(max_tokens=64)
    for length in before:
        held.queue(of_length(length))
    for length in after:
        held.queue(of_length(length, 7))
    held.queue(of_length(9, 8))
    held.release()
    runs = held.model.runs[1:]
    for k, length in enumerate(before):
        place = next(i for i, run in enumerate(runs) if any(len(one.input_ids) == length for one in run))
        assert place <= 2 * k + 1
    last = next(i for i, run in enumerate(runs) if any(one.input_ids[0] == 8 for one in run))
    assert last <= 2 * (len(before) + len(after)) + 1
