"""Batching: who shares a run with whom, in which order, and that nobody's answer depends on it."""

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
from inferer.encoding import Encoding

BAD = 99  # a token on which the model fails


def encoding(*ids: int) -> Encoding:
    """Return the encoding of a text with these token ids."""
    array = np.array(ids, dtype=np.int64)
    return Encoding(array, np.ones_like(array), np.zeros_like(array), len(ids), False, len(ids))


def of_length(length: int, first: int = 1) -> Encoding:
    """Return an encoding of `length` tokens."""
    return encoding(first, *[1] * (length - 1))


def logits(one: Encoding) -> list[float]:
    """Return the answer that a text gets alone."""
    return [float(one.input_ids.sum()), float(len(one.input_ids))]


class Model:
    """A model that can be held: it notes its runs, fails on BAD, and starts a run only when it may."""

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
        """Have a caller of its own ask for `encodings`; return once it waits in the queue."""
        before = self.batcher.waiting
        future = self.pool.submit(self.batcher.run, encodings, cancellation)
        end = time.monotonic() + 30
        while self.batcher.waiting == before:
            assert time.monotonic() < end
            time.sleep(0.001)
        return future

    def release(self) -> list[list[int]]:
        """Let all runs end; return, run by run, the lengths that were in it."""
        self.model.held = False
        self.model.may_end.release(64)
        self.first.result(30)
        self.pool.shutdown()
        return [[len(one.input_ids) for one in run] for run in self.model.runs[1:]]


def rows(future: Future[Any]) -> list[list[float]]:
    """Return a caller's answer as plain numbers."""
    return [row.tolist() for row in future.result(30).rows]


def test_what_queued_while_a_run_was_busy_goes_next_together() -> None:
    """Callers who came during a run share the next one, and each gets the answer to his own text."""
    held = Held()
    texts = [of_length(8, first) for first in range(5)]
    answers = [held.queue(text) for text in texts]
    assert held.batcher.waiting == 5
    assert held.release() == [[8] * 5]
    assert [rows(answer) for answer in answers] == [[logits(text)] for text in texts]


def test_a_lone_caller_runs_at_once_in_his_own_thread() -> None:
    """A caller who finds the model idle waits for nobody: the run happens in his thread."""
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
    """A text with more tokens than a run may have is run by itself."""
    held = Held(max_tokens=32)
    held.queue(of_length(40))
    held.queue(of_length(8))
    assert held.release() == [[40], [8]]


def test_texts_are_grouped_by_length() -> None:
    """A run takes texts of like length first, and none whose padding would cost more than a run of its own."""
    far = 10 + RUN_COST_TOKENS + 1
    held = Held(max_tokens=1000)
    for length in (10, far, 12, far, 10):
        held.queue(of_length(length))
    assert held.release() == [[10, 10, 12], [far, far]]


def test_whoever_waited_longest_is_in_the_next_run() -> None:
    """The first of the queue is in each run, however many better matched texts came after it."""
    held = Held(max_tokens=64)
    old = held.queue(of_length(60))
    for _ in range(20):
        held.queue(of_length(8))
    assert held.release()[0] == [60]
    assert old.result(30).rows[0].tolist() == logits(of_length(60))


def test_a_caller_with_many_texts_takes_turns() -> None:
    """A caller with one text waits for one part of a large call at most, not for all of it."""
    held = Held(max_tokens=16)
    held.queue(*[of_length(8)] * 20)
    held.queue(of_length(8, 7))
    lengths = held.release()
    place = next(i for i, run in enumerate(held.model.runs[1:]) if any(one.input_ids[0] == 7 for one in run))
    assert place <= 1
    assert sum(map(len, lengths)) == 21


def test_the_parts_of_a_large_call_come_back_in_order() -> None:
    """Texts of one call, of any lengths, are answered in the order given."""
    rng = random.Random(0)
    texts = [of_length(rng.randint(1, 60), first=1000 + i) for i in range(100)]
    model = Model()
    answer = Batcher(model, max_tokens=128).run(texts)
    assert [row.tolist() for row in answer.rows] == [logits(text) for text in texts]
    assert len(model.runs) < 60
    assert all(len(run) * max(len(one.input_ids) for one in run) <= 128 for run in model.runs)


