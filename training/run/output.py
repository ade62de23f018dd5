"""A folder written beside its place and renamed at the end, so that it is there whole or not at all."""

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
    """A folder cannot be written where it was asked for; the message names it and says why."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM, or Ctrl-C, as an exception that a half-written folder is removed by.

    Not KeyboardInterrupt itself: when that strikes inside `exec` of a string (as importing dataclasses
    does by the hundred), CPython remembers it, and `python -m` dies of SIGINT after the program
    has caught it and returned its own exit code.
    """


def interrupt_on_signals() -> None:
    """Let SIGTERM and Ctrl-C raise Interrupted in the main thread; an ignored Ctrl-C stays ignored."""

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise Interrupted

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)


def check_target(target: Path, marker: str, *, overwrite: bool) -> None:
    """Raise OutputError if `target` may not be written.

    marker: the file that a folder of this kind has. A folder that is there already is only replaced
    with `overwrite`, and only when it has the marker, so that a mistyped path loses nothing.
    """
    if target.name in ("", ".."):
        raise OutputError(f"{target}: is no folder that can be replaced whole; choose another")
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
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
        raise OutputError(f"{target}: is a folder with other things in it ({marker} is missing); choose another")
    if not overwrite:
        raise OutputError(f"{target}: is there already; choose another, or say --overwrite to replace it")


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block ends without an error.

    Call `check_target` before the work begins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes it private; a bundle is read by another user in production
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors writes 0600
        _swap(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    """Remove what killed runs left beside `target`; put back a folder that one had moved out of the way."""
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
    """Return whether the process that made a leftover still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid() and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether process `pid` has ended and only waits to be collected, as orphans in a container may for ever."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def _swap(folder: Path, target: Path) -> None:
    """Put `folder` in the place of `target`; what was there goes only once it is out of the way."""
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
