"""Load tests: overload, killed workers, stops, reloads, slow senders, memory. Full sizes in `make soak`.

A separate process generates the load (tests/support/load.py). The tests count statuses, resets and processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inferer import ModelInferer
from tests.service.process.test_reload import point
from tests.support import tiny
from tests.support.apps import comes_to, until
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, serving, workers

FULL = os.environ.get("SOAK") == "1"
CLIENTS = 32
WORDS = ("milk", "huggies", "target", "hand", "bags", "phones", "and", "the", "of", "shoes", "running", "oats")


def bodies(longest: int, count: int = 64) -> list[bytes]:
    """Return requests with texts of 1 to `longest` words."""
    rng = random.Random(0)
    return [
        json.dumps({"text": " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))}).encode() for _ in range(count)
    ]


class Load:
    """A load during a `with` block; `result` is set at its end."""

    def __init__(self, server: Server, seconds: float, clients: int = CLIENTS, longest: int = 40) -> None:
        self._plan = Plan(server.port, clients, seconds, bodies(longest), probe_path="/health/live", probe_every_s=0.05)
        self.result: Result

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: setattr(self, "result", run_in_child(self._plan)))
        self._thread.start()
        time.sleep(1)  # it is a process that has to start
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join()


def linked(bundle: Path, folder: Path, other: str) -> tuple[Path, Path]:
    """Return a link to a copy of `bundle` in `folder`, and another copy beside it, named `other`."""
    for name in ("one", other):
        shutil.copytree(bundle, folder / name)
    link = folder / "current"
    link.symlink_to("one")
    return link, folder / other


def test_overload_is_answered_with_200_429_and_503_alone(demo_bundle: Path, tmp_path: Path) -> None:
    """Ten times too many clients get 200, 429 or 503, no reset; health checks pass, and the server recovers."""
    with serving(demo_bundle, tmp_path / "log") as server:
        result = run_in_child(
            Plan(server.port, 320, 30 if FULL else 4, bodies(16), probe_path="/health/live", probe_every_s=0.05)
        )
        assert set(result.statuses) <= {200, 429, 503}
        assert result.statuses[200] > 0
        assert result.statuses[429] > 0, "the load was too small"
        assert (result.resets, result.unanswered, result.cut_short) == (0, 0, 0)
        assert set(result.probe_statuses) == {200}
        assert result.probe_lost == 0
        assert server.predict({"text": "huggies"}).status == 200
        comes_to(server, 0, "inferer_in_flight_requests")
        comes_to(server, 0, "inferer_queue_size")
        comes_to(server, result.statuses[429], "inferer_requests_total", route="/predict", status="429")


def test_a_killed_worker_loses_only_what_it_had_in_hand(demo_bundle: Path, tmp_path: Path) -> None:
    """After kill -9 of a worker at most one request per client is lost, and a new worker replaces it."""
    with serving(demo_bundle, tmp_path / "log", INFERER_WORKERS="2") as server:
        until(lambda: sum(line["message"].startswith("serving ") for line in server.logged()) == 2)
        with Load(server, 20 if FULL else 6) as load:
            victim = workers(server)[0]
            os.kill(victim, signal.SIGKILL)
        lost = load.result.resets + load.result.cut_short
        assert set(load.result.statuses) == {200}
        assert lost <= CLIENTS
        assert load.result.unanswered == 0
        until(lambda: len(workers(server)) == 2 and victim not in workers(server))
        assert server.predict({"text": "huggies"}).status == 200


def test_sigterm_under_load_answers_every_request_read(demo_bundle: Path, tmp_path: Path) -> None:
    """A stopping server replies to every request it has read, then exits with code 0."""
    with serving(demo_bundle, tmp_path / "log") as server:
        with Load(server, 4) as load:
            assert server.stop() == 0
            time.sleep(0.2)
        answered = [line for line in server.logged() if line["logger"] == "inferer.request"]
        assert {line["status"] for line in answered} == {200}
        assert set(load.result.statuses) == {200}
        # Each that was read was logged, and each that was logged has come. What was reset had not been read.
        assert sum(load.result.statuses.values()) == len(answered)


def test_sighup_under_load_fails_no_request(demo_bundle: Path, tmp_path: Path) -> None:
    """During a reload under load every request gets 200, none is reset, and no health check fails."""
    link, _ = linked(demo_bundle, tmp_path, "two")
    with serving(link, tmp_path / "log") as server:
        before = workers(server)
        with Load(server, 30 if FULL else 12) as load:
            point(link, "two")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: any("in place of" in line["message"] for line in server.logged()), 30)
        assert set(load.result.statuses) == {200}
        assert (load.result.resets, load.result.cut_short, load.result.unanswered, load.result.refused) == (0, 0, 0, 0)
        assert set(load.result.probe_statuses) == {200}
        until(lambda: not set(before) & set(workers(server)))
        assert server.request("GET", "/info").json()["model"] == "two"


def test_slow_senders_fewer_than_the_threads_delay_no_others(demo_bundle: Path, tmp_path: Path) -> None:
    """Under load, beside 12 requests that trickle in, all others get replies, and the 12 get theirs in the end."""
    body = b'{"text": "huggies"}'
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with serving(demo_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(12)]
        with Load(server, 20 if FULL else 4) as load:
            for at in range(0, len(request), 8):
                for client in slow:
                    client.sendall(request[at : at + 8])
                time.sleep(0.1)
        assert set(load.result.statuses) == {200}
        assert load.result.resets == 0
        for client in slow:
            client.settimeout(20)
            assert b'"label":"brand"' in b"".join(iter(lambda c=client: c.recv(4096), b""))


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_is_flat_under_mixed_lengths(demo_bundle: Path, tmp_path: Path) -> None:
    """After the first seconds of mixed lengths up to the maximum, the worker's memory grows by less than a tenth."""
    seconds, first = (60, 10) if FULL else (10, 4)
    bundles = [demo_bundle]
    if FULL:
        bundles.append(long_bundle())
    for bundle in bundles:
        longest = ModelInferer(bundle, golden_check="off").max_length
        with serving(bundle, tmp_path / "log") as server:
            (worker,) = workers(server)
            sizes: list[tuple[float, int]] = []
            with Load(server, seconds + 1, longest=longest) as load:
                started = time.monotonic()
                while time.monotonic() < started + seconds:
                    sizes.append((time.monotonic() - started, resident(worker)))
                    time.sleep(0.2)
            assert set(load.result.statuses) == {200}
            settled = max(size for at, size in sizes if at < first)
            assert max(size for _, size in sizes) <= 1.10 * settled


