"""Checks of docs/scores.md: the explanation for a terminal against the demo's."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.docs.pages import blocks, page
from tests.support.server import run_to_end


def test_the_explanation_is_the_demos(demo_bundle: Path) -> None:
    """The command under "Why this label" prints the lines shown, but for digits that differ between CPUs."""
    (block,) = [block for block in blocks(page("docs/scores.md")) if block.startswith("$ inferer predict")]
    command, *shown = block.splitlines()
    words = shlex.split(command.removeprefix("$ inferer predict "))
    printed = run_to_end(sys.executable, "-m", "inferer", *words, PYTHONIOENCODING="utf-8").stdout.splitlines()
    assert [without_figures(line) for line in shown] == [without_figures(line) for line in printed]


def without_figures(line: str) -> str:
    """Return a line without decimal figures, bars and spaces."""
    return re.sub(r"[-+]?\d+\.\d+|[│█▏▎▍▌▋▊▉\s]", "", line)
