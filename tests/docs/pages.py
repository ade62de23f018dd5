"""The documents as text, and their blocks, tables and sections."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import ROOT

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def page(name: str) -> str:
    """Return the text of README.md or of a document in docs/."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced blocks of one language."""
    return [body for tag, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if tag == language]


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next heading of its level."""
    level = heading.split(" ")[0]
    return text.split(f"\n{heading}\n", 1)[1].split(f"\n{level} ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row in `text`; the headers of its tables are left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    headers = {index - 1 for index, line in enumerate(lines) if re.fullmatch(r"[|\s:-]+", line)}
    body = [line for index, line in enumerate(lines) if index not in headers and index - 1 not in headers]
    return [[cell.strip() for cell in re.split(r" \| ", line.strip("|"))] for line in body]


def anchor(heading: str) -> str:
    """Return the place in a page that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Return the places of a document."""
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)}
