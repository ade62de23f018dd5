"""Environments with other versions of some packages, on top of this one's."""

from __future__ import annotations

import functools
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.server import environment, run_to_end


@functools.cache
def python_with(base: Path, *packages: str) -> str:
    """Return the python of a new environment under `base` with `packages`, else with what is installed here.

    Skips the test where pip cannot have them.
    """
    folder = base / "environments" / "".join(one if one.isalnum() else "_" for one in "-".join(packages))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, env=environment())
    python = str(folder / "bin" / "python")
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
    installed = run_to_end(*pip, "--upgrade", *packages, timeout_s=300)
    if installed.returncode:
        pytest.skip(f"{', '.join(packages)}: not to be had: {installed.stderr.strip()[-200:]}")
    return python
