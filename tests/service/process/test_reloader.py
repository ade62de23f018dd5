"""The steps of a reload on a stand-in for gunicorn's Arbiter: faults that a real server meets rarely."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.errors import HaltServer

from service.process import reload
from service.process.reload import BUNDLE, Reloader


class Arbiter:
    """The parts of an Arbiter with `num_workers` workers that Reloader uses; a test starts and ends workers."""

    LISTENERS = (None,)  # empty once the server stops

    def __init__(self, num_workers: int) -> None:
        self.num_workers, self.worker_age = num_workers, num_workers
        self.WORKERS: dict[int, Any] = {pid: worker(pid, 0.0) for pid in range(1, num_workers + 1)}
        self.lines: list[str] = []
        self.killed: list[int] = []
        self.cfg = SimpleNamespace(graceful_timeout=25)
        self.log = SimpleNamespace(info=self.note, error=self.note, reopen_files=lambda: None)
        self.manage: Callable[[], None] = lambda: None

    def note(self, line: str, *values: object) -> None:
        """Keep a line of the log."""
        self.lines.append(line % values)

    def manage_workers(self) -> None:
        """Do what the test says."""
        self.manage()

    def reap_workers(self) -> None:
        """Reap nothing."""

    def kill_worker(self, pid: int, _signal: int) -> None:
        """Note the worker."""
        self.killed.append(pid)

    def start(self, pid: int, beat: float = 0.0) -> None:
        """Add a worker; `beat` is its last heartbeat."""
        self.worker_age += 1
        self.WORKERS[pid] = worker(self.worker_age, beat)


def worker(age: int, beat: float) -> SimpleNamespace:
    """Return a worker with an age and a heartbeat."""
    return SimpleNamespace(age=age, tmp=SimpleNamespace(last_update=lambda: beat))


@pytest.fixture
def arbiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arbiter:
    """An Arbiter of two workers with a Reloader, on the bundle `old`; the check of a bundle always finds `new`."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(BUNDLE, "")
    code = f"print({str(tmp_path / 'new')!r})"
    monkeypatch.setattr(reload, "_CHECK", SimpleNamespace(command=lambda _: [sys.executable, "-c", code]))
    made = Arbiter(2)
    Reloader(made, tmp_path / "link", tmp_path / "old", 0)
    return made


def request(arbiter: Arbiter) -> None:
    """Send SIGHUP and take steps until the check has ended."""
    arbiter.handle_hup()  # type: ignore[attr-defined]  # Reloader puts it in
    for _ in range(1000):
        arbiter.manage_workers()
        if arbiter.num_workers > 2 or arbiter.lines:
            return
        subprocess.run(["sleep", "0.01"], check=True)


def test_a_reload_without_a_temporary_file_is_rejected(arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary file can be made, as on a read-only root without /tmp, the server goes on and says so."""

    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(reload.tempfile, "TemporaryFile", fail)
    request(arbiter)
    assert "still serving" in arbiter.lines[0]
    assert "no usable temporary directory" in arbiter.lines[0]
    assert arbiter.num_workers == 2


def test_a_worker_that_cannot_be_forked_rejects_the_reload(arbiter: Arbiter, tmp_path: Path) -> None:
    """When a new worker cannot be forked, those that started are stopped and the old bundle stays."""
    request(arbiter)
    assert arbiter.num_workers == 4

    def fail() -> None:
        arbiter.start(3)
        raise BlockingIOError("no more processes")

    arbiter.manage = fail
    arbiter.manage_workers()
    assert "no more processes" in arbiter.lines[0]
    assert arbiter.killed == [3]
    assert os.environ[BUNDLE] == str(tmp_path / "old")
    arbiter.manage = lambda: None
    del arbiter.WORKERS[3]
    arbiter.manage_workers()
    assert arbiter.num_workers == 2


def test_outside_a_reload_a_worker_that_cannot_be_started_ends_a_server_without_workers(arbiter: Arbiter) -> None:
    """Outside a reload a failed fork is told and tried again while workers serve; without any the server ends."""

    def fail() -> None:
        raise BlockingIOError("no more processes")

    arbiter.manage = fail
    arbiter.manage_workers()
    assert "no more processes" in arbiter.lines[0]
    arbiter.WORKERS.clear()
    with pytest.raises(HaltServer, match="no more processes") as halted:
        arbiter.manage_workers()
    assert halted.value.exit_status == 3


def test_a_reload_waits_for_all_new_workers(arbiter: Arbiter, tmp_path: Path) -> None:
    """One new worker of two, the other still to be started, does not complete a reload."""
    request(arbiter)
    arbiter.start(3)
    for _ in range(3):
        arbiter.manage_workers()
    assert arbiter.num_workers == 4
    assert arbiter.lines == []
    arbiter.start(4)
    for _ in range(2):
        arbiter.manage_workers()
    assert arbiter.num_workers == 2
    assert arbiter.lines == [f"SIGHUP: serving {tmp_path / 'new'} in place of {tmp_path / 'old'}"]


def test_a_check_that_hangs_is_killed(arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that hangs outside Python is killed at its deadline, and the next SIGHUP is heard."""
    hang = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]
    with monkeypatch.context() as hanging:
        hanging.setattr(reload, "_CHECK", SimpleNamespace(command=lambda _: hang))
        hanging.setattr(reload, "_CHECK_TIMEOUT_S", 0.2)
        request(arbiter)
    assert "did not end after" in arbiter.lines.pop()
    request(arbiter)
    assert arbiter.num_workers == 4
