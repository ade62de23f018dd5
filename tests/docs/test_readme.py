"""Checks of README.md: its length, reply, code, command, settings."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from inferer import ModelInferer
from tests.docs.pages import blocks, page, rows, section
from tests.support.server import run_to_end

README = page("README.md")


def test_the_readme_is_short() -> None:
    """The README has at most 120 lines."""
    assert len(README.splitlines()) <= 120


def test_the_first_reply_is_the_demos(demo_bundle: Path) -> None:
    """The reply under the README's curl is the demo's, but for digits that differ between CPUs."""
    block = next(block for block in blocks(README) if block.startswith("$ curl"))
    command, reply = block.strip().split("\n", 1)
    body = json.loads(shlex.split(command)[-1])
    shown, real = json.loads(reply), ModelInferer(demo_bundle).predict(body["text"]).as_dict()
    assert list(shown) == list(real)
    assert list(shown["scores"]) == list(real["scores"])
    for key in ("label", "labels", "num_tokens", "truncated"):
        assert shown[key] == real[key]
    assert shown["scores"] == pytest.approx(real["scores"], abs=0.1)
    assert shown["score"] == shown["scores"][shown["label"]]


def test_the_python_block_runs(demo_bundle: Path) -> None:
    """The README's Python runs as written from the project's folder."""
    (code,) = blocks(README, "python")
    done = run_to_end(sys.executable, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["category", "retailer", "brand"]


def test_the_command_line_prints_what_is_shown(demo_bundle: Path) -> None:
    """The README's `inferer predict` prints the lines shown, but for digits that differ between CPUs."""
    block = next(block for block in blocks(README) if block.startswith("$ inferer predict"))
    command, *shown = block.split("\n$ ")[0].splitlines()
    run = "from inferer.command.main import main; raise SystemExit(main())"
    words = shlex.split(command.removeprefix("$ inferer "))
    printed = run_to_end(sys.executable, "-c", run, *words, PYTHONIOENCODING="utf-8").stdout.splitlines()
    assert shown[0] == printed[0]
    assert shown[1].split()[:2] == printed[1].split()[:2]
    assert len(shown) == len(printed)
    real = {line.replace("*", "").split()[0]: line.replace("*", "").split()[1] for line in printed[1:]}
    for line in shown[1:]:
        label, score = line.replace("*", "").split()[:2]
        assert float(score.rstrip("%")) == pytest.approx(float(real[label].rstrip("%")), abs=10)


def test_the_settings_agree_with_the_whole_table() -> None:
    """The README's five settings have the defaults of the table in docs/run.md."""
    whole = {row[0]: row[1] for row in rows(section(page("docs/run.md"), "## Settings"))}
    five = [row for row in rows(section(README, "## HTTP")) if row[0].startswith("`INFERER_")]
    assert len(five) == 5
    for name, default, _ in five:
        assert whole[name] == default
