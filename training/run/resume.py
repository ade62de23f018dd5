"""The folder of an unfinished run, beside its checkpoint, from which a killed run resumes. No torch.

`NAME.unfinished/` holds `run.json` (the run's identity), `checkpoint-STEP/` folders as the Trainer writes them, each
with `complete.json` once it is whole, and `best-STEP.safetensors`. A run that ends well removes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from training.errors import DivergedError, TrainingError

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs in one folder apart
    fcntl = None  # type: ignore[assignment]

_RUN, _LOCK, _COMPLETE = "run.json", "lock", "complete.json"
_STATE = "trainer_state.json"  # the Trainer's
_ROWS = "rows"  # the fact of an identity that is a hash
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True)
class RunFolder:
    """The folder of an unfinished run."""

    folder: Path

    def last_complete(self) -> Path | None:
        """Return the newest whole checkpoint, or None; remove half-written ones."""
        for _, folder in self._checkpoints():
            if not _is_whole(folder):
                shutil.rmtree(folder)
        return max(self._checkpoints(), default=(0, None))[1]

    def mark_complete(self, step: int) -> None:
        """Mark the checkpoint of `step` as whole, then remove those before it."""
        folder = self.folder / f"checkpoint-{step}"
        _write_json(folder / _COMPLETE, {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()})
        for other, old in self._checkpoints():
            if other != step:
                shutil.rmtree(old)

    def best_weights(self, step: int) -> Path:
        """Return the file for the weights of the best epoch so far, which ended at `step`."""
        return self.folder / f"best-{step}.safetensors"

    def keep_only_best(self, step: int) -> None:
        """Remove the weights of other epochs."""
        for file in self.folder.glob("best-*.safetensors"):
            if file != self.best_weights(step):
                file.unlink()

    def _checkpoints(self) -> list[tuple[int, Path]]:
        found = [(_CHECKPOINT.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return [(int(match[1]), path) for match, path in found if match]


def run_folder_for(target: Path) -> RunFolder:
    """Return the folder in which a run of `target` works."""
    return RunFolder(target.with_name(f"{target.name}.unfinished"))


def progress_of(checkpoint: Path) -> str:
    """Return the step of a whole checkpoint, the run's steps, and the local time of the save, in words."""
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    return f"step {state['global_step']} of {state['max_steps']}, saved {_saved(checkpoint)}"


def _saved(checkpoint: Path) -> str:
    when = datetime.fromtimestamp((checkpoint / _COMPLETE).stat().st_mtime, UTC).astimezone()
    return f"on {when:%Y-%m-%d} at {when:%H:%M}"


@contextmanager
def open_run_folder(target: Path, identity: Mapping[str, Any], *, restart: bool) -> Iterator[RunFolder]:
    """Yield the folder in which a run of `target` works; remove it if the block ends without an error.

    identity: the facts, in JSON types, that must be equal for a run to resume. After an error the folder stays if it
    has a whole checkpoint. Raises TrainingError if another run works in it, or if a different run stopped in it and
    `restart` is not set, which discards that one.
    """
    run = run_folder_for(target)
    with open_work_folder(run.folder, "run", identity, lambda: run.last_complete() is not None, restart=restart):
        yield run


@contextmanager
def open_work_folder(
    folder: Path, kind: str, identity: Mapping[str, Any], has_progress: Callable[[], bool], *, restart: bool
) -> Iterator[None]:
    """Hold `folder` for work of a `kind` ("run"), and remove it if the block ends without an error.

    identity: as `open_run_folder` has it. After an error the folder stays if `has_progress`. Raises TrainingError as
    `open_run_folder` does.
    """
    with _locked(folder, kind) as lock:
        _check_same(folder, kind, identity, has_progress, restart=restart)
        _write_json(folder / _RUN, identity)
        try:
            yield
        except BaseException as error:
            if isinstance(error, DivergedError) or not has_progress():
                _remove(folder, lock)
            raise
        _remove(folder, lock)


@contextmanager
def _locked(folder: Path, kind: str) -> Iterator[IO[str]]:
    """Make `folder` and hold its lock. Raises TrainingError if that fails, or another process holds it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / _LOCK).open("a", encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"{folder}: cannot be used for the {kind}'s own files: {error.strerror}") from error
        with lock:
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_there = os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat())
            except BlockingIOError:
                fault = f"another {kind} works there; wait for it, or choose another --output"
                raise TrainingError(f"{folder}: {fault}") from None
            except FileNotFoundError:  # the run that held the lock has ended and removed the folder
                is_there = False
            if is_there:
                yield lock
                return


def _remove(folder: Path, lock: IO[str]) -> None:
    """Remove `folder`, the lock last: a run that waits for it must not find half a folder."""
    _clear(folder, ignore_errors=True)
    (folder / _LOCK).unlink(missing_ok=True)
    lock.close()
    with suppress(OSError):  # another run has begun in it, or the file system keeps open files
        folder.rmdir()


def _clear(folder: Path, *, ignore_errors: bool = False) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK:
            shutil.rmtree(path, ignore_errors=ignore_errors) if path.is_dir() else path.unlink(missing_ok=True)


def _check_same(
    folder: Path, kind: str, identity: Mapping[str, Any], has_progress: Callable[[], bool], *, restart: bool
) -> None:
    """Empty the folder if new work starts in it. Raises TrainingError for the folder of different work."""
    if all(path.name == _LOCK for path in folder.iterdir()):
        return
    if not (folder / _RUN).is_file():
        raise TrainingError(
            f"{folder}: has other files in it ({_RUN} is missing); remove it, or choose another --output"
        )
    try:
        before = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    except ValueError:  # it is written whole, so somebody has changed it
        before = None
    if restart or not isinstance(before, dict) or not has_progress():
        _clear(folder)
        return
    now = json.loads(json.dumps(identity))
    differing = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if differing:
        shown = "; ".join(
            "the rows differ" if name == _ROWS else f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
            for name in differing[:5]
        )
        way = "With its old values and rows it resumes; --restart discards it"
        last = RunFolder(folder).last_complete()
        saved = "" if last is None else f" It was saved {_saved(last)}."
        raise TrainingError(f"{folder}: a {kind} that stopped there differs: {shown}.{saved} {way}")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
    partial.rename(path)


def _is_whole(folder: Path) -> bool:
    """Return whether every file of a checkpoint has the size that it had when the checkpoint was complete."""
    try:
        sizes = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False
