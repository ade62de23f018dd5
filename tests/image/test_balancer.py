"""Three containers behind HAProxy, as deploy/haproxy sets it up, under load: one drained, one stopped, one killed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.image.container import Container
from tests.image.engine import Podman
from tests.image.test_running import model_at
from tests.support.apps import until
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import ROOT, free_port

CLIENTS = 16
NAMES = ("one", "two", "three")
BODIES = [json.dumps({"text": text}).encode() for text in ("huggies", "hand bags", "target", "milk and oats")]


@dataclass(frozen=True)
class Balancer:
    """HAProxy and its backends."""

    port: int
    admin: Path
    instances: dict[str, Container]

    def tell(self, command: str) -> str:
        """Send HAProxy a command over its socket and return the reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.admin))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def column(self, name: str, column: str) -> str:
        """Return HAProxy's record of the instance `name`."""
        header, *rows = self.tell("show stat").removeprefix("# ").splitlines()
        where = header.split(",").index(column)
        return next(row.split(",")[where] for row in rows if row.startswith(f"inferer,{name},"))


@pytest.fixture
def balancer(podman: Podman, image: str, demo_bundle: Path, tmp_path: Path) -> Iterator[Balancer]:
    """HAProxy in front of three containers, all of them up."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed (apt-get install haproxy)")
    ports = {name: free_port() for name in NAMES}
    front, admin = free_port(), tmp_path / "admin"
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    changes = {":8080": f"127.0.0.1:{front}", "/run/haproxy/admin.sock": str(admin)}
    for number, name in enumerate(NAMES, 1):
        changes[f"server {name} 127.0.0.1:808{number}"] = f"server {name} 127.0.0.1:{ports[name]}"
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    config = tmp_path / "haproxy.cfg"
    config.write_text(text, encoding="utf-8")
    with ExitStack() as stack:
        instances = {}
        for name, port in ports.items():
            options = (model_at(demo_bundle), "--cpus=1", f"--env=PORT={port}", "--env=INFERER_HOST=127.0.0.1")
            started = stack.enter_context(podman.running(image, options=options, network="host"))
            instances[name] = Container(podman, started.name, port)
        for container in instances.values():
            container.wait_ready()
        log = stack.enter_context((tmp_path / "haproxy.log").open("wb"))
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        balancer = Balancer(front, admin, instances)
        until(admin.exists)
        until(lambda: all(balancer.column(name, "check_status") == "L7OK" for name in NAMES))
        yield balancer


class Asking:
    """A load through the balancer while the block runs; `result` is there after it."""

    def __init__(self, balancer: Balancer, seconds: float = 10) -> None:
        self._plan = Plan(balancer.port, CLIENTS, seconds, BODIES)
        self.result: Result

    def __enter__(self) -> Asking:
        self._thread = threading.Thread(target=lambda: setattr(self, "result", run_in_child(self._plan)))
        self._thread.start()
        time.sleep(3)  # time for the load's process to start
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join()

    def failed(self) -> int:
        """Return the number of requests without a 200."""
        result = self.result
        others = sum(count for status, count in result.statuses.items() if status != 200)
        return others + result.resets + result.cut_short + result.unanswered


def predictions(container: Container) -> float:
    """Return the number of 200s of an instance."""
    text = container.request("GET", "/metrics").body.decode()
    wanted = 'inferer_requests_total{route="/predict",status="200"} '
    return next((float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted)), 0)


def test_one_that_is_drained_loses_no_request(balancer: Balancer) -> None:
    """An instance drained and then stopped fails no request, and the others go on."""
    leaving = balancer.instances["one"]
    with Asking(balancer) as asking:
        assert balancer.tell("set server inferer/one state drain").strip() == ""
        until(lambda: balancer.column("one", "scur") == "0")
        had = predictions(leaving)
        assert had > 0
        time.sleep(1)
        assert predictions(leaving) == had
        assert leaving.stop() == 0
    assert asking.result.statuses[200] > 0
    assert asking.failed() == 0


def test_one_that_is_stopped_without_notice_loses_no_request(balancer: Balancer) -> None:
    """SIGTERM to an active instance fails no request: HAProxy retries unread requests on another."""
    with Asking(balancer) as asking:
        assert balancer.instances["two"].stop() == 0
        until(lambda: balancer.column("two", "status").startswith("DOWN"))
    assert asking.result.statuses[200] > 0
    assert asking.failed() == 0


def test_one_that_is_killed_loses_at_most_what_it_had_in_hand(balancer: Balancer) -> None:
    """SIGKILL of an instance fails at most the requests in flight, and it is active again after its restart."""
    killed = balancer.instances["three"]
    with Asking(balancer) as asking:
        killed.podman("kill", "--signal=KILL", killed.name)
        until(lambda: balancer.column("three", "status").startswith("DOWN"))
    assert asking.result.statuses[200] > 0
    assert asking.failed() <= CLIENTS
    killed.podman("start", killed.name)
    until(lambda: balancer.column("three", "status") == "UP")
    before = predictions(killed)
    with Asking(balancer, 4) as asking:
        pass
    assert asking.failed() == 0
    assert predictions(killed) > before
