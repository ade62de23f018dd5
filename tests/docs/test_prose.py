"""Checks of the English in code and documents: openings of docstrings, banned words, spelling."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ROOT, run_to_end

FOLDERS = (
    *("inferer", "service", "export", "training", "recipes", "benchmarks", "tests", "docs", "deploy", "notebooks"),
    *(".ci", ".github"),
)
ENDINGS = {".py", ".js", ".md", ".html", ".toml", ".yml", ".yaml", ".cfg", ".sh", ".ipynb"}
QUESTION = re.compile(r"(?i)(who|what|whose|which|how|why|when|where|whether|is|are)\b")
PRONOUN = re.compile(r"(?i)(?<![\w'/.-])(he|him|his)(?![\w/'-])")
NEGATION = re.compile(r"(?i)\b(?:(?:is|are) no\s(?!longer\b)|that is none\b)")


def files(*endings: str) -> Iterator[Path]:
    """Yield the project's files with one of `endings`, this one left out; it names the words that it bans."""
    for folder in (*FOLDERS, "."):
        found = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
        for path in sorted(found):
            if path.is_file() and path.suffix in endings and path != Path(__file__) and "__pycache__" not in path.parts:
                yield path


def prose(path: Path) -> str:
    """Return a file's text without code spans, and in Markdown without code blocks and quotations."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = re.sub(r"^```.*?^```$", blank, text, flags=re.M | re.S)
        text = re.sub(r'"[^"\n]*"', blank, text)
    return re.sub(r"`[^`\n]*`", blank, text)


def blank(match: re.Match[str]) -> str:
    """Return the line breaks of a match, so that line numbers stay."""
    return "\n" * match[0].count("\n")


def found(pattern: re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    """Return path, line and text of each match."""
    hits = []
    for path in paths:
        text = prose(path)
        for match in pattern.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            hits.append(f"{path.relative_to(ROOT)}:{number}: {text.splitlines()[number - 1].strip()[:120]}")
    return hits


def test_every_module_has_a_docstring() -> None:
    """Each Python module has a docstring."""
    missing = [str(path.relative_to(ROOT)) for path in files(".py") if not ast.get_docstring(parsed(path))]
    assert not missing, missing


def test_a_module_docstring_opens_with_a_noun_phrase_or_an_imperative() -> None:
    """No module docstring opens with a question word."""
    openings = {str(path.relative_to(ROOT)): ast.get_docstring(parsed(path)) or "" for path in files(".py")}
    wrong = [f"{path}: {opening[:80]}" for path, opening in openings.items() if QUESTION.match(opening)]
    assert not wrong, "\n".join(wrong)


def test_things_and_roles_are_not_persons() -> None:
    """Python, JavaScript and documents say "it" or name the role."""
    hits = found(PRONOUN, files(*ENDINGS))
    assert not hits, "\n".join(hits)


def test_negations_are_plain() -> None:
    """A sentence says "has no" or "is not", and never the forms of `NEGATION`."""
    hits = found(NEGATION, files(*ENDINGS))
    assert not hits, "\n".join(hits)


def test_spelling() -> None:
    """The spelling of the whole repository is clean by codespell."""
    if importlib.util.find_spec("codespell_lib") is None:
        pytest.skip("codespell is not installed")
    done = run_to_end(sys.executable, "-m", "codespell_lib")
    assert done.returncode == 0, done.stdout


def parsed(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))
