"""A run that is under way: the folder beside the checkpoint that a killed one goes on from. No torch.

`NAME.unfinished/` holds `run.json` (what the run is), `checkpoint-STEP/` folders as the Trainer writes them, each with
`complete.json` once it is whole, and `best-STEP.safetensors`. It is gone when the run has ended well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from training.errors import DivergedError, TrainingError

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

_RUN, _LOCK, _COMPLETE = "run.json", "lock", "complete.json"
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run under way."""

    folder: Path

    def last_complete(self) -> Path | None:
        """Return the newest whole checkpoint; None when there is none. Half-written ones are removed."""
        whole = {}
        for step, folder in self._checkpoints():
            if _is_whole(folder):
                whole[step] = folder
            else:
                shutil.rmtree(folder)
        return whole[max(whole)] if whole else None

    def mark_complete(self, step: int) -> None:
        """Say that the checkpoint of `step` is whole, then remove those before it."""
        folder = self.folder / f"checkpoint-{step}"
        sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
        partial = folder / f"{_COMPLETE}.partial"
        partial.write_text(json.dumps(sizes), encoding="utf-8")
        partial.rename(folder / _COMPLETE)
        for other, old in self._checkpoints():
            if other != step:
                shutil.rmtree(old)

    def best(self, step: int) -> Path:
        """Return where the weights of the best epoch so far, which ended at `step`, are kept."""
        return self.folder / f"best-{step}.safetensors"

    def keep_only_best(self, step: int) -> None:
        """Remove the weights of other epochs."""
        for file in self.folder.glob("best-*.safetensors"):
            if file != self.best(step):
                file.unlink()

    def _checkpoints(self) -> list[tuple[int, Path]]:
        found = [(_CHECKPOINT.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return [(int(match[1]), path) for match, path in found if match]


def run_folder_for(target: Path) -> RunFolder:
    """Return the folder that a run of `target` works in."""
    return RunFolder(target.with_name(f"{target.name}.unfinished"))


@contextmanager
def open_run_folder(target: Path, identity: Mapping[str, Any], *, restart: bool) -> Iterator[RunFolder]:
    """Yield the folder that a run of `target` works in; it is removed when the block ends without an error.

    identity: what must be the same for a run to go on where another stopped, in JSON types. An error leaves the folder
    when there is a whole checkpoint in it. Raises TrainingError when another run is at work in it, or one that differs
    stopped there and `restart` does not say to throw it away.
    """
    run = run_folder_for(target)
    folder = run.folder
    with _locked(folder) as lock:
        _check_same(folder, identity, restart=restart)
        _write_run(folder, identity)
        try:
            yield run
        except BaseException as error:
            if isinstance(error, DivergedError) or run.last_complete() is None:
                _remove(folder, lock)
            raise
        _remove(folder, lock)


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """Hold the lock of `folder`, which is made. Raises TrainingError where that cannot be, or another run holds it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / _LOCK).open("a", encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"{folder}: cannot be used to keep what a run has done: {error.strerror}") from error
        with lock:
            _take(lock, folder)
            if not _is_there(lock, folder):  # the run that held it ended, and took the folder away
                continue
            yield lock
            return


def _take(lock: IO[str], folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrainingError(
            f"{folder}: another run is at work there; wait for it, or choose another --output"
        ) from None


def _is_there(lock: IO[str], folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path, lock: IO[str]) -> None:
    """Remove `folder`, the lock last: who waits for it must not find a folder that is half gone."""
    for path in folder.iterdir():
        if path.name != _LOCK:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    (folder / _LOCK).unlink(missing_ok=True)
    lock.close()
    with suppress(OSError):  # another run has begun in it, or a file system keeps what was open
        folder.rmdir()


def _check_same(folder: Path, identity: Mapping[str, Any], *, restart: bool) -> None:
    others = [path for path in folder.iterdir() if path.name != _LOCK]
    if not others:
        return
    if not (folder / _RUN).is_file():
        raise TrainingError(
            f"{folder}: has other things in it ({_RUN} is missing); remove it, or choose another --output"
        )
    try:
        before = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    except ValueError:  # it is renamed into place, so this is not ours to mend
        before = None
    if restart or not isinstance(before, dict) or RunFolder(folder).last_complete() is None:
        for path in others:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    now = json.loads(json.dumps(identity))
    differing = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if differing:
        shown = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in differing[:5])
        raise TrainingError(
            f"{folder}: a run that stopped there differs: {shown}. Give what it had and it goes on; "
            "--restart throws it away"
        )


def _write_run(folder: Path, identity: Mapping[str, Any]) -> None:
    partial = folder / f"{_RUN}.partial"
    partial.write_text(json.dumps(identity, indent=2, ensure_ascii=False), encoding="utf-8")
    partial.rename(folder / _RUN)


def _is_whole(folder: Path) -> bool:
    """Return whether every file of a checkpoint is there in the size that it had when it was whole."""
    try:
        sizes = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False
