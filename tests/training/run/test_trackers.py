"""TensorBoard, MLflow and Weights & Biases get the figures that a run records."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.export.checkpoints.environments import python_with
from tests.support.fruit import command, write_base, write_table
from tests.support.server import ROOT, run_to_end
from training.__main__ import main
from training.errors import TrainingError
from training.recipe.recipe import Recipe
from training.run.job import NOT_OF_IDENTITY
from training.run.trackers import tensorboard_folder, tracker_callbacks

FLAGS = ("--label-column", "colour", "--epochs", "2")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and a base model."""
    folder = tmp_path_factory.mktemp("given")
    return write_table(folder / "fruit.csv"), write_base(folder / "base")


def ran(python: str, given: tuple[Path, Path], target: Path, *flags: str, **variables: str) -> str:
    """Run a training and return its stderr."""
    own = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    done = run_to_end(python, "-m", "training", *command(*given, target, *FLAGS, *flags), cwd=target.parent, **own)
    assert done.returncode == 0, done.stderr
    return done.stderr


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs that a run recorded."""
    found: list[dict[str, Any]] = json.loads((folder / "epochs.json").read_text())
    return found


def points_of(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Return the steps and values under a tag of TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.slow
def test_tensorboard_has_the_figures_of_the_epochs(given: tuple[Path, Path], tmp_path: Path) -> None:
    """TensorBoard's files outlive the run and have its figures; a run that begins anew replaces them."""
    for flags in ((), ("--overwrite",)):
        said = ran(sys.executable, given, tmp_path / "m", "--report-to", "tensorboard", *flags)
    assert f"reporting to TensorBoard: tensorboard --logdir {tmp_path / 'm.tensorboard'}" in said
    assert {path.name for path in tmp_path.iterdir()} == {"m", "m.tensorboard"}
    epochs = epochs_of(tmp_path / "m")
    for name in ("accuracy", "macro_f1", "loss"):
        key = "eval_loss" if name == "loss" else name
        expected = [(entry["step"], pytest.approx(entry[key], abs=1e-6)) for entry in epochs]
        assert points_of(tmp_path / "m.tensorboard", f"eval/{name}") == expected
    steps = [step for step, _ in points_of(tmp_path / "m.tensorboard", "train/loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == epochs[-1]["step"]


@pytest.mark.slow
def test_mlflow_and_wandb_have_the_figures_of_the_epochs(
    given: tuple[Path, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run under the output's name is in MLflow's store with the last figures, and in the files of wandb offline."""
    python = python_with(tmp_path_factory.getbasetemp(), "mlflow-skinny", "sqlalchemy", "alembic", "wandb")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    variables = {"MLFLOW_TRACKING_URI": store, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    ran(python, given, tmp_path / "m", "--report-to", "mlflow,wandb", **variables)
    code = (
        "import json, sys, mlflow; mlflow.set_tracking_uri(sys.argv[1])\n"
        "(run,) = mlflow.MlflowClient().search_runs(['0'])\n"
        "print(json.dumps([run.info.run_name, run.info.status, run.data.metrics]))"
    )
    read = run_to_end(python, "-c", code, store, cwd=tmp_path)
    assert read.returncode == 0, read.stderr
    name, status, metrics = json.loads(read.stdout.splitlines()[-1])
    assert (name, status) == ("m", "FINISHED")
    assert metrics["eval_accuracy"] == pytest.approx(epochs_of(tmp_path / "m")[-1]["accuracy"])
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_a_tracker_without_its_package_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tracker without its package is one line with the command that installs it, before the data is read."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    table = ["--data", "none.csv", "--text-column", "t", "--label-column", "l", "--output", "out"]
    assert main([*table, "--report-to", "tensorboard,wandb"]) == 2
    assert capsys.readouterr().err == "training: --report-to wandb needs wandb: pip install wandb\n"


def test_a_tracker_that_cannot_begin_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error of a tracker at the start of a run is one line with its name."""

    class Broken:
        def on_train_begin(self, *_: object) -> None:
            raise RuntimeError("no key\nand more")

    monkeypatch.setattr("training.run.trackers.get_reporting_integration_callbacks", lambda _: [Broken])
    (callback,) = tracker_callbacks(Recipe(output=tmp_path / "m", report_to=("wandb",)), None)
    with pytest.raises(TrainingError, match="^--report-to wandb cannot begin: no key$"):
        callback.on_train_begin(None, None, None)


def reported(target: Path, last: Path | None, points: dict[int, float]) -> None:
    """Report points to TensorBoard as a run of `target`."""
    (callback,) = tracker_callbacks(Recipe(output=target, report_to=("tensorboard",)), last)
    for step, value in points.items():
        callback.tb_writer.add_scalar("eval/accuracy", value, step)
    callback.tb_writer.close()


def test_a_resumed_run_goes_on_in_tensorboard(tmp_path: Path) -> None:
    """A resumed run replaces what came after its checkpoint; one that begins anew all, but for other files."""
    folder, target = tensorboard_folder(tmp_path / "m"), tmp_path / "m"
    reported(target, None, {1: 0.25, 2: 0.5, 3: 0.125})
    (folder / "notes.txt").touch()
    reported(target, tmp_path / "checkpoint-2", {3: 0.75, 4: 0.875})
    assert points_of(folder, "eval/accuracy") == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 0.875)]
    reported(target, None, {1: 0.375})
    assert points_of(folder, "eval/accuracy") == [(1, 0.375)]
    assert (folder / "notes.txt").exists()
    assert "report_to" in NOT_OF_IDENTITY


def test_the_folder_of_tensorboard_s_own_variable_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TENSORBOARD_LOGGING_DIR decides on the folder, and its earlier files stay."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "mine"))
    for _ in range(2):
        reported(tmp_path / "m", None, {1: 0.5})
    assert len(list((tmp_path / "mine").glob("events.*"))) == 2
    assert not tensorboard_folder(tmp_path / "m").exists()
