"""Fine-tune an encoder with transformers' Trainer: load the model, train it, predict the held-out rows, write all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the Trainer's loader may fork

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import Identity
from transformers import DataCollatorWithPadding, TrainerCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from inferer.bundle.manifest import MULTI_LABEL, NONE, activation_of
from inferer.bundle.reader import CONFIG
from inferer.scoring import activate
from training.data.dataset import Dataset
from training.distillation.loss import make_distillation
from training.errors import DivergedError, TrainingError
from training.evaluation.checkpoint_logits import LoadedModel, compute_logits
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.few_labels.contrast import contrastive
from training.few_labels.linear_head import LinearHead, fit_head
from training.model.losses import is_relevance, make_loss
from training.model.scale import scale_of
from training.quiet import quiet_transformers
from training.recipe.recipe import BEST, Recipe
from training.report.console import report, report_end
from training.report.metrics import measure
from training.report.results import Result, write_result
from training.report.thresholds import best_f1
from training.run import processes
from training.run.epochs import best_epoch, epoch_records
from training.run.job import Job, identity, prepare, versions
from training.run.output import check_target
from training.run.processes import say
from training.run.resume import RunFolder, open_run_folder, progress_of, run_folder_for
from training.run.rows import labelled_rows, numbered, training_rows
from training.run.trackers import tracker_callbacks
from training.run.trainer import (
    ClassifierTrainer,
    EpochCallback,
    EpochOrder,
    LossProgressBar,
    training_arguments,
)
from training.splits.splits import Splits


def finetune(
    recipe: Recipe,
    splits: Splits,
    *,
    restart: bool = False,
    overwrite: bool = False,
    search: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train as `recipe` says, write the checkpoint's folder to `recipe.target`, and return the held-out figures.

    Processes other than the main one return an empty dict. The folder appears complete or not at all; a run that was
    stopped resumes from its last whole checkpoint. search: the record of the search that chose the settings. Raises
    TrainingError for a base model that cannot be used, and for a run that diverged.
    """
    if splits.train.columns.separator:  # lists of labels have one too, and the held-out rows are written with it
        recipe = replace(recipe, label_separator=splits.train.columns.separator)
    job = prepare(recipe, splits)
    recipe = job.recipe
    report(job)
    with _run_folder(job, restart=restart) as (run, last):
        if last is not None:
            say(f"resuming at {progress_of(last)}, of a run that was stopped (--restart begins anew)")
        history = _train(job, run, last)
        if not processes.is_main():
            return {}
        predictions, threshold = _predict_held_out(job)
        check_target(recipe.target, CONFIG, overwrite=overwrite)  # another run may have ended meanwhile
        epochs = epoch_records(history, job.metric if recipe.keep_best else None)
        facts = job.lengths, threshold, epochs, versions()
        result = Result(recipe, splits, job.model, job.encoder.tokenizer, *facts, search)
        record = write_result(result, predictions)
    report_end(job, record)
    metrics: dict[str, Any] = record["held_out"]
    return metrics


def with_defaults(recipe: Recipe, splits: Splits) -> tuple[Recipe, dict[str, Any]]:
    """Return `recipe` with the epochs and rates that it leaves open, and the identity of its run in JSON types."""
    job = prepare(recipe, splits)
    return job.recipe, identity(job)


def train_and_predict(recipe: Recipe, splits: Splits, watch: TrainerCallback | None = None) -> Predictions:
    """Train as `recipe` says, beside `recipe.target`, and return the predictions for the held-out rows alone.

    watch: is called last, and may end the run by an error; with it, epochs are not printed. Raises TrainingError as
    `finetune` does.
    """
    job = prepare(recipe, splits)
    with _run_folder(job, restart=True) as (run, _):
        _train(job, run, None, watch)
        return _predict_held_out(job, "evaluating" if watch is None else "")[0]


@contextmanager
def _run_folder(job: Job, *, restart: bool) -> Iterator[tuple[RunFolder, Path | None]]:
    """Yield the run's folder and its last whole checkpoint. The main process opens it, and tells the others."""
    if not processes.is_main():
        last = processes.from_main(None)
        if isinstance(last, TrainingError):
            raise last
        yield run_folder_for(job.recipe.target), last
        return
    with ExitStack() as stack:
        try:
            run = stack.enter_context(open_run_folder(job.recipe.target, identity(job), restart=restart))
        except TrainingError as error:
            processes.from_main(error)
            raise
        yield run, processes.from_main(run.last_complete())


