"""Fine-tune an encoder with transformers' Trainer: load the model, train it, predict the held-out rows, write all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the Trainer's loader may fork

import numpy as np
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import Identity
from transformers import DataCollatorWithPadding, PretrainedConfig, PreTrainedModel, TrainerCallback, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from inferer.bundle.manifest import MULTI_LABEL, NONE, REGRESSION, SIGMOID, activation_of
from inferer.bundle.reader import CONFIG, HEAD, LONGEST_FIRST
from inferer.scoring import activate
from training.data.dataset import Dataset
from training.distillation.loss import make_distillation
from training.distillation.teacher import seen_notes, teacher_logits
from training.errors import DivergedError, TrainingError
from training.evaluation.checkpoint_logits import LoadedModel, compute_logits
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.few_labels.contrast import contrastive
from training.few_labels.linear_head import LinearHead, fit_head
from training.model.load import load_base, max_positions_of, quiet_transformers
from training.model.losses import is_relevance, make_loss
from training.model.scale import scale_of, scale_of_kept_head
from training.model.tokenize import EncodedTexts, TextEncoder
from training.recipe.defaults import with_schedule
from training.recipe.recipe import BEST, Recipe
from training.report.metrics import choosing_figure, measure
from training.report.next_steps import next_commands
from training.report.results import Result, write_result
from training.report.tables import as_text, figures_table
from training.report.thresholds import best_f1
from training.run import processes
from training.run.epochs import best_epoch, epoch_records
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
    device_and_precision,
    training_arguments,
    uses_bf16,
)
from training.splits.splits import Splits

_LEAST_TO_CALIBRATE = 100
_SAMPLE = 256  # rows that tell the range of a base model's numbers
# Runs that differ in these options alone are the same run; the rows of the files are compared.
_NOT_OF_IDENTITY = ("name", "output", "save_minutes", "file", "test_file", "encoding", "report_to")


@dataclass(frozen=True)
class _Job:
    """A run ready to train: the model with a fresh head, and the rows with their tokens.

    train: the rows to train on, and behind them those without labels. teacher: its logits for them, float32 [rows,
    labels], NaN for a row that it does not know; None without a teacher.
    """

    recipe: Recipe
    splits: Splits
    model: PreTrainedModel
    encoder: TextEncoder
    train: EncodedTexts
    held_out: EncodedTexts
    watched: EncodedTexts
    teacher: NDArray[np.float32] | None

    @cached_property
    def lengths(self) -> list[int]:
        """Return the tokens of each different text before truncation."""
        texts = self.splits.train.texts + self.splits.unlabelled.texts + self.splits.held_out.texts
        return list(dict(zip(texts, self.train.lengths + self.held_out.lengths, strict=True)).values())

    @property
    def metric(self) -> str:
        """Return the figure that chooses the best epoch."""
        return choosing_figure(self.splits.watched)


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
    job = _prepare(recipe, splits)
    recipe = job.recipe
    _report(job)
    with _run_folder(job, restart=restart) as (run, last):
        if last is not None:
            say(f"resuming at {progress_of(last)}, of a run that was stopped (--restart begins anew)")
        history = _train(job, run, last)
        if not processes.is_main():
            return {}
        predictions, threshold = _predict_held_out(job)
        check_target(recipe.target, CONFIG, overwrite=overwrite)  # another run may have ended meanwhile
        epochs = epoch_records(history, job.metric if recipe.keep_best else None)
        versions = _versions()
        result = Result(
            recipe, splits, job.model, job.encoder.tokenizer, job.lengths, threshold, epochs, versions, search
        )
        record = write_result(result, predictions)
    _report_end(job, record)
    metrics: dict[str, Any] = record["held_out"]
    return metrics


def with_defaults(recipe: Recipe, splits: Splits) -> tuple[Recipe, dict[str, Any]]:
    """Return `recipe` with the epochs and rates that it leaves open, and the identity of its run in JSON types."""
    job = _prepare(recipe, splits)
    return job.recipe, _identity(job)


def train_and_predict(recipe: Recipe, splits: Splits, watch: TrainerCallback | None = None) -> Predictions:
    """Train as `recipe` says, beside `recipe.target`, and return the predictions for the held-out rows alone.

    watch: is called last, and may end the run by an error; with it, epochs are not printed. Raises TrainingError as
    `finetune` does.
    """
    job = _prepare(recipe, splits)
    with _run_folder(job, restart=True) as (run, _):
        _train(job, run, None, watch)
        return _predict_held_out(job, "evaluating" if watch is None else "")[0]


def _prepare(recipe: Recipe, splits: Splits) -> _Job:
    transformers.logging.set_verbosity_error()  # its notes about a fresh head are expected
    set_seed(recipe.seed)
    tokenizer, model, keeps_head = load_base(recipe, splits.train)
    recipe = with_schedule(
        recipe,
        width=model.config.hidden_size,
        rows=len(splits.train) + len(splits.unlabelled.texts),
        problem_type=splits.train.problem_type,
        fresh_head=not keeps_head,
    )
    tokenizer.model_max_length = min(recipe.max_length, max_positions_of(model))
    pair, truncation = recipe.text_pair_column is not None, recipe.read_truncation
    if truncation not in (HEAD, LONGEST_FIRST):
        model.config.inferer_truncation = truncation
    _note_kind(model.config, splits.train, pair=pair)
    encoder = TextEncoder(tokenizer, tokenizer.model_max_length, truncation, pair)
    texts, unlabelled = splits.train.texts, splits.unlabelled
    train, held_out = encoder.encode(texts + unlabelled.texts), encoder.encode(splits.held_out.texts)
    if keeps_head:
        say(f"{recipe.base_model} gives a number: its head is kept")
        some = EncodedTexts(train.rows[:: -(-len(train.rows) // _SAMPLE)], [])
        logits = compute_logits(LoadedModel(model.eval(), encoder), some)
        scale_of_kept_head(logits, relevance=is_relevance(splits.train)).into(model)
    watched = held_out if splits.validation is None else encoder.encode(splits.validation.texts)
    teacher = None
    if recipe.teacher:
        for note in seen_notes(recipe, splits.held_out):
            say(f"warning: {note}")
        teacher = teacher_logits(recipe, splits.train, texts + unlabelled.texts, unlabelled.probabilities)
    return _Job(recipe, splits, model, encoder, train, held_out, watched, teacher)


def _note_kind(config: PretrainedConfig, train: Dataset, *, pair: bool) -> None:
    """Note in the checkpoint that it reads pairs, and the activation of a regression's number."""
    if pair:
        config.inferer_text_pair = True
    if train.problem_type != REGRESSION:
        return
    relevance = is_relevance(train)
    config.inferer_activation = SIGMOID if relevance else NONE
    if pair:  # read by sentence-transformers' CrossEncoder
        name = "activation.Sigmoid" if relevance else "linear.Identity"
        config.sentence_transformers = {"activation_fn": f"torch.nn.modules.{name}"}