def long_bundle() -> Path:
    """Return a bundle with a maximum of 512 tokens."""
    from benchmarks.bert_base import bert_base_bundle
    from tests.support.server import ROOT

    return bert_base_bundle(ROOT / "checkpoints" / "query_type")


def test_predictions_under_overload_have_the_bits_of_a_text_alone(demo_bundle: Path, tmp_path: Path) -> None:
    """Under overload, with deadlines passing, every prediction has the bits of the text alone."""
    texts = [json.loads(body)["text"] for body in bodies(60)]
    model = ModelInferer(demo_bundle, batching=False)
    alone = [model.predict(text).as_dict() for text in texts]
    with serving(demo_bundle, tmp_path / "log", INFERER_DEADLINE_MS="150") as server:
        plan = Plan(server.port, 100, 20 if FULL else 4, bodies(60), keep_bodies=True)
        result = run_in_child(plan)
    answers = [(index, json.loads(answer)) for index, status, answer in result.answers if status == 200]
    assert len(answers) > 50
    assert set(result.statuses) <= {200, 429, 503}
    assert all(answer == alone[index] for index, answer in answers)


def test_many_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    """After many reloads under load one worker remains, and no file or process of the others."""
    turns = 20 if FULL else 3
    for name in ("one", "two"):
        tiny.write_bundle(tmp_path / name)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "one")
    with serving(link, tmp_path / "log") as server, ThreadPoolExecutor(1) as pool:
        files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        load = pool.submit(run_in_child, Plan(server.port, 8, 3 * turns, bodies(5)))
        for turn in range(turns):
            point(link, ("two", "one")[turn % 2])
            server.process.send_signal(signal.SIGHUP)
            until(lambda n=turn + 1: sum("in place of" in line["message"] for line in server.logged()) == n, 30)
        result = load.result()
        assert set(result.statuses) == {200}
        assert result.resets == 0
        until(lambda: len(workers(server)) == 1)
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) <= files + 2
