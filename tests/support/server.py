"""Real gunicorn on a free port of this machine, for tests of behaviour."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60


@dataclass
class Reply:
    """One HTTP reply: status, headers (lower-case names), body as bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running gunicorn."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Reply:
        """Send one request on a connection of its own; `content_type="…"` becomes Content-Type."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def predict(self, body: object, **headers: str) -> Reply:
        """POST `body` as JSON to /predict."""
        return self.request("POST", "/predict", json.dumps(body), content_type="application/json", **headers)

    def logged(self) -> list[dict[str, Any]]:
        """Return the whole lines of the log so far; the last one may be half written.

        The service writes its log a few ms after the event.
        """
        time.sleep(0.1)
        text = self.log.read_text()
        return log_lines(text[: text.rfind("\n") + 1])

    def stop(self, timeout_s: float = 30) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def log_lines(text: str) -> list[dict[str, Any]]:
    """Return the lines of a log, each of which must be a JSON object."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without our variables, and with `settings`."""
    ours = ("INFERER_", "OTEL_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name != "PORT"}
    return {**clean, **settings}


@contextmanager
def serving(
    bundle: Path, log: Path, app: str = "app:app", python: str = sys.executable, **settings: str
) -> Iterator[Server]:
    """Run gunicorn on `bundle` until the block ends; yields once it is ready."""
    port = free_port()
    env = environment(INFERER_BUNDLE=str(bundle), PORT=str(port), **settings)
    with running([python, "-m", "gunicorn", app], port, log, ROOT, env) as server:
        yield server


@contextmanager
def running(command: list[str], port: int, log: Path, cwd: Path, env: dict[str, str]) -> Iterator[Server]:
    """Run a command that serves on `port` until the block ends; yields once it is ready."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=out)
    server = Server(process, port, log)
    try:
        ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ready(server: Server) -> None:
    """Return once `server` is ready; raises RuntimeError if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"gunicorn ended with {server.process.returncode}:\n{server.log.read_text()}")
        try:
            if server.request("GET", "/health/ready").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"gunicorn was not ready after {START_TIMEOUT_S} s:\n{server.log.read_text()}")


def all_ready(server: Server, count: int) -> None:
    """Return once `count` workers have logged that they serve: `ready` returns with the first."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while server.log.read_text().count('"serving ') < count:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)


def raw(server: Server, body: bytes, *, length: int | None = None) -> socket.socket:
    """Return a connection with a request for /predict sent, or with a part of its body if `length` is larger."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body)
    return client


def whole(client: socket.socket) -> bytes:
    """Return a whole JSON reply; its head and body may arrive apart."""
    reply = b""
    while not reply.endswith(b"}"):
        part = client.recv(10_000)
        assert part, reply
        reply += part
    return reply


def workers(server: Server) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children in /proc")
    return [int(pid) for pid in children.read_text().split()]


def run_to_end(
    *command: str, cwd: Path = ROOT, timeout_s: float = 300, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a clean environment, its output as text."""
    return subprocess.run(
        command, cwd=cwd, env=environment(**settings), capture_output=True, text=True, timeout=timeout_s, check=False
    )
