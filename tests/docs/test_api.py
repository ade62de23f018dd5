"""Checks of docs/api.md: its commands and their replies, its Python, its table of errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import STATUS
from tests.support.server import ROOT, Server, serving

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = [tuple(block.strip().split("\n", 1)) for block in re.findall(r"^```\n\$ (.*?)^```$", TEXT, re.M | re.S)]
PYTHON = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def demo(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the demo."""
    with serving(demo_bundle, tmp_path_factory.mktemp("demo") / "log") as running:
        yield running


def alike(shown: Any, real: Any) -> bool:
    """Return whether two replies are the same but for digits that differ between CPUs."""
    if isinstance(shown, dict):
        return list(shown) == list(real) and all(alike(shown[key], real[key]) for key in shown)
    if isinstance(shown, list):
        return len(shown) == len(real) and all(map(alike, shown, real))
    if isinstance(shown, float):
        return isinstance(real, float) and abs(shown - real) < (0.1 if abs(shown) <= 1 else 0.5)
    return bool(shown == real)


@pytest.mark.parametrize(("command", "reply"), COMMANDS, ids=lambda text: text[:60])
def test_every_command_gets_the_reply_shown(demo: Server, command: str, reply: str) -> None:
    """Each curl of the document, run by a shell, gets the reply under it."""
    here = command.replace("localhost:8080", f"localhost:{demo.port}")
    done = subprocess.run(["bash", "-c", here], capture_output=True, check=True, timeout=30)
    assert alike(json.loads(reply), json.loads(done.stdout)), done.stdout


@pytest.mark.parametrize(("code", "printed"), [(PYTHON[0], "brand\nTrue\n"), (PYTHON[1], "['brand' 'category']\n")])
def test_every_python_block_runs(demo: Server, code: str, printed: str) -> None:
    """The document's Python runs, with the clients that it imports."""
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("tritonclient.http")
    here = code.replace("localhost:8080", f"localhost:{demo.port}")
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == printed, done.stderr


def test_the_document_has_every_path_of_the_table() -> None:
    """Each contract has a command, and both clients their code."""
    assert len(COMMANDS) >= 8
    assert len(PYTHON) == 2
    for path in ("/predict", "/explain", "8080/ ", "/v2/models", "/v1/models", "/invocations"):
        assert any(path in command for command, _ in COMMANDS), path


def test_the_table_of_errors_is_the_services() -> None:
    """The table has the statuses and types of the service, but for those of a single contract."""
    section = TEXT.split("## Errors\n")[1].split("\n## ")[0]
    shown = {}
    for line in section.splitlines():
        if cells := re.match(r"\| ([\d, ]+) \| (.*?) \|", line):
            shown |= dict(zip(re.findall(r"`(\w+)`", cells[2]), map(int, cells[1].split(", ")), strict=True))
    assert shown == {name: status for name, status in STATUS.items() if name not in ("Empty", "Tokenizer", "Backend")}
    for name in ("Empty", "Tokenizer", "Backend"):
        assert f"`{name}` {STATUS[name]}" in TEXT
