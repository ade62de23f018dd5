"""A limit of processes or threads below the need: one line and exit code 3, at the start."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.process.startup import try_threads
from tests.support.server import free_port, log_lines, run_to_end

_USER = 54321  # without other processes


def test_the_trial_leaves_no_thread() -> None:
    """The threads of the trial run at the same time, and end with it."""
    before = threading.active_count()
    try_threads(5)
    assert threading.active_count() == before


def test_a_limit_ends_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line has the number of threads and the settings that lower it; threads that did start end again."""
    start = threading.Thread.start
    before = threading.active_count()

    def start_some(thread: threading.Thread) -> None:
        if threading.active_count() > before + 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(SystemExit) as end:
        try_threads(5)
    assert end.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot start: the worker needs " in line
    assert "lower INFERER_MAX_IN_FLIGHT, INFERER_THREADS or INFERER_WORKERS" in line
    assert threading.active_count() == before


@pytest.fixture
def public_bundle(tiny_bundle: Path) -> Iterator[Path]:
    """Return a copy of the bundle that other users may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield shutil.copytree(tiny_bundle, folder / "tiny")
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2, 3, 40])
def test_a_service_below_its_need(public_bundle: Path, limit: int) -> None:
    """The service ends with code 3 and without a traceback, however low the limit is."""
    if os.getuid() != 0 or not shutil.which("setpriv") or not shutil.which("prlimit"):
        pytest.skip("needs root, setpriv and prlimit: the limit counts all processes of a user, and root has none")
    as_user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", sys.executable]
    if run_to_end(*as_user, "-c", "import service.app").returncode:
        pytest.skip("another user may not read Python or this checkout")
    settings = {"INFERER_BUNDLE": str(public_bundle), "PORT": str(free_port()), "INFERER_LOG_FORMAT": "json"}
    done = run_to_end("prlimit", f"--nproc={limit}", *as_user, "-m", "gunicorn", "app:app", timeout_s=60, **settings)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    messages = [str(line["message"]) for line in log_lines(done.stderr)]
    if limit > 2:
        (said,) = [message for message in messages if message.startswith("cannot start: ")]
        assert f"the user's limit is {limit} (ulimit -u)" in said
    else:
        assert any("no worker can be started" in message for message in messages)
