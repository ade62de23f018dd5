"""A killed run resumes from its last whole checkpoint and ends with the weights of an unbroken one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.fruit import command, write_base, write_table
from tests.support.server import ROOT, environment, run_to_end
from training.errors import TrainingError
from training.run.resume import RunFolder, open_run_folder, progress_of, run_folder_for

# Head-first epochs, dropout, accumulation, a chosen epoch: all the state of a run.
FLAGS = (
    "--label-column", "colour", "--epochs", "8", "--batch-size", "4", "--gradient-accumulation", "2",
    "--head-first-epochs", "2", "--head-learning-rate", "0.01", "--validation-share", "0.2", "--keep-best",
    "--class-weights", "balanced", "--label-smoothing", "0.1", "--save-minutes", "0",
)  # fmt: skip
SAVED = datetime(2026, 11, 29, 10, 52)  # noqa: DTZ001  local time, as it is printed
IDENTITY = {"seed": 0, "rows": "abc"}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and a base model."""
    folder = tmp_path_factory.mktemp("given")
    return write_table(folder / "fruit.csv"), write_base(folder / "base")


def started(given: tuple[Path, Path], target: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a run and return its process."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "training", *command(*given, target, *FLAGS)],
            cwd=ROOT,
            env=environment(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1"),
            stdout=out,
            stderr=out,
        )


def step_of(run: RunFolder) -> int:
    """Return the step of the newest checkpoint folder, whole or not; 0 without one."""
    return max((int(path.name.split("-")[1]) for path in run.folder.glob("checkpoint-*")), default=0)


def killed_after(process: subprocess.Popen[bytes], run: RunFolder, step: int, pause_s: float) -> None:
    """Kill the run at a moment after it began to save `step`."""
    deadline = time.monotonic() + 120
    while step_of(run) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(pause_s)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_the_unbroken_one(given: tuple[Path, Path], tmp_path: Path) -> None:
    """Killed at three random moments, once within a checkpoint, a run ends with the same weights and figures."""
    whole = run_to_end(
        sys.executable, "-m", "training", *command(*given, tmp_path / "whole", *FLAGS),
        HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    assert not run_folder_for(tmp_path / "whole").folder.exists()
    steps = json.loads((tmp_path / "whole" / "epochs.json").read_text())[-1]["step"]
    target, log, rng = tmp_path / "broken", tmp_path / "log", random.Random(20261121)
    run = run_folder_for(target)
    reached = []
    for kill in range(3):
        low, high = steps * kill // 3 + 2, steps * (kill + 1) // 3 - 2
        process = started(given, target, log)
        killed_after(process, run, rng.randint(low, high), rng.random() * 0.05)
        assert process.returncode == -9, log.read_text()
        reached.append(step_of(run))
        if kill == 1:  # as if killed while writing a later checkpoint
            half = run.folder / f"checkpoint-{reached[-1] + 1}"
            last = run.last_complete()
            assert last is not None
            shutil.copytree(last, half, ignore=shutil.ignore_patterns("complete.json"))
            (half / "optimizer.pt").write_bytes((half / "optimizer.pt").read_bytes()[:1000])
    assert 0 < reached[0] < reached[1] < reached[2] < steps
    assert started(given, target, log).wait(120) == 0, log.read_text()
    assert log.read_text().count("resuming at step ") == 3
    assert not run.folder.exists()
    for name in ("model.safetensors", "held_out.csv", "misclassified.csv", "report.json"):
        assert (target / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    before, after = (json.loads((tmp_path / name / "epochs.json").read_text()) for name in ("whole", "broken"))
    for one, other in zip(before, after, strict=True):
        # The training loss is averaged between log entries, which a break moves.
        assert {**one, "train_loss": 0} == {**other, "train_loss": 0}
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=0.3)
    assert any(entry["kept"] for entry in after)


@pytest.mark.slow
def test_a_run_that_differs_does_not_resume(given: tuple[Path, Path], tmp_path: Path) -> None:
    """A different recipe is refused with the difference and leaves the stopped run alone; --restart begins anew."""
    target, log = tmp_path / "model", tmp_path / "log"
    process = started(given, target, log)
    killed_after(process, run_folder_for(target), 5, 0.0)
    kept = run_folder_for(target).last_complete()
    assert kept is not None, log.read_text()
    other = [*command(*given, target, *FLAGS), "--seed", "5"]
    refused = run_to_end(sys.executable, "-m", "training", *other, HF_HUB_OFFLINE="1")
    assert refused.returncode == 2
    said = refused.stderr.splitlines()[-1]
    assert said.startswith(
        f"training: {run_folder_for(target).folder}: a run that stopped there differs: seed was 0, is 5"
    )
    assert "--restart discards it" in said
    assert run_folder_for(target).last_complete() == kept
    again = run_to_end(sys.executable, "-m", "training", *other, "--restart", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    assert again.returncode == 0, again.stderr
    assert "resuming" not in again.stderr
    assert not run_folder_for(target).folder.exists()


def saved(run: RunFolder, step: int, *, whole: bool = True) -> Path:
    """Make a checkpoint of one file."""
    folder = run.folder / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"x" * step)
    if whole:
        run.mark_complete(step)
    return folder


class _Killed(BaseException):
    """A run ends here."""


def stop(target: Path, *steps: int, half: int | None = None, identity: dict[str, Any] = IDENTITY) -> RunFolder:
    """Stop a run of `target` after whole checkpoints at `steps`, within the one at `half`."""
    with contextlib.suppress(_Killed), open_run_folder(target, identity, restart=False) as run:
        for step in steps:
            saved(run, step)
        if half is not None:
            saved(run, half, whole=False)
        raise _Killed
    return run_folder_for(target)


@pytest.fixture
def stopped(tmp_path: Path) -> RunFolder:
    """A run that was stopped with a whole checkpoint 7 and a half-written checkpoint 9."""
    run = stop(tmp_path / "model", 3, 7)
    saved(run, 9, whole=False)
    return run


def test_a_run_resumes_from_the_newest_whole_checkpoint(stopped: RunFolder) -> None:
    """The newest whole checkpoint counts; older ones are gone, and half-written ones are removed."""
    assert sorted(path.name for path in stopped.folder.glob("checkpoint-*")) == ["checkpoint-7", "checkpoint-9"]
    last = stopped.last_complete()
    assert last == stopped.folder / "checkpoint-7"
    assert [path.name for path in stopped.folder.glob("checkpoint-*")] == ["checkpoint-7"]


@pytest.mark.parametrize("damage", ["shorter", "missing", "no sizes", "odd sizes"])
def test_a_checkpoint_that_lost_something_is_not_whole(stopped: RunFolder, damage: str) -> None:
    """A run does not resume from a checkpoint with a missing file, a file of another size, or no list of sizes."""
    folder = stopped.folder / "checkpoint-7"
    if damage == "shorter":
        (folder / "model.safetensors").write_bytes(b"x")
    elif damage == "missing":
        (folder / "model.safetensors").unlink()
    else:
        (folder / "complete.json").write_text("" if damage == "no sizes" else "[1]")
    assert stopped.last_complete() is None


def test_a_stopped_run_resumes_only_as_itself(stopped: RunFolder, tmp_path: Path) -> None:
    """The same run finds its checkpoint; a different one is refused with the difference; `restart` discards it."""
    target = tmp_path / "model"
    with open_run_folder(target, IDENTITY, restart=False) as run:
        assert run.last_complete() is not None
        saved(run, 11)
    assert not run.folder.exists()
    stop(target, 2)
    with (
        pytest.raises(TrainingError, match="differs: seed was 0, is 1"),
        open_run_folder(target, {**IDENTITY, "seed": 1}, restart=False),
    ):
        pass
    with open_run_folder(target, {**IDENTITY, "seed": 1}, restart=True) as run:
        assert run.last_complete() is None


def test_rows_that_differ_are_said_without_their_hash(stopped: RunFolder, tmp_path: Path) -> None:
    """The error for other rows has the date of the stopped run's last save, and no hash."""
    os.utime(stopped.folder / "checkpoint-7" / "complete.json", (0, SAVED.timestamp()))
    with (
        pytest.raises(TrainingError) as caught,
        open_run_folder(tmp_path / "model", {**IDENTITY, "rows": "def"}, restart=False),
    ):
        pass
    assert str(caught.value) == (
        f"{stopped.folder}: a run that stopped there differs: the rows differ. It was saved on 2026-11-29 at 10:52. "
        "With its old values and rows it resumes; --restart discards it"
    )


def test_the_progress_of_a_checkpoint_has_steps_and_a_date(stopped: RunFolder) -> None:
    """A checkpoint's progress is its step, the steps of the whole run, and the local time at which it was whole."""
    folder = stopped.folder / "checkpoint-7"
    (folder / "trainer_state.json").write_text('{"global_step": 120, "max_steps": 378}')
    os.utime(folder / "complete.json", (0, SAVED.timestamp()))
    assert progress_of(folder) == "step 120 of 378, saved on 2026-11-29 at 10:52"


def test_a_run_stopped_before_it_saved_leaves_nothing(tmp_path: Path) -> None:
    """A run stopped before its first whole checkpoint leaves nothing."""
    stop(tmp_path / "model", half=3)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """A run is refused while another works in its folder, and that one is not disturbed."""
    with open_run_folder(tmp_path / "model", IDENTITY, restart=False) as run:
        saved(run, 3)
        with (
            pytest.raises(TrainingError, match="another run works there"),
            open_run_folder(tmp_path / "model", IDENTITY, restart=True),
        ):
            pass
        assert run.last_complete() is not None


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    """A folder of that name with other files in it is refused, and none of them is removed."""
    folder = run_folder_for(tmp_path / "model").folder
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with (
        pytest.raises(TrainingError, match="has other files in it"),
        open_run_folder(tmp_path / "model", IDENTITY, restart=True),
    ):
        pass
    assert (folder / "thesis.txt").read_text() == "mine"


def test_the_best_weights_are_kept_until_others_are_saved(tmp_path: Path) -> None:
    """Of the best weights only those of the best epoch stay."""
    with open_run_folder(tmp_path / "model", IDENTITY, restart=False) as run:
        for step in (3, 7):
            run.best_weights(step).write_text("x")
        run.keep_only_best(3)
        assert [path.name for path in run.folder.glob("best-*")] == ["best-3.safetensors"]


def test_identities_are_compared_as_json(tmp_path: Path) -> None:
    """Lists and tuples, and numbers that JSON writes alike, are equal."""
    stop(tmp_path / "model", 1, identity={"sizes": (1, 2), "rate": 1e-4})
    with open_run_folder(tmp_path / "model", {"sizes": [1, 2], "rate": 0.0001}, restart=False) as run:
        assert run.last_complete() is not None
