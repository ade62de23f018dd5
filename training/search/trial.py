"""One trial of a search: a model trained with its settings, stopped where it is worse than others or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from training.evaluation.predictions import Predictions
from training.pipeline import train_and_predict
from training.recipe.recipe import Recipe
from training.report.metrics import choosing_figure
from training.splits.splits import Splits

_NEVER = 1e6  # minutes between saves: a trial does not resume


class PrunedError(Exception):
    """A trial is worse than others."""


class OutOfTimeError(Exception):
    """A trial has reached the deadline."""


class _Watch(TrainerCallback):
    """Stops a run that is worse than others, or has no time left; saves nothing."""

    def __init__(self, metric: str, is_worse: Callable[[float, float], bool], deadline: float) -> None:
        self.metric, self.is_worse, self.deadline = metric, is_worse, deadline

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Stop at the deadline; after the last step only the figure is missing."""
        if time.monotonic() >= self.deadline and state.global_step < state.max_steps:
            raise OutOfTimeError

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Take back the save after each epoch."""
        control.should_save = False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Compare the epoch's figure, which a constant regression lacks."""
        value = (metrics or {}).get(f"eval_{self.metric}")
        if value is not None and self.is_worse(state.global_step / state.max_steps, value):
            raise PrunedError


def run_trial(
    recipe: Recipe, splits: Splits, folder: Path, is_worse: Callable[[float, float], bool], deadline: float
) -> Predictions:
    """Train as `recipe` says, in `folder`, and return the predictions for the held-out rows of `splits`.

    is_worse: takes the share of the steps and the figure after each epoch. deadline: by time.monotonic, seconds.
    Raises PrunedError, OutOfTimeError, and TrainingError as `train_and_predict` does.
    """
    watch = _Watch(choosing_figure(splits.watched), is_worse, deadline)
    return train_and_predict(replace(recipe, output=folder, save_minutes=_NEVER), splits, watch)
