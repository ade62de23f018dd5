"""Bundles that hang or eat memory while they load: the start ends with one line, and a reload changes nothing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.process import load_limits, resources
from tests.support import hostile, tiny
from tests.support.apps import until
from tests.support.server import ROOT, free_port, run_to_end, serving, workers

TIMEOUT = "2"
Writer = Callable[[Path], Path]

HOSTILE = pytest.mark.parametrize(
    ("write", "timeout", "problem"),
    [
        (hostile.endless, TIMEOUT, f"took more than {TIMEOUT} s (INFERER_LOAD_TIMEOUT_S)"),
        (hostile.growing, "60", "needed more than 1024 MB of memory"),
    ],
)


@HOSTILE
@pytest.mark.parametrize("count", ["1", "2"])
def test_the_start_ends_with_one_line(tmp_path: Path, write: Writer, timeout: str, problem: str, count: str) -> None:
    """The start ends with code 3 soon after the limit, with one line that names the bundle and the fault."""
    folder = write(tmp_path / "bundle")
    done = run_to_end(
        *(sys.executable, "-m", "gunicorn", "app:app"),
        timeout_s=60,
        PORT=str(free_port()),
        INFERER_BUNDLE=str(folder),
        INFERER_LOAD_TIMEOUT_S=timeout,
        INFERER_WORKERS=count,
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "cannot start" in line]
    assert f"cannot start: loading the bundle {folder} {problem}" in line


@HOSTILE
def test_a_reload_changes_nothing(tmp_path: Path, write: Writer, timeout: str, problem: str) -> None:
    """The same worker goes on, and one line of the log has the fault."""
    one, link = tiny.write_bundle(tmp_path / "one"), tmp_path / "current"
    link.symlink_to(one)
    with serving(link, tmp_path / "log", INFERER_LOAD_TIMEOUT_S=timeout) as server:
        before = workers(server)
        link.unlink()
        link.symlink_to(write(tmp_path / "other"))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP: " in server.log.read_text(), 40)
        (line,) = [line for line in server.log.read_text().splitlines() if "SIGHUP: " in line]
        assert f"SIGHUP: still serving {one}; loading the bundle {link} {problem}" in line
        assert workers(server) == before
        assert server.predict({"text": "good"}).json()["label"] == "pos"


def test_a_worker_that_cannot_come_back_ends_the_service(tmp_path: Path) -> None:
    """Where the bundle in service was overwritten by one that hangs, the service ends after three tries."""
    folder = tiny.write_bundle(tmp_path / "bundle")
    with serving(folder, tmp_path / "log", INFERER_LOAD_TIMEOUT_S=TIMEOUT) as server:
        hostile.endless(folder)
        (pid,) = workers(server)
        os.kill(pid, signal.SIGKILL)
        assert server.process.wait(60) == 3
        assert server.log.read_text().count("was sent SIGALRM") == 3
        assert f"cannot start: loading the bundle {folder} took more than {TIMEOUT} s" in server.log.read_text()


def test_a_worker_killed_while_it_loads_ends_the_start(tmp_path: Path) -> None:
    """A worker that the kernel kills for memory during the start is not started again and again."""
    folder = hostile.endless(tmp_path / "bundle")
    killer = (
        "import os, signal; from service.process import worker; "
        "worker.Worker.load_wsgi = lambda self: os.kill(os.getpid(), signal.SIGKILL); "
        "from gunicorn.app.wsgiapp import run; import sys; sys.argv = ['gunicorn', 'app:app']; run()"
    )
    settings = {"PORT": str(free_port()), "INFERER_BUNDLE": str(folder)}
    done = run_to_end(*(sys.executable, "-c", killer), timeout_s=40, cwd=ROOT, **settings)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("was sent SIGKILL") == 1
    assert f"cannot start: loading the bundle {folder} needed more than" in done.stderr


def test_the_limits_end_with_the_load() -> None:
    """Within the limits an allocation fails and the process is first to be killed; afterwards all is as before."""
    limit, score = resource.getrlimit(resource.RLIMIT_DATA), load_limits._OOM_SCORE.read_text()
    with load_limits.limited(0, 100):
        with pytest.raises(MemoryError):
            bytearray(2**32)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
        assert load_limits._OOM_SCORE.read_text().strip() == "1000"
    assert len(bytearray(2**30)) == 2**30
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit
    assert load_limits._OOM_SCORE.read_text() == score


def test_a_bundle_may_take_memory_by_its_size_and_by_what_the_container_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model gets more, and none gets what the container has in use; caches of files do not count as used."""
    (tmp_path / "model").touch()
    os.truncate(tmp_path / "model", 2**30)
    for missing in ("none", tmp_path):
        monkeypatch.setattr(resources, "_CGROUP", str(missing))
        assert resources.memory_left() is None
    assert load_limits.memory_allowed(tmp_path) == load_limits.memory_beside_others(tmp_path) == 5 * 2**30
    assert load_limits.too_much_memory(tmp_path).endswith("needed more than 5120 MB of memory")
    assert load_limits.memory_allowed(tmp_path / "nowhere") == 2**30
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert resources.memory_left() == 10**9
    (tmp_path / "memory.current").write_text("900000000\n")
    (tmp_path / "memory.stat").write_text("anon 300000000\nfile 600000000\nshmem 100000000\n")
    assert resources.memory_left() == 6 * 10**8
    assert load_limits.memory_beside_others(tmp_path) == 6 * 10**8 - 2**26
    problem = load_limits.ended_by(signal.SIGKILL, tmp_path, 1)
    assert "needed more memory than the container has left, 572 of 953 MB, or it crashed (SIGKILL)" in problem
    for name in ("memory.max", "memory.current", "memory.stat"):
        (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "memory", ignore_errors=True)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1000000000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("900000000\n")
    (tmp_path / "memory" / "memory.stat").write_text("cache 1\ntotal_cache 600000000\ntotal_shmem 100000000\n")
    assert resources.memory_left() == 6 * 10**8


def test_other_signals_are_told_by_their_names(tmp_path: Path) -> None:
    """A signal that has nothing to do with memory is named, even one without a name."""
    assert load_limits.ended_by(signal.SIGILL, tmp_path, 1).endswith("ended with SIGILL")
    assert load_limits.ended_by(signal.SIGRTMIN + 3, tmp_path, 1).endswith(f"ended with signal {signal.SIGRTMIN + 3}")
