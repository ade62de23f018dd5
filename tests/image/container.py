"""A running container: requests inside its own network, a look through /proc, and its stop."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.apps import until
from tests.support.server import Reply, log_lines

if TYPE_CHECKING:
    from tests.image.engine import Podman

_CLONE_NEWNET = 0x40000000
_ENDED = ("exited", "stopped")  # podman calls it "stopped" until its own clean-up has run
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Container:
    """One container of `podman`, by its name."""

    podman: Podman
    name: str
    port: int = 8080

    def state(self) -> dict[str, Any]:
        """Return its state: Status, Pid, ExitCode, OOMKilled."""
        found: dict[str, Any] = json.loads(self.podman("inspect", self.name).stdout)[0]["State"]
        return found

    @property
    def pid(self) -> int:
        """Its process 1, as this machine numbers it."""
        return int(self.state()["Pid"])

    def processes(self) -> list[int]:
        """All its processes, as this machine numbers them; process 1 comes first."""
        first = self.pid
        found = [first]
        for parent in found:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            found.extend(int(child) for child in children)
        return found

    def status(self, pid: int) -> dict[str, str]:
        """Return /proc/PID/status."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def peak_memory(self) -> int:
        """Return the most bytes that its control group has counted, file cache included."""
        groups = Path(f"/proc/{self.pid}/cgroup").read_text().splitlines()
        for line in groups:
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return int(Path(f"/sys/fs/cgroup/memory{path}/memory.max_usage_in_bytes").read_text())
        path = groups[0].split(":", 2)[2]
        return int(Path(f"/sys/fs/cgroup{path}/memory.peak").read_text())

    def connect(self, timeout_s: float = 30) -> HTTPConnection:
        """Return a connection from inside the container's network; the network has no route from here."""
        return _Inside("127.0.0.1", self.port, timeout=timeout_s, pid=self.pid)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send one request, `body` as JSON, on a connection of its own."""
        connection = self.connect()
        try:
            named = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, None if body is None else json.dumps(body), named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def predict(self, text: str) -> Reply:
        """Predict one text."""
        return self.request("POST", "/predict", {"text": text})

    def wait_ready(self, timeout_s: float = 60) -> float:
        """Wait until /health/ready says 200; return the time in s. An ended container raises at once."""
        begun = time.monotonic()
        while time.monotonic() - begun < timeout_s:
            try:
                if self.request("GET", "/health/ready").status == 200:
                    return time.monotonic() - begun
            except OSError:
                if self.state()["Status"] in _ENDED:
                    break
            time.sleep(0.05)
        raise AssertionError(f"not ready after {time.monotonic() - begun:.0f} s: {self.state()}\n{self.log()}")

    def log(self) -> str:
        """Return its output so far."""
        done = self.podman("logs", self.name)
        return done.stdout + done.stderr

    def start_line(self) -> dict[str, Any]:
        """Return the start line of a worker, once podman's log has it."""

        def found() -> list[dict[str, Any]]:
            text = self.log()
            lines = log_lines(text[: text.rfind("\n") + 1])
            return [line for line in lines if line["message"].startswith("serving ")]

        until(found)
        return found()[0]

    def healthcheck(self) -> int:
        """Run the image's own HEALTHCHECK and return its exit code: 0 is healthy."""
        return self.podman("healthcheck", "run", self.name, check=False).returncode

    def wait_exit(self, timeout_s: float = 30) -> int:
        """Wait until it ends and return its exit code."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            state = self.state()
            if state["Status"] in _ENDED:
                return int(state["ExitCode"])
            time.sleep(0.1)
        raise AssertionError(f"still {self.state()['Status']} after {timeout_s:g} s\n{self.log()}")

    def stop(self, grace_s: int = 30) -> int:
        """Send SIGTERM, SIGKILL after `grace_s`, and return the exit code."""
        self.podman("stop", f"--time={grace_s}", self.name)
        return self.wait_exit()


class _Inside(HTTPConnection):
    """An HTTP connection whose socket belongs to the network of another process."""

    def __init__(self, host: str, port: int, *, timeout: float, pid: int) -> None:
        super().__init__(host, port, timeout=timeout)
        self._pid = pid

    def connect(self) -> None:
        def make() -> socket.socket:
            return socket.create_connection((self.host, self.port), self.timeout)

        self.sock = _in_network(self._pid, make)


def _in_network(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """Call `make` on a thread that has joined the network of `pid`: a socket stays in the network of its creation."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def join() -> None:
        try:
            network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            try:
                if _libc.setns(network, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(network)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=join)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
