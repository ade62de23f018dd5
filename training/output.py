"""A folder written beside its place and renamed at the end, so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError

_SUFFIX = ".partial"
_OLD = "old"


def check_target(target: Path, marker: str, *, overwrite: bool) -> None:
    """Raise TrainingError if `target` may not be written.

    marker: the file that a folder of this kind has. A folder that is there already is only replaced
    with `overwrite`, and only when it has the marker, so that a mistyped path loses nothing.
    """
    _clear_leftovers(target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TrainingError(f"{target}: is there already and is not a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / marker).is_file():
        raise TrainingError(f"{target}: is a folder with other things in it ({marker} is missing); choose another")
    if not overwrite:
        raise TrainingError(f"{target}: is there already; choose another, or say --overwrite to replace it")


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
        _swap(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    """Remove what killed runs left beside `target`; put back a folder that one had moved out of the way."""
    for leftover in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
        if _in_use(leftover):
            continue
        if (leftover / _OLD).is_dir() and not target.exists():
            (leftover / _OLD).rename(target)
        shutil.rmtree(leftover, ignore_errors=True)


def _in_use(leftover: Path) -> bool:
    """Return whether the process that made `leftover`, named in it, still runs."""
    pid = leftover.name.removesuffix(_SUFFIX).split(".")[-2]
    if not pid.isdigit():
        return True  # not one of ours
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def _swap(folder: Path, target: Path) -> None:
    """Put `folder` in the place of `target`; what was there goes only once it is out of the way."""
    if not target.exists() or not any(target.iterdir()):
        folder.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent))
    target.rename(aside / _OLD)
    folder.replace(target)
    shutil.rmtree(aside)