def test_without_sharing_every_text_runs_by_itself() -> None:
    """With shared=False no run has two texts, of one caller or of several."""
    held = Held(shared=False)
    held.queue(of_length(8), of_length(8))
    held.queue(of_length(8))
    assert held.release() == [[8]] * 3


def test_a_failing_text_fails_only_its_own_caller() -> None:
    """When a run fails, each caller is run by himself, and only the one whose text fails gets the error."""
    held = Held()
    good = [held.queue(of_length(4, first)) for first in (1, 2)]
    bad = held.queue(of_length(4, BAD))
    also = held.queue(of_length(4, 3))
    held.release()
    with pytest.raises(RunError, match="on purpose"):
        bad.result(30)
    assert [rows(answer)[0][0] for answer in (*good, also)] == [4.0, 5.0, 6.0]


def test_a_text_whose_deadline_passed_is_not_run() -> None:
    """A caller whose deadline passes while he waits gets a DeadlineError at that time, and his text costs no run."""
    held = Held()
    late = held.queue(of_length(8), cancellation=Cancellation(time.monotonic() + 0.05))
    with pytest.raises(DeadlineError, match="deadline passed after 0.0"):
        late.result(30)
    assert not held.first.done()
    assert held.batcher.waiting == 0
    assert held.release() == []
    assert held.batcher.stats.dropped == 1


def test_a_deadline_that_passed_before_the_call_is_not_run() -> None:
    """A call that comes too late is refused, and the model stays idle and ready."""
    model = Model()
    batcher = Batcher(model)
    with pytest.raises(DeadlineError):
        batcher.run([of_length(8)], Cancellation(time.monotonic() - 1))
    assert model.runs == []
    assert len(batcher.run([of_length(8)]).rows) == 1


def test_a_deadline_during_the_run_still_gives_the_answer() -> None:
    """A caller whose run has begun gets its answer, though his deadline passes meanwhile."""
    held = Held()
    answer = held.queue(of_length(8), cancellation=Cancellation(time.monotonic() + 0.3))
    held.model.may_end.release()  # the first run ends, the second begins and is held
    assert held.model.started.acquire(timeout=30)
    time.sleep(0.4)
    assert not answer.done()
    held.release()
    assert rows(answer) == [logits(of_length(8))]


def test_a_caller_who_gave_up_costs_no_run() -> None:
    """A caller who is gone when his turn comes gets CallerGoneError, and the next one his turn."""
    held = Held()
    gone = held.queue(of_length(8), cancellation=Cancellation(is_cancelled=lambda: True))
    stays = held.queue(of_length(8, 5), cancellation=Cancellation(is_cancelled=lambda: False))
    assert held.release() == [[8]]
    assert rows(stays) == [logits(of_length(8, 5))]
    with pytest.raises(CallerGoneError):
        gone.result(30)


def test_several_runs_at_once_where_allowed() -> None:
    """With at_once=2 two runs are under way together, and a third waits."""
    held = Held(at_once=2)
    second = held.pool.submit(held.batcher.run, [of_length(5)])
    assert held.model.started.acquire(timeout=30)
    held.queue(of_length(6))
    assert [len(run) for run in held.model.runs] == [1, 1]
    assert held.release() == [[5], [6]]
    assert rows(second) == [logits(of_length(5))]


def test_figures_count_what_was_done() -> None:
    """The stats tell runs, texts, tokens, padding and the largest run; on_run is told of each run."""
    told: list[tuple[int, int]] = []
    held = Held(on_run=lambda texts, tokens: told.append((texts, tokens)))
    for length in (8, 10, 10):
        held.queue(of_length(length))
    held.release()
    stats = held.batcher.stats
    assert (stats.runs, stats.texts, stats.tokens, stats.padding, stats.largest) == (2, 4, 29, 2, 3)
    assert stats.queue_s > 0
    assert told == [(1, 1), (3, 30)]


