"""Clients that send the worst texts: others and health are answered, deadlines hold, and limits refuse."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.process.attacks.hogs import HOGS
from tests.support.apps import metric, until
from tests.support.load import Plan, run_in_child
from tests.support.server import Server, raw, serving

FULL = os.environ.get("SOAK") == "1"
SMALL = json.dumps({"text": "where is the nearest station and when does it open"}).encode()
# Beyond every hog's tokens, so that the texts are tokenized whole.
NO_LIMIT = {"INFERER_MAX_TOKENS_PER_REQUEST": "100000000"}


@pytest.fixture(scope="module")
def hogged(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the demo bundle, without a limit on tokens."""
    with serving(demo_bundle, tmp_path_factory.mktemp("hogs") / "log", **NO_LIMIT) as server:
        yield server


def post(server: Server, name: str, **headers: str) -> tuple[int, str, float]:
    """Send a hog's request; return the status, the error and the seconds until the reply."""
    hog, started = HOGS[name], time.monotonic()
    reply = server.request("POST", hog.path, hog.body, content_type="application/json", **headers)
    return reply.status, reply.json().get("error", ""), time.monotonic() - started


@pytest.mark.parametrize("count", [1, 4] if FULL else [4])
@pytest.mark.parametrize("name", HOGS if FULL else ["words", "dots"])
def test_a_small_client_and_health_beside_hogs(hogged: Server, name: str, count: int) -> None:
    """Beside clients of slow texts a small one gets its replies, and health replies; idle it takes 5 ms.

    The bounds are for a busy machine. With the GIL held over a text these figures were 1 to 5 s.
    """
    hog = HOGS[name]
    with ThreadPoolExecutor(1) as pool:
        hogs = pool.submit(run_in_child, Plan(hogged.port, count, 4, [hog.body], hog.path, patience_s=60))
        plan = Plan(hogged.port, 1, 2, [SMALL], warm_up_s=1, probe_path="/health/live", probe_every_s=0.05)
        small = run_in_child(plan)
        assert hogs.result().statuses
    assert set(small.statuses) == {200}
    assert small.percentile(50) < 150
    assert small.percentile(99) < 500
    assert set(small.probe_statuses) == {200}
    assert max(small.probe_ms) < 500


@pytest.mark.parametrize("name", ["words", "dots", "endless_word", "explain_head", "windows", "texts"])
def test_a_deadline_holds_whatever_the_text(hogged: Server, name: str) -> None:
    """A request of a slow text is answered soon after its deadline, with the time since its arrival.

    With the deadline unknown to the tokenizer "words" took 4.5 s.
    """
    status, error, seconds = post(hogged, name, x_request_timeout_ms="100")
    assert seconds < 0.8
    if status == 200:  # the last run began in time
        return
    assert status == 503
    told = re.fullmatch(r"the deadline passed before the last run for this request, (\d+) ms after its arrival", error)
    assert told
    assert 100 <= int(told[1]) <= seconds * 1000


def test_a_client_that_leaves_ends_the_work_on_its_text(hogged: Server) -> None:
    """A client that closes its connection while its texts are tokenized ends that work at the next piece."""

    def gone() -> float:
        return metric(hogged, "inferer_rejected_total", reason="caller_gone")

    before = gone()
    with raw(hogged, HOGS["words"].body) as client:
        time.sleep(0.3)
        client.shutdown(socket.SHUT_RDWR)
    until(lambda: gone() > before, 1.5)


def test_more_tokens_than_allowed_are_refused_while_they_are_counted(demo_bundle: Path, tmp_path: Path) -> None:
    """A request of more tokens than INFERER_MAX_TOKENS_PER_REQUEST gets 422, long before all are counted."""
    with serving(demo_bundle, tmp_path / "log", INFERER_MAX_TOKENS_PER_REQUEST="20000") as server:
        for name, field in (("dots", "texts[0]"), ("windows", "text"), ("explain", "text")):
            status, error, seconds = post(server, name)
            assert status == 422
            told = re.fullmatch(rf"field '{re.escape(field)}': (\d+) tokens up to here.* may have 20000", error)
            assert told, error
            assert 20_000 < int(told[1]) < 30_000
            assert seconds < 2
        assert server.predict({"texts": ["a" + " b" * 9_000] * 2}).status == 200
