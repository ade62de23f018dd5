"""The log lines of requests, and the secrets that stay out of them, on real gunicorn."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import until
from tests.support.server import ROOT, Server, environment, free_port, serving

pytestmark = pytest.mark.slow

KEY, TEXT = "key-4711-secret", "good plain unmistakable"


def requests(server: Server, count: int) -> list[dict[str, Any]]:
    """Return the log lines of requests, once there are `count`."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in server.logged() if line["logger"] == "inferer.request"]

    until(lambda: len(lines()) >= count)
    assert len(lines()) == count
    return lines()


def test_one_json_object_per_line(tiny_bundle: Path, tmp_path: Path) -> None:
    """A request's line has its id, route, status, times and token counts, and every line of the log is JSON."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        server.predict({"texts": ["good", "good " * 9]}, x_request_id="mine-1")
        server.predict({"text": ""}, x_request_id="mine-2")
        server.request("GET", "/no/where%C3%A9", x_request_id="mine-3")
        good, empty, nowhere = sorted(requests(server, 3), key=lambda line: line["request_id"])
    expected = {"request_id": "mine-1", "method": "POST", "route": "/predict", "status": 200, "texts": 2, "tokens": 14}
    assert expected.items() <= good.items()
    assert good["truncated"] == 1
    assert good["level"] == "info"
    assert good["time"].endswith("+00:00")
    parts = [good[name] for name in ("queue_ms", "tokenize_ms", "infer_ms")]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= good["duration_ms"]
    assert (empty["request_id"], empty["status"]) == ("mine-2", 422)
    assert (nowhere["request_id"], nowhere["route"], nowhere["status"]) == ("mine-3", "unmatched", 404)


@pytest.mark.parametrize(("which", "logged"), [("errors", [422]), ("off", [])])
def test_the_access_log_may_be_errors_alone_or_off(
    tiny_bundle: Path, tmp_path: Path, which: str, logged: list[int]
) -> None:
    """INFERER_ACCESS_LOG leaves out the requests that went well, or all; the start has its lines."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_ACCESS_LOG=which) as server:
        server.predict({"text": "good"})
        server.predict({"text": 7})
        assert [line["status"] for line in requests(server, len(logged))] == logged
        assert any("serving" in line["message"] for line in server.logged())


def test_texts_keys_and_authorization_are_never_logged(tiny_bundle: Path, tmp_path: Path) -> None:
    """No text, key or Authorization header is in the log, with any outcome of the request."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS=KEY) as server:
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x_api_key": KEY}, {"authorization": f"Basic {KEY}x"}):
            server.predict({"text": TEXT}, **headers)
            server.predict({"text": TEXT, "tpo_k": 1}, **headers)
            server.request("POST", f"/predict?api_key={KEY}", json.dumps({"text": TEXT}), **headers)
        requests(server, 9)
        log = server.log.read_text()
    assert KEY not in log
    assert "unmistakable" not in log


def test_texts_are_logged_on_request(tiny_bundle: Path, tmp_path: Path) -> None:
    """With INFERER_LOG_TEXTS=1 a request's line has its texts, but no key."""
    settings = {"INFERER_LOG_TEXTS": "1", "INFERER_API_KEYS": KEY}
    with serving(tiny_bundle, tmp_path / "log", **settings) as server:
        server.predict({"texts": [TEXT, "bad"]}, x_api_key=KEY)
        (line,) = requests(server, 1)
        assert line["input"] == [TEXT, "bad"]
        assert KEY not in server.log.read_text()


def test_health_checks_and_scrapes_are_logged_only_when_they_fail(tiny_bundle: Path, tmp_path: Path) -> None:
    """Successful requests of health checks and Prometheus are not logged."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS=KEY) as server:
        for path in ("/health", "/health/live", "/health/ready"):
            assert server.request("GET", path).status == 200
        assert server.request("GET", "/metrics", x_api_key=KEY).status == 200
        assert server.request("GET", "/metrics").status == 401
        (line,) = requests(server, 1)
        assert (line["route"], line["status"]) == ("/metrics", 401)


def test_a_path_cannot_forge_a_line_or_break_the_json(tiny_bundle: Path, tmp_path: Path) -> None:
    """Line breaks, quotes and bytes other than UTF-8 in a path stay inside their line's JSON."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        for path in ("/a%0a%7b%22level%22%3a1%7d", '/"quoted"', "/%ff%fe", "/" + "x" * 3000):
            server.request("GET", path)
        lines = requests(server, 4)
        assert all(line["status"] == 404 for line in lines)
        assert max(len(line["message"]) for line in lines) < 1000


def test_text_format_is_for_people(tiny_bundle: Path, tmp_path: Path) -> None:
    """With INFERER_LOG_FORMAT=text all lines are text."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_LOG_FORMAT="text") as server:
        server.predict({"text": "good"}, x_request_id="mine")
        until(lambda: " INFO POST /predict 200 in " in server.log.read_text())
        lines = server.log.read_text().splitlines()
        assert any(" INFO serving tiny: " in line for line in lines)
        assert not [line for line in lines if line.startswith("{")]


@pytest.mark.parametrize("good", [True, False])
def test_on_a_terminal_the_default_is_text(tiny_bundle: Path, tmp_path: Path, good: bool) -> None:
    """On a terminal the server writes text, also if it cannot start."""
    ours, theirs = pty.openpty()
    bundle = tiny_bundle if good else tmp_path / "nowhere"
    env = environment(INFERER_BUNDLE=str(bundle), PORT=str(free_port()))
    command = [sys.executable, "-m", "gunicorn", "app:app"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    said = b""
    end = time.monotonic() + 30
    try:
        while (b"try it: " if good else b"cannot start: ") not in said and time.monotonic() < end:
            said += os.read(ours, 10_000)
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours)
    expected = " INFO serving tiny: " if good else f" CRITICAL cannot start: bundle {bundle}: does not exist"
    assert expected in said.decode()
    assert "{" not in said.decode().split("try it")[0]
