"""Huge pages: the commands ask for them, and Linux gives them to a model's weights."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from inferer.command.stages import HUGE_PAGES, stage_environment
from tests.support.server import ROOT, environment

_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_LOADED = """
import pathlib, re, sys
from inferer import ModelInferer
model = ModelInferer(sys.argv[1])
print(re.search(r"AnonHugePages: +(\\d+) kB", pathlib.Path("/proc/self/smaps_rollup").read_text())[1])
"""


@pytest.mark.parametrize("given", [None, "glibc.malloc.hugetlb=0"])
def test_a_stage_asks_for_huge_pages_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    """`inferer serve`, `train` and `export` run with huge pages; a value of the user's own stays."""
    (name,) = HUGE_PAGES
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    assert stage_environment()[name] == (given or "glibc.malloc.hugetlb=1")


def _supported() -> bool:
    library, version = platform.libc_ver()
    if library != "glibc" or [int(part) for part in version.split(".")] < [2, 35]:
        return False
    return _MODE.is_file() and "[madvise]" in _MODE.read_text()


@pytest.mark.skipif(not _supported(), reason="needs glibc 2.35, and Linux with transparent huge pages by madvise")
def test_a_model_lies_in_huge_pages(demo_bundle: Path) -> None:
    """The weights of a loaded model lie in huge pages; without the setting nothing does."""
    (name,) = HUGE_PAGES
    weights = sum(file.stat().st_size for file in demo_bundle.glob("*.onnx"))
    found = {}
    for value in (HUGE_PAGES[name], ""):
        command = [sys.executable, "-c", _LOADED, str(demo_bundle)]
        env = {**environment(), name: value}
        done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
        found[value] = 1024 * int(done.stdout)
    assert found[HUGE_PAGES[name]] > weights / 2
    assert found[""] == 0
