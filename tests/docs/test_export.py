"""Checks of docs/export.md: the guard's table against the demo's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.report.guard_table import figure_rows
from inferer.bundle.manifest import SINGLE_LABEL
from tests.docs.pages import blocks, page


def test_the_guards_table_is_the_demos(demo_bundle: Path) -> None:
    """The table of int8 against fp32 has the demo's rows and n, and its shares but for what CPUs differ in."""
    block = next(block for block in blocks(page("docs/export.md")) if "same label as fp32" in block)
    manifest = json.loads((demo_bundle / "inferer.json").read_text(encoding="utf-8"))
    real = figure_rows(manifest["guard"]["figures"], SINGLE_LABEL)
    for line, row in zip(block.splitlines()[1:], real, strict=True):
        assert line.strip().startswith(row[0])
        assert line.split()[-1] == row[3]
        if row[1].endswith("%"):
            assert float(line.removeprefix(f"    {row[0]}").split()[0]) == pytest.approx(float(row[1][:-2]), abs=3)
