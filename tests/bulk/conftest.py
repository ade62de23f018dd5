"""A table of texts, and the command in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import ROOT, environment

Predict = Callable[..., subprocess.CompletedProcess[str]]


def command(table: Path | str, bundle: Path, output: Path | str, *flags: str) -> list[str]:
    """Return the command line that scores `table` with one process."""
    given = ["--model", str(bundle), "--text-column", "text", "--output", str(output), "--processes", "1"]
    return [sys.executable, "-m", "bulk", str(table), *given, *flags]


@pytest.fixture
def predict(tiny_bundle: Path, tmp_path: Path) -> Predict:
    """Score a table with the tiny bundle: `predict(table, output, *flags)`."""

    def run(table: Path | str, output: Path | str, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(table, tiny_bundle, output, *flags),
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
