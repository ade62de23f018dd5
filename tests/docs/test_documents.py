"""Checks of every document: links, flags, make targets, the tree."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import DOCUMENTS, anchors, page
from tests.support.server import ROOT, run_to_end

MODULES = {
    "predict": "inferer",
    "train": "training",
    "export": "export",
    "evaluate": "training.evaluate",
}
TABLES = "bulk"  # `inferer predict` with --model
COMMAND = re.compile(r"inferer (predict|train|export|evaluate) |-m (inferer|training\.evaluate|training|export) ")


@cache
def help_of(module: str) -> str:
    """Return a command's help."""
    return run_to_end(sys.executable, "-m", module, "-h").stdout


def commands() -> dict[str, set[str]]:
    """Return the flags that the documents give to each command."""
    found: dict[str, set[str]] = {}
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            parts = re.split(r"`|  #| \| ", line)
            for part in parts:
                if match := COMMAND.search(part):
                    module = MODULES.get(match[1]) or match[2]
                    if match[1] == "predict" and ("--model " in part or "predict TABLE" in part):
                        module = TABLES
                    found.setdefault(module, set()).update(re.findall(r"(?<!\S)--[a-z][\w-]*", part[match.end() :]))
    return found


@pytest.mark.slow
def test_every_flag_of_a_command_exists() -> None:
    """Every flag that a document gives to a command is one that the command has."""
    found = commands()
    assert set(found) == {*MODULES.values(), TABLES}
    for module, flags in found.items():
        for flag in flags:
            assert re.search(rf"{flag}\b", help_of(module)), f"python -m {module} has no {flag}"


# Flags of other programs that the documents name.
FOREIGN = {
    "--build-arg", "--cpu", "--cpus", "--format", "--gpus", "--grace-period", "--hash", "--memory",
    "--network", "--no-deps", "--prefix", "--read-only", "--shm-size", "--tmpfs", "--user",
}  # fmt: skip


@pytest.mark.slow
def test_every_flag_in_the_text_exists() -> None:
    """A flag that a document names without its command is one that some command has."""
    modules = (*MODULES.values(), TABLES, "recipes.query_type.prepare")
    helps = " ".join([*map(help_of, modules), *(source_of(name) for name in ("inferer/command/main.py",))])
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for flag in sorted(set(re.findall(r"`(--[a-z][a-z0-9-]*)", text)) - FOREIGN):
            assert re.search(rf"{flag}\b", helps), f"{path.name}: no command has {flag}"


def source_of(name: str) -> str:
    """Return a file of the project; `inferer serve` and `benchmarks` need packages to print their help."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    """`make help` lists every make target that a document names as code."""
    listed = run_to_end("make", "help").stdout
    for path in DOCUMENTS:
        for target in re.findall(r"(?:^|`)make ([a-z]+)\b", path.read_text(encoding="utf-8"), re.M):
            assert re.search(rf"make {target}\b", listed), (path.name, target)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every file that a document links to exists, and so does the heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, place = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        if place:
            assert place in anchors(target), link


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    """Every file that the tree in docs/architecture.md names is there, and it names every Python file of ours."""
    tree = page("docs/architecture.md").split("```")[3]
    named: set[Path] = set()
    above: list[tuple[int, Path]] = []
    for line in tree.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        folder = above[-1][1] if above else ROOT
        for name in re.split(r"\s{2,}", line.strip())[0].split():
            assert (folder / name).exists(), line
            named.add(folder / name)
            if name.endswith("/"):
                above.append((indent, folder / name))
    ours = {path for part in ("inferer", "service", "export", "training") for path in (ROOT / part).rglob("*.py")}
    missing = {path for path in ours if path.name != "__init__.py"} - named
    assert not missing, sorted(str(path.relative_to(ROOT)) for path in missing)
