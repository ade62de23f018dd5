"""The limit of connections against the limit of open files."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.apps import until
from tests.support.server import ROOT, Server, serving, whole, workers

_ASK = """
import resource, sys
soft, hard, threads = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from service.process.resources import max_connections
print(max_connections(threads), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def _connections(soft: int, hard: int, threads: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _ASK, *map(str, (soft, hard, threads))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("soft", "hard", "threads", "expected"),
    [
        (5000, 5000, 72, (4000, 5000)),
        (1024, 5000, 72, (4000, 4100)),
        (1024, 9000, 2500, (5000, 5100)),
        (1024, 1024, 500, (924, 1024)),
        (256, 300, 72, (200, 300)),
    ],
)
def test_connections_fit_into_the_files(soft: int, hard: int, threads: int, expected: tuple[int, int]) -> None:
    """The soft limit rises as needed up to the hard limit; beyond that, the worker takes fewer connections."""
    assert tuple(map(int, _connections(soft, hard, threads).stdout.split())) == expected


def test_too_few_files_for_the_threads_stop_the_start() -> None:
    """A limit below one connection per thread stops the start; the message has the numbers and the settings."""
    ended = _connections(128, 128, 72)
    assert ended.returncode != 0
    assert "72 threads need more than 172 open files and the limit is 128" in ended.stderr.splitlines()[-1]


def _idle(server: Server, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Return connections that have been silent long enough to be closed for others."""
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(count)]
    time.sleep(2.5)
    return clients


def test_idle_connections_make_room_for_new_ones(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many silent connections as a worker takes, the longest-idle ones close and others get replies."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections 300")
    with serving(tiny_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        (worker,) = workers(server)
        idle = _idle(server, 300, stack)
        for _ in range(3):
            assert server.request("GET", "/health/live").status == 200  # on a connection of its own
        assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"live" in whole(idle[-1])
        assert workers(server) == [worker]


def test_connections_reset_while_room_is_made_leave_the_worker_alone(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle connections that end just as others arrive, at the limit, leave the worker as it was."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections 100")
    with serving(tiny_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        (worker,) = workers(server)
        idle = _idle(server, 92, stack)
        for one in range(0, 90, 10):
            os.kill(worker, signal.SIGSTOP)  # so that both come in one round of its poller
            for client in idle[one : one + 10]:
                client.close()
            for _ in range(10):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            os.kill(worker, signal.SIGCONT)
        assert server.request("GET", "/health/live").status == 200
        assert workers(server) == [worker]


def test_clients_that_do_not_close_use_up_no_files(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker keeps only a bounded number of connections whose clients do not close their side."""
    with serving(tiny_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        (worker,) = workers(server)
        before = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert b"live" in whole(client)
        until(lambda: len(list(Path(f"/proc/{worker}/fd").iterdir())) < before + 100, 3)
        assert workers(server) == [worker]


def test_a_worker_without_files_left_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    """At the file limit the worker logs it, replies on open connections, and later on new ones."""
    with serving(tiny_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        (worker,) = workers(server)
        client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"live" in whole(client)
        open_now = max(int(file.name) for file in Path(f"/proc/{worker}/fd").iterdir())
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_now + 4, open_now + 4))
        with contextlib.ExitStack() as many:
            for _ in range(40):
                many.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            for _ in range(3):
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"live" in whole(client)
        assert server.predict({"text": "good"}).status == 200
        assert workers(server) == [worker]
        said = [line["message"] for line in server.logged() if "no connection can be accepted" in line["message"]]
        assert len(said) == 1