@contextmanager
def _run_folder(job: _Job, *, restart: bool) -> Iterator[tuple[RunFolder, Path | None]]:
    """Yield the run's folder and its last whole checkpoint. The main process opens it, and tells the others."""
    if not processes.is_main():
        last = processes.from_main(None)
        if isinstance(last, TrainingError):
            raise last
        yield run_folder_for(job.recipe.target), last
        return
    with ExitStack() as stack:
        try:
            run = stack.enter_context(open_run_folder(job.recipe.target, _identity(job), restart=restart))
        except TrainingError as error:
            processes.from_main(error)
            raise
        yield run, processes.from_main(run.last_complete())


def _train(job: _Job, run: RunFolder, last: Path | None, watch: TrainerCallback | None = None) -> list[dict[str, Any]]:
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
        found = output.predictions  # with few labels the embeddings, before there is a head
        logits = _fit_head(job).logits(found) if recipe.few_labels else scale.logits(found)
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
        model.eval().classifier = _fit_head(job).layer().to(model.device)
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
    return history


def _fit_head(job: _Job) -> LinearHead:
    """Return the head for the model's present embeddings of the training rows."""
    return fit_head(compute_logits(LoadedModel(job.model, job.encoder), job.train, title=""), job.splits.train)


def _predict_held_out(job: _Job, title: str = "evaluating") -> tuple[Predictions, float]:
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


def _report(job: _Job) -> None:
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
        names = ", ".join(recipe.teacher)
        say(f"learning from {names} (temperature {recipe.temperature:g}, alpha {recipe.alpha:g})")
    head = "" if recipe.head_learning_rate is None else f" (head {recipe.head_learning_rate:g})"
    say(f"{recipe.epochs:g} epochs at a learning rate of {recipe.learning_rate:g}{head}")
    if splits.calibration is not None and len(splits.calibration) < _LEAST_TO_CALIBRATE:
        say(f"note: the export calibrates on at least {_LEAST_TO_CALIBRATE} rows")


def _report_end(job: _Job, record: dict[str, Any]) -> None:
    """Print the figures, each sign that the run did not work, and the commands that come next."""
    say(f"\nheld-out texts:\n{as_text(figures_table(record['held_out']))}")
    if job.splits.validation is None and uses_bf16(job.recipe.precision):
        say("  (in fp32; the epochs above are measured in bf16, as they are trained)")
    for sentence in record["advice"]:
        say(f"note: {sentence}")
    say(f"wrote {job.recipe.target}; next:")
    for command in next_commands(record["recipe"], job.recipe.target, calibrates=job.splits.calibration is not None):
        say(f"  {command}")


def _identity(job: _Job) -> dict[str, Any]:
    """Return the facts that must be equal for a run to resume another."""
    content = hashlib.sha256()
    for part in (job.splits.train, job.splits.held_out, job.splits.validation):
        if part is not None:
            content.update(json.dumps([part.texts, part.targets, part.labels, part.numbers, part.groups]).encode())
    options = {name: value for name, value in job.recipe.as_dict().items() if name not in _NOT_OF_IDENTITY}
    if job.teacher is not None:  # rounded: a GPU does not repeat the last bits
        content.update(json.dumps(job.splits.unlabelled.texts).encode() + job.teacher.round(2).tobytes())
    machine = {"processes": processes.count(), "bf16": uses_bf16(job.recipe.precision)}
    return {**options, "rows": content.hexdigest(), **machine, **_versions()}


def _versions() -> dict[str, str]:
    libraries = ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
