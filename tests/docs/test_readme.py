"""The README says what is true: its settings table, its code, its answers, its flags and links."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from export.report.guard_table import figure_rows
from inferer import ModelInferer
from service import settings
from service.settings import Settings
from tests.support.server import ROOT, run_to_end

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under `heading`, without its header."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def blocks(language: str = "") -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_settings_table_has_every_variable_and_its_default() -> None:
    """The settings table has every variable, no others, and each one's default."""
    rows = {row[0].strip("`"): row[1] for row in table_rows("Settings")}
    assert tuple(rows) == settings.VARIABLES
    defaults = Settings()
    for name, shown in rows.items():
        field = name.removeprefix("INFERER_").lower()
        value = getattr(defaults, field)
        if name == "INFERER_BUNDLE":
            assert value == ROOT / shown.strip("`")
        elif name == "INFERER_THREADS":
            assert shown == f"`{defaults.worker_threads}`"
        elif isinstance(value, bool):
            assert shown == {"INFERER_BATCHING": "`on`", "INFERER_LOG_TEXTS": "`0`"}[name]
            assert value is (name == "INFERER_BATCHING")
        elif value in ("", 0, (), None):
            assert "`" not in shown, f"{name}: the default is computed, the table says {shown}"
        else:
            assert shown == f"`{value}`"


def test_the_first_answer_is_what_the_demo_answers(demo_bundle: Path) -> None:
    """The answer under the README's curl is the demo's, but for digits that differ between CPUs."""
    block = next(block for block in blocks() if block.startswith("$ curl"))
    command, answer = block.strip().split("\n", 1)
    body = json.loads(shlex.split(command)[-1])
    shown, real = json.loads(answer), ModelInferer(demo_bundle).predict(body["text"]).as_dict()
    assert list(shown) == list(real)
    assert list(shown["scores"]) == list(real["scores"])
    for key in ("label", "labels", "num_tokens", "truncated"):
        assert shown[key] == real[key]
    assert shown["scores"] == pytest.approx(real["scores"], abs=0.1)
    assert shown["score"] == shown["scores"][shown["label"]]


def test_the_python_block_runs(demo_bundle: Path) -> None:
    """The README's Python runs as written from the project's folder."""
    (code,) = blocks("python")
    done = run_to_end(sys.executable, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["category", "retailer", "brand"]


def test_the_command_line_block_shows_what_is_printed(demo_bundle: Path) -> None:
    """The README's `python -m inferer` prints what is shown, but for digits that differ between CPUs."""
    block = next(block for block in blocks() if block.startswith("$ python -m inferer"))
    shown = block.split("\n$ ")[0].splitlines()[1:]
    done = run_to_end(sys.executable, "-m", "inferer", "models/query_type", "hand bags", PYTHONIOENCODING="utf-8")
    printed = done.stdout.splitlines()
    assert shown[0] == printed[0]
    assert shown[1].split()[:2] == printed[1].split()[:2]
    assert len(shown) == len(printed)
    for line in shown[1:]:
        label, score = line.replace("*", "").split()[:2]
        (real,) = (other.replace("*", "").split()[1] for other in printed[1:] if f" {label} " in other)
        assert float(score.rstrip("%")) == pytest.approx(float(real.rstrip("%")), abs=10)


def test_the_guards_table_is_the_demos(demo_bundle: Path) -> None:
    """The README's table of int8 against fp32 has the demo's rows and n, and its shares but for what CPUs differ in."""
    block = next(block for block in blocks() if "same label as fp32" in block)
    manifest = json.loads((demo_bundle / "inferer.json").read_text(encoding="utf-8"))
    real = figure_rows(manifest["guard"]["figures"], multi=False)
    for line, row in zip(block.splitlines()[1:], real, strict=True):
        assert line.strip().startswith(row[0])
        assert line.split()[-1] == row[3]
        if row[1].endswith("%"):
            assert float(line.removeprefix(f"    {row[0]}").split()[0]) == pytest.approx(float(row[1][:-2]), abs=3)


@pytest.mark.parametrize("module", ["training", "export", "inferer"])
def test_every_flag_in_the_readme_exists(module: str) -> None:
    """Every flag that the README gives a command is one that the command has."""
    commands = re.findall(rf"python -m {module} ([^\n`]*)", README)
    assert commands
    known = run_to_end(sys.executable, "-m", module, "-h").stdout
    for command in commands:
        for flag in re.findall(r"(?<!\S)--?[a-z][\w-]*", command):
            assert flag in known, f"python -m {module} has no {flag}"


@pytest.mark.parametrize("flag", ["--label-column", "--label-separator", "--label-columns", "--base-model"])
def test_training_flags_in_the_text_exist(flag: str) -> None:
    """The training flags that the README explains exist."""
    assert flag in README
    assert flag in run_to_end(sys.executable, "-m", "training", "-h").stdout


def test_make_targets_in_the_readme_exist() -> None:
    """`make help` lists every make target that the README names."""
    listed = run_to_end("make", "help").stdout
    for target in set(re.findall(r"(?<![\w-])make ([a-z]+)\b", README)) - {"and", "it"}:
        assert re.search(rf"make {target}\b", listed), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every file that a document links to is there."""
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (document.parent / link).exists(), link


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    """Every file that the tree in docs/architecture.md names is there."""
    tree = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[3]
    folder = ROOT
    for line in tree.splitlines():
        if not line.strip():
            continue
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        if not line.startswith(" "):
            folder = ROOT / names[0]
            assert folder.exists(), line
            continue
        for name in names:
            assert (folder / name).exists(), line
