"""Environments with other versions of some packages, on top of this one's."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.server import environment, run_to_end


def python_with(base: Path, *packages: str) -> str:
    """Return the python of an environment under `base` with `packages`, else with what is installed here.

    The processes of pytest-xdist share it. Skips the test where pip cannot have them.
    """
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / "environments" / "".join(one if one.isalnum() else "_" for one in "-".join(packages))
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python, ready = str(folder / "bin" / "python"), folder / "ready"
        if not ready.exists():
            _make(folder, python, packages)
            ready.touch()
    return python


def _make(folder: Path, python: str, packages: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True, env=environment())
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
    installed = run_to_end(*pip, "--upgrade", *packages, timeout_s=600)
    if installed.returncode:
        pytest.skip(f"{', '.join(packages)}: not to be had: {installed.stderr.strip()[-200:]}")
