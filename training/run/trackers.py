"""The Trainer's own integrations with TensorBoard, MLflow and Weights & Biases, for `report_to`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, get_reporting_integration_callbacks

from inferer.errors import first_line
from training.errors import TrainingError
from training.recipe.recipe import Recipe
from training.run import processes
from training.run.processes import say


def tensorboard_folder(target: Path) -> Path:
    """Return the folder for TensorBoard's files of a run of `target`: beside it, because they outlive the run."""
    return target.with_name(f"{target.name}.tensorboard")


def tracker_callbacks(recipe: Recipe, last: Path | None) -> list[TrainerCallback]:
    """Return the callbacks of `recipe.report_to`; a tracker that cannot begin raises TrainingError in one line.

    last: the Trainer's checkpoint from which the run resumes, or None. The trackers' environment variables hold, such
    as MLFLOW_TRACKING_URI and WANDB_MODE.
    """
    made = []
    for name in recipe.report_to:
        (kind,) = get_reporting_integration_callbacks([name])
        callback: Any = _tensorboard(recipe.target, last) if kind is TensorBoardCallback else kind()
        callback.on_train_begin = _in_one_line(name, callback.on_train_begin)
        made.append(callback)
    return made


def _tensorboard(target: Path, last: Path | None) -> TensorBoardCallback:
    """Return the callback with its folder, TENSORBOARD_LOGGING_DIR or that of `target`.

    A run that begins anew removes the event files of the earlier one from its own folder; a run that resumes hides what
    the stopped one reported after `last`.
    """
    if not processes.is_main():
        return TensorBoardCallback()
    given = os.environ.get("TENSORBOARD_LOGGING_DIR")
    folder = Path(given).expanduser() if given else tensorboard_folder(target)
    if last is None and not given:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    say(f"reporting to TensorBoard: tensorboard --logdir {folder}")
    from torch.utils.tensorboard import SummaryWriter  # it needs tensorboard

    step = None if last is None else int(last.name.rpartition("-")[2]) + 1
    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step))


def _in_one_line(name: str, begin: Any) -> Any:
    def on_train_begin(*given: Any, **named: Any) -> Any:
        try:
            return begin(*given, **named)
        except Exception as error:  # each tracker has its own, for a server, a key or a folder
            raise TrainingError(f"--report-to {name} cannot begin: {first_line(error)}") from error

    return on_train_begin