def test_answers_come_once_the_next_run_has_begun() -> None:
    """Who shared a run has his answer while the next one is still under way."""
    held = Held(max_tokens=16)
    answers = [held.queue(of_length(8, first)) for first in range(2)]
    held.queue(of_length(9))
    for _ in range(2):
        held.model.may_end.release()
        assert held.model.started.acquire(timeout=30)
    try:
        assert [len(answer.result(10).rows) for answer in answers] == [1, 1]
    finally:
        held.release()
    assert [len(run) for run in held.model.runs] == [1, 2, 1]


def test_who_is_interrupted_as_he_takes_the_turn_still_wakes_the_others() -> None:
    """A caller interrupted between the last run and his own leaves those of the last run their answers."""
    interrupts = iter([KeyboardInterrupt])

    def is_cancelled() -> bool:
        for interrupt in interrupts:
            raise interrupt
        return False

    held = Held(max_tokens=16)
    answers = [held.queue(of_length(8, first)) for first in range(2)]
    next_one = held.queue(of_length(8))
    answers.append(held.queue(of_length(8, 2), cancellation=Cancellation(is_cancelled=is_cancelled)))
    held.release()
    assert isinstance(next_one.exception(30), KeyboardInterrupt)
    assert [rows(answer) for answer in answers] == [[logits(of_length(8, first))] for first in range(3)]


@pytest.mark.parametrize("while_running", [True, False])
def test_ctrl_c_in_the_main_thread_loses_nobody_elses_answer(while_running: bool) -> None:
    """Interrupted while it runs a batch or waits, a caller takes his KeyboardInterrupt, and all others get answers."""
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
@given(st.lists(caller, min_size=1, max_size=24), st.booleans(), st.integers(1, 3), st.integers(0, 2))
def test_any_interleaving_gives_each_caller_the_answer_that_he_would_get_alone(
    callers: list[dict[str, Any]], shared: bool, at_once: int, run_ms: int
) -> None:
    """Whoever else calls, fails, is late or gives up, a caller gets the answer to his texts alone, or his own error."""
    runs: list[int] = []

    def model(encodings: Sequence[Encoding]) -> np.ndarray:
        time.sleep(run_ms / 1000)
        runs.append(len(encodings))
        if any(BAD in one.input_ids for one in encodings):
            raise RunError("on purpose")
        return np.array([logits(one) for one in encodings], dtype=np.float32)

    batcher = Batcher(model, shared=shared, max_tokens=64, at_once=at_once)
    cancellation: dict[str, Callable[[], Cancellation]] = {
        "stays": Cancellation,
        "gone": lambda: Cancellation(is_cancelled=lambda: True),
        "late": lambda: Cancellation(time.monotonic() - 1),
        "hurried": lambda: Cancellation(time.monotonic() + 0.002),
    }

    def call(who: dict[str, Any]) -> None:
        time.sleep(who["pause_ms"] / 1000)
        texts = [of_length(length, first) for length, first in who["texts"]]
        try:
            answer = batcher.run(texts, cancellation[who["cancellation"]]())
        except RunError:
            assert any(first == BAD for _, first in who["texts"])
        except DeadlineError:
            assert who["cancellation"] in ("late", "hurried")
        except CallerGoneError:
            assert who["cancellation"] == "gone"
        else:
            assert not any(first == BAD for _, first in who["texts"])
            assert who["cancellation"] != "late"
            assert [row.tolist() for row in answer.rows] == [logits(text) for text in texts]

    with ThreadPoolExecutor(len(callers)) as pool:
        done = [pool.submit(call, who) for who in callers]
        for future in done:
            future.result(60)
    assert batcher.waiting == 0
    assert batcher._idle == at_once
    assert shared or all(size == 1 for size in runs)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.lists(st.integers(1, 40), max_size=12))
def test_nobody_is_passed_by_more_runs_than_callers_before_him(before: list[int], after: list[int]) -> None:
    """A caller with k callers before him is in one of the first k + 1 runs, whoever comes after."""
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
        assert place <= k
    last = next(i for i, run in enumerate(runs) if any(one.input_ids[0] == 8 for one in run))
    assert last <= len(before) + len(after)
