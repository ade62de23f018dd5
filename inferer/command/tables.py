"""Tables given where texts are expected: refused with the command that scores them, never classified as texts."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from inferer.errors import InfererError

_TABLES = (
    ".csv",
    ".tsv",
    ".tab",
    ".parquet",
    ".pq",
    ".json",
    ".jsonl",
    ".ndjson",
    ".gz",
    ".bz2",
    ".zst",
    ".zip",
    ".xlsx",
)
_LINES = (".json", ".jsonl", ".ndjson")
_LONGEST_NAME = 255
_PARQUET = b"PAR1"


def refuse_files(bundle: str, texts: Sequence[str]) -> None:
    """Raise InfererError where a text is the name of a file or a folder."""
    for text in texts:
        with contextlib.suppress(OSError, ValueError):  # too long for a path, or a NUL in it
            if len(text) <= _LONGEST_NAME and Path(text).exists():
                kind = "folder" if Path(text).is_dir() else "file"
                alone = f"to classify the text itself, give it on standard input: echo {shlex.quote(text)} | …"
                raise InfererError(f"{text!r} is a {kind}, not a text; {_command(bundle, text)}; {alone}")


def refuse_table(bundle: str, *, json_lines: bool) -> None:
    """Raise InfererError where standard input is closed, or comes from a file with the ending of a table."""
    if sys.stdin is None:
        raise InfererError("no text is given and standard input is closed")
    with contextlib.suppress(OSError):
        path = Path(f"/proc/self/fd/{sys.stdin.fileno()}").readlink()  # Linux; elsewhere nothing is known of it
        ending = path.suffix.lower()
        if path.is_absolute() and ending in _TABLES and not (json_lines and ending in _LINES):
            raise InfererError(
                f"standard input is {path}, a table and not lines of text; {_command(bundle, str(path))}"
            )


def refuse_binary(bundle: str, first: bytes) -> None:
    """Raise InfererError where `first`, the first line of standard input, is not of text."""
    if first.startswith(_PARQUET):
        raise InfererError(f"standard input is a Parquet file, not lines of text; {_command(bundle, 'FILE.parquet')}")
    if b"\0" in first:
        raise InfererError("standard input has NUL bytes: it is UTF-16 or binary; expected lines of UTF-8")


def _command(bundle: str, path: str) -> str:
    words = ["inferer", "predict", path, "--model", bundle, "--text-column", "NAME", "--output", "SCORED.csv"]
    return f"to score its rows: {shlex.join(words)}"
