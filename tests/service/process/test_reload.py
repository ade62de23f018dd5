"""SIGHUP on a real gunicorn: a good bundle goes into service, a bad one changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.apps import until
from tests.support.server import ROOT, Server, serving, workers


def hup(server: Server, saying: str) -> dict[str, object]:
    """Send SIGHUP and return the log line with the outcome."""
    before = len(server.logged())
    server.process.send_signal(signal.SIGHUP)
    found: list[dict[str, object]] = []

    def said() -> bool:
        found[:] = [line for line in server.logged()[before:] if str(line["message"]).startswith("SIGHUP: ")]
        return bool(found)

    until(said, 60)
    assert saying in str(found[0]["message"])
    return found[0]


def label(server: Server) -> str:
    """Return the predicted label of the text `good`."""
    return str(server.predict({"text": "good"}).json()["label"])


def running_check(server: Server) -> int:
    """Return the process id of the check of a bundle, once it runs its own program."""
    found: list[int] = []

    def is_running() -> bool:
        found[:] = [pid for pid in workers(server) if b"bundle_check" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return bool(found)

    until(is_running)
    return found[0]


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Return a symbolic link to a bundle whose first label is `pos`; in its neighbour `other` it is `POS`."""
    tiny.write_bundle(tmp_path / "one")
    tiny.write_bundle(tmp_path / "other", labels=("POS", "NEG", "OTHER"))
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "one")
    return link


def point(link: Path, target: str) -> None:
    """Point `link` to its neighbour `target`, atomically."""
    new = link.with_name("new")
    new.symlink_to(link.parent / target)
    new.rename(link)


@pytest.mark.parametrize("count", ["1", "2"])
def test_sighup_puts_another_bundle_into_service(link: Path, tmp_path: Path, count: str) -> None:
    """After the link moves, the old bundle stays until SIGHUP; then new workers serve the new one."""
    with serving(link, tmp_path / "log", INFERER_WORKERS=count) as server:
        until(lambda: len(workers(server)) == int(count))
        before = workers(server)
        point(link, "other")
        assert label(server) == "pos"
        hup(server, f"serving {tmp_path / 'other'} in place of {tmp_path / 'one'}")
        until(lambda: not set(before) & set(workers(server)))
        assert {label(server) for _ in range(10)} == {"POS"}
        assert server.request("GET", "/info").json()["model"] == "other"
        assert len(workers(server)) == int(count)
        point(link, "one")
        hup(server, "in place of")
        until(lambda: label(server) == "pos")
        assert server.stop() == 0


def test_a_killed_worker_comes_back_with_the_model_that_is_in_service(link: Path, tmp_path: Path) -> None:
    """A worker that dies after the link moved, but before SIGHUP, comes back with the old model."""
    with serving(link, tmp_path / "log") as server:
        point(link, "other")
        (pid,) = workers(server)
        os.kill(pid, signal.SIGKILL)
        until(lambda: workers(server) not in ([], [pid]))
        assert label(server) == "pos"


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("byte", "model_quantized.onnx is damaged"),
        ("missing", "does not exist"),
        ("golden", "golden check failed on 1 of 4 texts"),
        ("model", "model_quantized.onnx cannot be loaded"),
    ],
)
def test_sighup_to_a_bad_bundle_changes_nothing_but_one_log_line(
    link: Path, tmp_path: Path, damage: str, why: str
) -> None:
    """A bad bundle is rejected in one line with the reason; the same workers keep their model."""
    bad = tmp_path / "bad"
    if damage == "golden":
        tiny.write_bundle(bad, golden=[{**tiny.GOLDEN[0], "int8": [0.0, 2.0, 0.0]}, *tiny.GOLDEN[1:]])
    elif damage != "missing":
        shutil.copytree(tmp_path / "other", bad)
        (bad / "model_quantized.onnx").write_bytes(b"not a model")
    if damage == "model":
        import json

        tiny.seal(bad, json.loads((bad / "inferer.json").read_text()))
    with serving(link, tmp_path / "log") as server:
        before = workers(server)
        point(link, "bad")
        line = hup(server, f"still serving {tmp_path / 'one'}; ")
        assert why in str(line["message"])
        assert "\n" not in str(line["message"])
        assert [one for one in server.logged() if one["level"] in ("warning", "error", "critical")] == [line]
        assert workers(server) == before
        assert label(server) == "pos"
        assert server.request("GET", "/health/ready").status == 200
        (pid,) = before
        os.kill(pid, signal.SIGKILL)
        until(lambda: workers(server) not in ([], before))
        assert label(server) == "pos"
        assert server.stop() == 0


def test_sigterm_during_the_check_of_a_bundle_stops_the_server(link: Path, tmp_path: Path) -> None:
    """On SIGTERM during a check the server exits with code 0, and the check ends."""
    with serving(link, tmp_path / "log") as server:
        server.process.send_signal(signal.SIGHUP)
        check = running_check(server)
        assert server.stop() == 0
        until(lambda: not Path(f"/proc/{check}").exists())
        assert "Traceback" not in server.log.read_text()


def test_a_worker_killed_during_the_check_of_a_bundle_is_replaced_at_once(link: Path, tmp_path: Path) -> None:
    """During a check a dead worker is replaced, with the model in service; then the check goes on."""
    with serving(link, tmp_path / "log") as server:
        (old,) = workers(server)
        point(link, "other")
        server.process.send_signal(signal.SIGHUP)
        check = running_check(server)
        os.kill(check, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        until(lambda: len(set(workers(server)) - {old, check}) == 1)
        assert label(server) == "pos"
        os.kill(check, signal.SIGCONT)
        until(lambda: label(server) == "POS")
        assert server.stop() == 0


def test_an_old_worker_does_not_wait_for_the_rest_of_a_request(
    link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGHUP an old worker exits after its grace period even if a client never completes its request."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--graceful-timeout 1")
    with serving(link, tmp_path / "log") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert label(server) == "pos"
        (old,) = workers(server)
        hup(server, "in place of")
        until(lambda: old not in workers(server))
        assert label(server) == "pos"


# The real application, but workers after the first two exit while they start, each later than the one before.
CANNOT_START_AGAIN = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path

started = Path({started!r})
with started.open("a") as file:
    file.write("x")
number = started.stat().st_size
if number > 2:
    time.sleep(0.4 * (number - 2))
    sys.exit(3)
from app import app
"""


def test_new_workers_that_cannot_start_are_ended_and_the_old_ones_stay(
    link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the check passes but new workers end one after another, the same old workers go on serving."""
    source = CANNOT_START_AGAIN.format(root=str(ROOT), started=str(tmp_path / "started"))
    (tmp_path / "once_app.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(link, tmp_path / "log", "once_app:app", INFERER_WORKERS="2") as server:
        until(lambda: sum(line["message"].startswith("serving ") for line in server.logged()) == 2)
        before = workers(server)
        point(link, "other")
        hup(server, "a new worker ended while it started")
        time.sleep(1.5)
        assert workers(server) == before
        assert {label(server) for _ in range(6)} == {"pos"}
        assert server.stop() == 0
