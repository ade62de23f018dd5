"""The reload on SIGHUP: check the new bundle in a child process, start new workers beside the old, then stop the old.

gunicorn's own SIGHUP interrupts the service (docs/decisions/0018). Each step here is short and part of gunicorn's main
loop, which goes on replacing workers and obeying signals. Undocumented names of gunicorn: Arbiter.manage_workers,
reap_workers, kill_worker, num_workers, worker_age, WORKERS and LISTENERS; Worker.age and tmp.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from gunicorn.errors import HaltServer

from inferer.command.stages import Stage, stage_environment
from service.process import load_limits

BUNDLE = "INFERER_BUNDLE"

_BOOT_GRACE_S = 10  # beyond the time to load
_CHECK_TIMEOUT_S = load_limits.CONVERSION_TIMEOUT_S + 30  # beyond the time to load; the check ends before by itself
_STOP_TIMEOUT_S = 3
_MOST_FAILURES = 3  # in a row, of workers that replace others
_CANNOT_START = 3  # the exit code of gunicorn's Arbiter.WORKER_BOOT_ERROR
_CHECK = Stage("service.process.bundle_check", "serve", ())


class Reloader:
    """Takes over SIGHUP from `server`, gunicorn's Arbiter.

    path: the bundle as the operator named it, often a symbolic link. timeout_s: the time to load one.
    Workers get the resolved folder that was checked, through the environment, so a replacement serves the same model.
    """

    def __init__(self, server: Any, path: Path, checked: Path, timeout_s: int) -> None:
        self._server, self._path, self._timeout_s = server, path, timeout_s
        self._folder = self._candidate = checked.resolve()
        os.environ[BUNDLE] = str(self._folder)
        self._is_requested = False
        self._check: subprocess.Popen[str] | None = None
        self._age = 0  # of the youngest worker before the new ones
        self._starting: set[int] = set()
        self._rejected: set[int] = set()
        self._extra = 0  # workers wanted beyond the configured number
        self._ready: set[int] = set()
        self._is_started = False  # as many workers as configured have been ready together
        self._failures = 0
        self._failure = ""  # of the last worker that a signal ended before it was ready
        self._deadline = 0.0
        self._manage_workers, self._reap_workers = server.manage_workers, server.reap_workers
        server.handle_hup, server.manage_workers, server.reap_workers = self._request, self._advance, self._reap

    def close(self) -> None:
        """Stop a check that still runs."""
        if self._check is not None:
            self._check.terminate()
            try:
                self._check.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._check.kill()

    def _request(self) -> None:
        self._server.log.reopen_files()
        self._is_requested = True

    def _reap(self) -> None:
        """Reap children as gunicorn does, but keep the server when a new worker fails to start."""
        if self._check is not None:
            self._check.poll()  # before gunicorn takes its exit code
        self._note_ready()
        self._note_failures()
        try:
            self._reap_workers()
        except HaltServer:
            if not self._starting | self._rejected:
                raise
            self._reap()  # more children may have ended
        if self._is_hopeless():
            raise HaltServer(f"cannot start: {self._failure}", _CANNOT_START)

    def _note_ready(self) -> None:
        """Note which workers serve, and whether the server has started."""
        now = time.monotonic()
        # A heartbeat file has its creation on the wall clock; from the first beat on, it has the monotonic clock.
        ready = {pid for pid, worker in self._server.WORKERS.items() if _last_beat(worker) <= now}
        if ready - self._ready:
            self._failures = 0
        self._ready = ready
        self._is_started = self._is_started or len(ready) >= self._server.num_workers

    def _note_failures(self) -> None:
        """Count workers that a signal has ended while they loaded: gunicorn would start them again and again."""
        if not self._server.LISTENERS:  # the server stops
            return
        for pid in self._server.WORKERS.keys() - self._ready:
            number = _fatal_signal(pid)
            if number is not None:
                self._failure = load_limits.ended_by(number, Path(os.environ[BUNDLE]), self._timeout_s)
                self._failures += pid not in self._starting | self._rejected

    def _is_hopeless(self) -> bool:
        """Return whether workers that a signal ended while they loaded leave nothing to wait for."""
        if not self._failures or not self._server.LISTENERS or self._starting | self._rejected:
            return False
        return not self._is_started or (not self._ready and self._failures >= _MOST_FAILURES)

    def _advance(self) -> None:
        """Take one step of the reload and manage workers as gunicorn does: after each signal and every second."""
        is_reload = self._is_requested or self._extra
        problem = None
        self._note_ready()
        try:
            self._step()
            self._manage_workers()
        except OSError as error:  # no process, no file or no memory left: the server must not end for a reload
            if not is_reload and self._ready:
                self._server.log.error("no worker can be started, the next try is in a second: %s", error)  # noqa: TRY400
            elif not is_reload:
                raise HaltServer(f"no worker can be started: {error}", _CANNOT_START) from error
            problem = str(error) if is_reload else None
        if self._extra and not self._rejected:
            self._starting = {pid for pid, worker in self._server.WORKERS.items() if worker.age > self._age}
        if problem:
            self._reject(problem)

    def _step(self) -> None:
        if self._check is not None:
            if self._check.poll() is not None:
                self._finish_check(self._check.returncode)
            elif time.monotonic() > self._deadline:
                self._check.kill()
                self._check.wait()
                self._check = None
                self._output.close()
                self._reject(f"the check of the bundle did not end after {_CHECK_TIMEOUT_S + self._timeout_s} s")
        elif self._rejected:
            self._end_rejected()
        elif self._extra:
            self._finish_start()
        elif self._is_requested:
            self._start_check()

    def _start_check(self) -> None:
        self._is_requested, self._failure = False, ""
        self._deadline = time.monotonic() + _CHECK_TIMEOUT_S + self._timeout_s
        environ = {**stage_environment(), BUNDLE: str(self._path)}
        # Not a pipe, which a long-winded conversion could fill.
        self._output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed in _finish_check
        self._check = subprocess.Popen(
            _CHECK.command([]), env=environ, stdout=self._output, stderr=subprocess.STDOUT, text=True
        )

    def _finish_check(self, code: int) -> None:
        """Let gunicorn start new workers if the check has passed."""
        self._check = None
        with self._output as output:
            output.seek(0)
            last_line = output.read().strip().rpartition("\n")[2]
        if code < 0:
            self._reject(": ".join(filter(None, (load_limits.ended_by(-code, self._path, self._timeout_s), last_line))))
            return
        if code or not os.path.isdir(last_line):  # noqa: PTH112 - unlike Path, it takes a sentence for no folder
            self._reject(last_line or f"the check ended with code {code}")
            return
        self._candidate = Path(last_line).resolve()
        os.environ[BUNDLE] = str(self._candidate)
        self._age = self._server.worker_age
        self._deadline = time.monotonic() + self._timeout_s + _BOOT_GRACE_S
        self._want_extra(self._server.num_workers)

    def _finish_start(self) -> None:
        """Stop the old workers once all new ones are ready: of too many workers gunicorn stops the oldest."""
        workers, now = self._server.WORKERS, time.monotonic()
        if not self._starting <= workers.keys():
            self._reject(self._failure or "a new worker ended while it started")
        elif len(self._starting) >= self._extra and self._starting <= self._ready:
            self._server.log.info("SIGHUP: serving %s in place of %s", self._candidate, self._folder)
            self._folder, self._starting = self._candidate, set()
            self._want_extra(0)
        elif now > self._deadline:
            self._reject(f"new workers were not ready after {self._timeout_s + _BOOT_GRACE_S} s")

    def _reject(self, reason: str) -> None:
        """Keep the old bundle and the old workers."""
        os.environ[BUNDLE] = str(self._folder)
        self._server.log.error("SIGHUP: still serving %s; %s", self._folder, reason)
        self._rejected, self._starting = self._starting, set()
        self._deadline = time.monotonic() + self._server.cfg.graceful_timeout
        self._end_rejected()

    def _end_rejected(self) -> None:
        """Stop the rejected workers; they count as wanted until they end, or gunicorn would stop the old ones."""
        self._rejected &= self._server.WORKERS.keys()
        self._want_extra(len(self._rejected))
        for pid in self._rejected:
            self._server.kill_worker(pid, signal.SIGTERM if time.monotonic() < self._deadline else signal.SIGKILL)

    def _want_extra(self, count: int) -> None:
        self._server.num_workers += count - self._extra
        self._extra = count


def _last_beat(worker: Any) -> float:
    try:
        return float(worker.tmp.last_update())
    except (OSError, ValueError):  # closed
        return math.inf


def _fatal_signal(pid: int) -> int | None:
    """Return the signal that has ended the child `pid`, which stays to be reaped; None for those that tell to stop."""
    with contextlib.suppress(ChildProcessError):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            number = ended.si_status
            return None if number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT) else number
    return None
