"""The lines that a run prints before it trains, and at its end."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.data.location import redacted
from training.report.next_steps import next_commands
from training.report.tables import as_text, figures_table
from training.run.job import Job
from training.run.processes import say
from training.run.trainer import device_and_precision, training_arguments, uses_bf16

_LEAST_TO_CALIBRATE = 100


def report(job: Job) -> None:
    """Print the device, the rows, the lengths of the texts, and the schedule."""
    splits, lengths, max_length = job.splits, job.lengths, job.encoder.max_length
    parts = {"validation": splits.validation, "calibration": splits.calibration}
    further = "".join(f", {len(part)} more for {name}" for name, part in parts.items() if part is not None)
    device = training_arguments(job.recipe, job.recipe.target).device  # the Trainer's choice
    where = device_and_precision(device, job.recipe.precision)
    more = f" and {added} without labels" if (added := len(splits.unlabelled.texts)) else ""
    say(f"training on {where}: {len(splits.train)} texts{more}, {len(splits.held_out)} held out{further}")
    over = sum(n > max_length for n in lengths)
    say(
        f"tokens per text: median {int(np.median(lengths))}, longest {max(lengths)}; {over / len(lengths):.1%} "
        f"are over max_length {max_length} and are cut ({job.encoder.truncation})"
    )
    recipe = job.recipe
    if job.teacher is not None:
        names = ", ".join(map(redacted, recipe.teacher))
        say(f"learning from {names} (temperature {recipe.temperature:g}, alpha {recipe.alpha:g})")
    head = "" if recipe.head_learning_rate is None else f" (head {recipe.head_learning_rate:g})"
    say(f"{recipe.epochs:g} epochs at a learning rate of {recipe.learning_rate:g}{head}")
    if splits.calibration is not None and len(splits.calibration) < _LEAST_TO_CALIBRATE:
        say(f"note: the export calibrates on at least {_LEAST_TO_CALIBRATE} rows")


def report_end(job: Job, record: dict[str, Any]) -> None:
    """Print the figures, each sign that the run did not work, and the commands that come next."""
    say(f"\nheld-out texts:\n{as_text(figures_table(record['held_out']))}")
    if job.splits.validation is None and uses_bf16(job.recipe.precision):
        say("  (in fp32; the epochs above are measured in bf16, as they are trained)")
    for sentence in record["advice"]:
        say(f"note: {sentence}")
    say(f"wrote {job.recipe.target}; next:")
    for command in next_commands(record["recipe"], job.recipe.target, calibrates=job.splits.calibration is not None):
        say(f"  {command}")
