"""The reload on SIGHUP: check the new bundle in a child process, start new workers beside the old, then stop the old.

gunicorn's own SIGHUP interrupts the service (docs/decisions/0018). Each step here is short and part of gunicorn's main
loop, which goes on replacing workers and obeying signals. Undocumented names of gunicorn: Arbiter.manage_workers,
reap_workers, kill_worker, num_workers, worker_age and WORKERS; Worker.age and tmp.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from gunicorn.errors import HaltServer

from inferer.command.stages import Stage, stage_environment

BUNDLE = "INFERER_BUNDLE"

_BOOT_TIMEOUT_S = 120
_CHECK_TIMEOUT_S = 630  # the check ends itself after 600 s, unless it hangs outside Python
_STOP_TIMEOUT_S = 3
_CANNOT_START = 3  # the exit code of gunicorn's Arbiter.WORKER_BOOT_ERROR
_CHECK = Stage("service.process.bundle_check", "serve", ())


class Reloader:
    """Takes over SIGHUP from `server`, gunicorn's Arbiter.

    path: the bundle as the operator named it, often a symbolic link. Workers get the resolved folder that was checked,
    through the environment, so a replacement worker serves the same model.
    """

    def __init__(self, server: Any, path: Path, checked: Path) -> None:
        self._server, self._path = server, path
        self._folder = self._candidate = checked.resolve()
        os.environ[BUNDLE] = str(self._folder)
        self._is_requested = False
        self._check: subprocess.Popen[str] | None = None
        self._age = 0  # of the youngest worker before the new ones
        self._starting: set[int] = set()
        self._rejected: set[int] = set()
        self._extra = 0  # workers wanted beyond the configured number
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
        try:
            self._reap_workers()
        except HaltServer:
            if not self._starting | self._rejected:
                raise
            self._reap()  # more children may have ended

    def _advance(self) -> None:
        """Take one step of the reload and manage workers as gunicorn does: after each signal and every second."""
        is_reload = self._is_requested or self._extra
        problem = None
        try:
            self._step()
            self._manage_workers()
        except OSError as error:  # no process, no file or no memory left: the server must not end for a reload
            if not is_reload:
                raise HaltServer(f"no worker can be started: {error}", _CANNOT_START) from error
            problem = str(error)
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
                self._reject(f"the check of the bundle did not end after {_CHECK_TIMEOUT_S} s")
        elif self._rejected:
            self._end_rejected()
        elif self._extra:
            self._finish_start()
        elif self._is_requested:
            self._start_check()

    def _start_check(self) -> None:
        self._is_requested = False
        self._deadline = time.monotonic() + _CHECK_TIMEOUT_S
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
        if code or not os.path.isdir(last_line):  # noqa: PTH112 - unlike Path, it takes a sentence for no folder
            self._reject(last_line or f"the check ended with code {code}")
            return
        self._candidate = Path(last_line).resolve()
        os.environ[BUNDLE] = str(self._candidate)
        self._age = self._server.worker_age
        self._deadline = time.monotonic() + _BOOT_TIMEOUT_S
        self._want_extra(self._server.num_workers)

    def _finish_start(self) -> None:
        """Stop the old workers once all new ones are ready: of too many workers gunicorn stops the oldest."""
        workers, now = self._server.WORKERS, time.monotonic()
        if not self._starting <= workers.keys():
            self._reject("a new worker ended while it started")
        # A heartbeat file has its creation on the wall clock; from the first beat on, it has the monotonic clock.
        elif len(self._starting) >= self._extra and all(
            workers[pid].tmp.last_update() <= now for pid in self._starting
        ):
            self._server.log.info("SIGHUP: serving %s in place of %s", self._candidate, self._folder)
            self._folder, self._starting = self._candidate, set()
            self._want_extra(0)
        elif now > self._deadline:
            self._reject(f"new workers were not ready after {_BOOT_TIMEOUT_S} s")

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
