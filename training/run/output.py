"""An output folder that appears whole or not at all: written beside its place and renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

_SUFFIX = ".partial"
_OLD = "old"


class OutputError(Exception):
    """A folder cannot be written at the requested place; the message names it and the reason."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM or Ctrl-C as an exception, so that half-written folders are removed.

    Not KeyboardInterrupt itself: if that is raised inside `exec` of a string, as importing dataclasses does often,
    CPython remembers it, and `python -m` dies of SIGINT after the program has caught it and returned its exit code.
    """


def interrupt_on_signals() -> None:
    """Make SIGTERM and Ctrl-C raise Interrupted in the main thread; an ignored Ctrl-C stays ignored."""

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise Interrupted

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)


def check_target(target: Path, marker: str, *, overwrite: bool) -> None:
    """Raise OutputError if `target` may not be written.

    marker: a file in every folder of this kind. An existing folder is replaced only with `overwrite`, and only if it
    has the marker, so that a mistyped path loses nothing.
    """
    if target.name in ("", ".."):
        raise OutputError(f"{target}: cannot be replaced as a whole; choose another folder")
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir():
        raise OutputError(f"{target}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: {parent} cannot be written to")
    _clear_leftovers(target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OutputError(f"{target}: is there already and is not a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / marker).is_file():
        raise OutputError(f"{target}: is a folder with other files in it ({marker} is missing); choose another")
    if not overwrite:
        raise OutputError(f"{target}: is there already; choose another, or say --overwrite to replace it")


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` if the block ends without an error.

    Call `check_target` before the work begins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes it private; in production another user reads a bundle
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors writes 0600
        _swap(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    """Remove the leftovers of killed runs beside `target`; put back an old folder that one had moved aside."""
    if not target.parent.is_dir():
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.[^.]+{re.escape(_SUFFIX)}")
    for leftover in list(target.parent.iterdir()):
        made = ours.fullmatch(leftover.name)
        if made is None or _in_use(int(made[1])):
            continue
        if (leftover / _OLD).is_dir() and not target.exists():
            (leftover / _OLD).rename(target)
        shutil.rmtree(leftover, ignore_errors=True)


def _in_use(pid: int) -> bool:
    """Return whether the process `pid`, which made a leftover, still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid() and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether process `pid` has ended but was never collected, as orphans in a container may be."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def _swap(folder: Path, target: Path) -> None:
    """Put `folder` in the place of `target`, and remove an old one only after that."""
    if not target.exists() or not any(target.iterdir()):
        folder.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent))
    target.rename(aside / _OLD)
    try:
        folder.replace(target)
    except BaseException:
        (aside / _OLD).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside)