def _train(job: Job, run: RunFolder, last: Path | None, watch: TrainerCallback | None = None) -> list[dict[str, Any]]:
    """Train the model, from the checkpoint `last` on if there is one, and return the Trainer's log.

    The model ends up in eval mode and fp32, as evaluation and export run it.
    """
    recipe, watched = job.recipe, job.splits.watched
    # Without a fixed length: to the longest of the batch.
    padding = ("max_length", job.encoder.max_length) if recipe.pad_to_max_length else (True, None)
    order = EpochOrder(
        [len(row["input_ids"]) for row in job.train.rows],
        recipe.batch_size * recipe.gradient_accumulation,
        recipe.seed,
        grouped=recipe.group_by_length and not recipe.few_labels,  # pairs of any two texts
        groups=numbered(job.splits.train.groups) if is_relevance(job.splits.train) else (),
    )

    activation = getattr(job.model.config, "inferer_activation", NONE)
    scale = scale_of(job.splits.train)

    def figures(output: Any) -> dict[str, float]:
        if not np.isfinite(output.predictions).all():
            hint = f"try a learning rate below {recipe.learning_rate}"
            raise DivergedError(f"the trained model gives logits that are not finite; {hint}")
        given = output.predictions  # with few labels the embeddings, before there is a head
        logits = _fit_head(job).logits(given) if recipe.few_labels else scale.logits(given)
        threshold = _threshold(recipe, logits, watched)  # each epoch has the one that it would get
        predictions = predictions_from_logits(logits, watched.problem_type, threshold, activation)
        found = measure(watched, predictions, intervals=False)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    model: Any = job.model
    if recipe.few_labels:
        model.classifier = Identity()
    loss = contrastive if recipe.few_labels else make_loss(recipe, job.splits.train)
    trainer: Any = ClassifierTrainer(
        model=job.model,
        args=training_arguments(recipe, run.folder),
        train_dataset=training_rows(job.splits.train, job.train, scale, job.teacher),
        eval_dataset=labelled_rows(watched, job.watched, scale),
        data_collator=DataCollatorWithPadding(job.encoder.tokenizer, *padding),
        compute_metrics=figures,
        loss=loss,
        distillation=make_distillation(recipe, job.splits.train.problem_type, loss),
        order=order,
        head_learning_rate=recipe.head_learning_rate,
    )
    bar = LossProgressBar(stays=watch is None)
    trainer.remove_callback(DEFAULT_PROGRESS_CALLBACK)  # a notebook would have a different one
    if watch is None or sys.stderr.isatty():  # a log has a line for each trial
        trainer.add_callback(bar)
    trainer.add_callback(EpochCallback(recipe, job.model, order, run, job.metric, says=watch is None))
    for callback in tracker_callbacks(recipe, last) if watch is None else [watch]:
        trainer.add_callback(callback)
    try:
        with quiet_transformers():  # its checkpoints are not worth a bar each
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
    finally:
        bar.close()
    history: list[dict[str, Any]] = trainer.state.log_history
    best = best_epoch(history, job.metric)
    if recipe.keep_best and best is not None and best.since:
        processes.wait_for_all()  # for the file, which the main process writes
        job.model.load_state_dict(load_file(run.best_weights(best.step)))
    scale.into(job.model)
    if recipe.few_labels:
        model.eval()  # a run that resumes behind its last step has not been evaluated
        model.classifier = _fit_head(job).layer().to(model.device)
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
    return history


def _fit_head(job: Job) -> LinearHead:
    """Return the head for the model's present embeddings of the training rows."""
    return fit_head(compute_logits(LoadedModel(job.model, job.encoder), job.train, title=""), job.splits.train)


def _predict_held_out(job: Job, title: str = "evaluating") -> tuple[Predictions, float]:
    """Return the predictions for the held-out rows and the threshold, a chosen one being put into the config."""
    loaded = LoadedModel(job.model, job.encoder)
    logits = compute_logits(loaded, job.held_out, title=title)
    watched, threshold = job.splits.watched, job.recipe.threshold
    if threshold == BEST:
        threshold = _threshold(job.recipe, compute_logits(loaded, job.watched, title=title), watched)
    if watched.problem_type == MULTI_LABEL and threshold != Recipe().threshold:
        job.model.config.inferer_threshold = threshold
    activation = getattr(job.model.config, "inferer_activation", NONE)
    return predictions_from_logits(logits, watched.problem_type, float(threshold), activation), float(threshold)


def _threshold(recipe: Recipe, logits: NDArray[np.float32], watched: Dataset) -> float:
    """Return the recipe's threshold, or the one of best micro-F1 for `logits` of the `watched` rows."""
    if recipe.threshold != BEST:
        return float(recipe.threshold)
    return best_f1(activate(logits, activation_of(watched.problem_type)), watched.multi_hot())
