"""Checkpoints that bring Python code of their own: it never runs, even if somebody at a terminal would say yes."""

from __future__ import annotations

import ast
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.support.architectures import checkpoint, copy_of, write_json, write_state_dict
from tests.support.fruit import command, write_table
from tests.support.server import ROOT, environment

CODE = """
import pathlib
pathlib.Path({mark!r}).write_text("the code ran")
from transformers import BertConfig as Config, BertForSequenceClassification as Model, BertTokenizerFast as Tokenizer
"""
OF_CONFIG = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model", "AutoModel": "code.Model"}
OF_TOKENIZER = {"AutoTokenizer": [None, "code.Tokenizer"]}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that the checkpoint's code would write."""
    return tmp_path / "mark"


def with_code(source: Path, folder: Path, mark: Path, kind: str) -> Path:
    """Copy a checkpoint and add code: for an unknown architecture, a known one, or the tokenizer."""
    if kind == "tokenizer":
        copy_of(source, folder)
        file = folder / "tokenizer_config.json"
        settings = {**json.loads(file.read_text()), "auto_map": OF_TOKENIZER, "tokenizer_class": "OwnTokenizer"}
        write_json(file, settings)
    else:
        copy_of(source, folder, auto_map=OF_CONFIG, **({"model_type": "own"} if kind == "unknown" else {}))
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    return folder


def at_a_terminal(*command: str) -> tuple[int, str]:
    """Run a Python module at a terminal where somebody answers every question with "y"; return code and output."""
    ours, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[3] &= ~termios.ECHO  # or the answers would be in the output
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment(HF_HUB_OFFLINE="1"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    end = time.monotonic() + 120
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    part = os.read(ours, 10_000)
                except OSError:  # the other side has closed
                    break
                if not part:
                    break
                said += part
            else:
                os.write(ours, b"y\n")
        return process.wait(10), said.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("kind", ["unknown", "known", "tokenizer"])
def test_export_runs_no_code_of_a_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mark: Path, kind: str
) -> None:
    """The export of a checkpoint with code ends with one line that says how to get on."""
    folder = with_code(checkpoint(tmp_path_factory, "bert"), tmp_path / "own", mark, kind)
    code, said = at_a_terminal("export", str(folder), str(tmp_path / "bundle"))
    assert not mark.exists(), said
    assert code == 2
    file = "tokenizer_config.json" if kind == "tokenizer" else "config.json"
    last = said.strip().splitlines()[-1]
    assert f"checkpoint {folder}: " in last
    assert f": {file} asks for Python code of the checkpoint (auto_map), which never runs here; " in last
    assert "delete auto_map from a copy" in last


def test_a_state_dict_of_a_model_with_code_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mark: Path
) -> None:
    """The architecture of a bare state dict runs no code either."""
    file, config = write_state_dict(tmp_path / "bare", checkpoint(tmp_path_factory, "bert"))
    described = with_code(Path(config["model_name"]), tmp_path / "own", mark, "unknown")
    settings = write_json(tmp_path / "config.json", {**config, "model_name": str(described)})
    code, said = at_a_terminal("export", str(file), str(tmp_path / "bundle"), "--config", str(settings))
    assert not mark.exists(), said
    assert code == 2
    assert "config.json asks for Python code" in said.strip().splitlines()[-1]


@pytest.mark.parametrize("kind", ["unknown", "tokenizer"])
def test_training_runs_no_code_of_a_base_model(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mark: Path, kind: str
) -> None:
    """A base model with code ends the training with one line."""
    folder = with_code(checkpoint(tmp_path_factory, "bert"), tmp_path / "own", mark, kind)
    table = write_table(tmp_path / "fruit.csv")
    given = command(table, folder, tmp_path / "out", "--label-column", "colour")
    code, said = at_a_terminal("training", *given)
    assert not mark.exists(), said
    assert code == 2
    assert "config.json asks for Python code of the checkpoint" in said.strip().splitlines()[-1]


def test_every_load_says_no() -> None:
    """Each call of transformers that could run a checkpoint's code forbids it by name."""
    found = 0
    for package in ("export", "training", "recipes", "inferer", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                    if name in ("from_pretrained", "pipeline"):
                        found += 1
                        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                        assert given.get("trust_remote_code") == "False", f"{file}:{node.lineno}"
    assert found >= 3
