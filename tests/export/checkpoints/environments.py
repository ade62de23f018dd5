"""Environments with other versions of some packages, on top of this one's."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import environment, run_to_end


def shared(base: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` under `base`, which `make` fills once; the processes of pytest-xdist share it."""
    folder = (base.parent if base.name.startswith("popen-") else base) / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    ready = folder.with_name(f"{name}.ready")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            make(folder)
            ready.touch()
    return folder


def python_with(base: Path, *packages: str) -> str:
    """Return the python of an environment under `base` with `packages`, else with what is installed here.

    Skips the test where pip cannot have them.
    """
    return str(shared(base, simple("-".join(packages)), lambda folder: _make(folder, packages)) / "bin" / "python")


def simple(name: str) -> str:
    """Return `name` as the name of a folder."""
    return "".join(one if one.isalnum() else "_" for one in name)


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True, env=environment())
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
    installed = run_to_end(*pip, "--upgrade", *packages, timeout_s=600)
    if installed.returncode:
        pytest.skip(f"{', '.join(packages)}: not to be had: {installed.stderr.strip()[-200:]}")
