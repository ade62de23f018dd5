"""What gunicorn's master process does about bundles: which one its workers serve, and a new one on SIGHUP.

gunicorn's own SIGHUP stops the old workers at once, and the whole server when the new ones cannot load. Here the
bundle is checked in a child process first, the new workers load beside the old, and only then the old ones are told
to stop. When anything is wrong nothing changes but one log line.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import IO, Any

from service.settings import Settings

BUNDLE = "INFERER_BUNDLE"

# Above the check of the largest model on a busy machine; a conversion from a PyTorch checkpoint has to fit, too.
_CHECK_TIMEOUT_S = 600
_BOOT_TIMEOUT_S = 120
_END_TIMEOUT_S = 3
_ROOT = Path(__file__).resolve().parents[2]
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class _RefusedError(Exception):
    """A new bundle does not go into service; the message says why."""


class Bundles:
    """Which bundle the workers of `server` (gunicorn's Arbiter) serve.

    asked: the path as the operator gave it, which may be a symbolic link to today's bundle. Workers get the folder
    that was checked, by way of the environment, so that one that dies comes back with the same model.
    """

    def __init__(self, server: Any, settings: Settings, checked: Path) -> None:
        self._server = server
        self._asked = settings.bundle
        self._booted: int | None = None
        self._serve(checked)
        server.handle_hup = self.reload
        self._signals = server.wait_for_signals
        server.wait_for_signals = self._stopping_first

    def _serve(self, folder: Path) -> None:
        self._folder = folder.resolve()
        os.environ[BUNDLE] = str(self._folder)

    def worker_has_booted(self) -> None:
        """Tell the master so; called in the worker, before it takes its first connection."""
        if self._booted is not None:
            with contextlib.suppress(BrokenPipeError):  # the master waits no more: it is being stopped
                os.write(self._booted, b".")
            os.close(self._booted)
            self._booted = None

    def reload(self) -> None:
        """Put what lies at the bundle's path now into service, if it is good."""
        log, before = self._server.log, self._folder
        log.reopen_files()
        try:
            checked = self._check()
            self._serve(checked)
            self._replace_workers()
        except (_RefusedError, OSError, ValueError) as error:
            self._serve(before)
            log.error("SIGHUP: still serving %s; %s", before, error)  # noqa: TRY400 - one line is all there is to say
        else:
            log.info("SIGHUP: serving %s in place of %s", self._folder, before)

    def _stopping_first(self, timeout: float = 1.0) -> list[int]:
        """Return gunicorn's signals, those first that stop the server: that waits for the check of no bundle."""
        return sorted(self._signals(timeout=timeout), key=lambda number: number not in _STOPPING)

    def _check(self) -> Path:
        """Return the folder of the bundle at the path, which a child process has loaded, checked and warmed up."""
        environ: MutableMapping[str, str] = {**os.environ, BUNDLE: str(self._asked)}
        # Files, not pipes: a conversion may say much, and nobody reads along.
        with _scratch() as said, _scratch() as why:
            child = subprocess.Popen(
                [sys.executable, "-m", "service.process.bundle_check"], cwd=_ROOT, env=environ, stdout=said, stderr=why
            )
            try:
                for _ in self._until_told_to_stop(_CHECK_TIMEOUT_S):
                    if child.poll() is not None:
                        break
                    self._keep_serving()
                else:
                    raise _RefusedError(f"the check of {self._asked} took more than {_CHECK_TIMEOUT_S} s")
            finally:
                if os.getpid() == self._server.pid and child.poll() is None:  # not in a worker that began here
                    child.terminate()
                    try:
                        child.wait(_END_TIMEOUT_S)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        child.wait()
            found, problem = _last_line(said), _last_line(why)
        if child.returncode != 0 or not found:
            raise _RefusedError(problem or f"the check ended with code {child.returncode}")
        return Path(found)

    def _keep_serving(self) -> None:
        """Replace workers that ended, and end those that hang: gunicorn's own loop does not run meanwhile."""
        server = self._server
        server.murder_workers()
        for pid, status in self._reaped(set(server.WORKERS)).items():
            if code := os.waitstatus_to_exitcode(status):  # old ones of the last SIGHUP end with 0
                why = " (perhaps out of memory)" if code == -signal.SIGKILL else ""
                server.log.error("worker %d ended with %d%s", pid, code, why)
        if len(server.WORKERS) < server.num_workers:
            server.spawn_workers()

    def _replace_workers(self) -> None:
        """Start new workers beside the old, and when they are ready stop the old."""
        server = self._server
        old, new = set(server.WORKERS), set[int]()
        read, self._booted = os.pipe()
        try:
            while len(new) < server.num_workers:
                new.add(server.spawn_worker())
            os.close(self._booted)
            self._booted = None
            self._wait_until_ready(new, read)
        except BaseException:
            if os.getpid() == server.pid:  # a worker leaves this way, too, when it has served
                self._end(new)
            raise
        finally:
            os.close(read)
            if self._booted is not None:
                os.close(self._booted)
                self._booted = None
        for pid in old & set(server.WORKERS):
            server.kill_worker(pid, signal.SIGTERM)

    def _wait_until_ready(self, pids: set[int], told: int) -> None:
        """Return when each of the workers `pids` has written to the pipe `told`."""
        ready = 0
        for _ in self._until_told_to_stop(_BOOT_TIMEOUT_S):
            if select.select([told], [], [], 0)[0]:
                ready += len(os.read(told, len(pids)))
            if self._reaped(pids):
                raise _RefusedError("a new worker ended while it started")
            if ready >= len(pids):
                return
        raise _RefusedError(f"new workers were not ready after {_BOOT_TIMEOUT_S} s")

    def _reaped(self, pids: set[int]) -> dict[int, int]:
        """Forget those workers among `pids` that have ended; return them with their exit status.

        By their own numbers: gunicorn stops the server for a worker that cannot boot, and of more workers than there
        should be it stops the oldest, which are the good ones.
        """
        ended = {pid: status for pid in pids for found, status in [os.waitpid(pid, os.WNOHANG)] if found}
        for pid in ended:
            pids.discard(pid)
            worker = self._server.WORKERS.pop(pid)
            worker.tmp.close()
            self._server.cfg.child_exit(self._server, worker)
        return ended

    def _end(self, pids: set[int]) -> None:
        """Stop the workers `pids`, which are not to serve, and wait until they have ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
            end = time.monotonic() + _END_TIMEOUT_S
            while pids and time.monotonic() < end:
                self._reaped(pids)
                time.sleep(0.02)

    def _until_told_to_stop(self, seconds: float) -> Iterator[None]:
        """Yield every 50 ms for `seconds`; raises _RefusedError as soon as the server is told to stop."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            signals = self._server.SIG_QUEUE
            waiting = [signals.get_nowait() for _ in range(signals.qsize())]
            for number in waiting:
                signals.put_nowait(number)
            if any(number in _STOPPING for number in waiting):
                raise _RefusedError("the server is told to stop")
            yield
            time.sleep(0.05)


def _scratch() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="replace")


def _last_line(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip().rpartition("\n")[2]
