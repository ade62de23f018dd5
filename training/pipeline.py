"""Fine-tune an encoder with transformers' Trainer: the model, the run, and what it answers to the held-out rows.

The parts come split and checked (parts.py). What a run leaves is written by results.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the Trainer's loader may fork

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import DivergedError, TrainingError
from training.evaluation.checkpoint_logits import LoadedModel, compute_logits
from training.evaluation.model_folder import CONFIG
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.model.base_model import max_positions_of
from training.model.load import load_base
from training.model.losses import make_loss
from training.model.precision import uses_bf16
from training.model.tokenize import encode, lengths_of
from training.recipe.recipe import BEST, HEAD, Recipe
from training.report.metrics import measure
from training.report.results import Result, write_result
from training.report.tables import figure_rows
from training.report.thresholds import best_f1
from training.run import processes
from training.run.output import check_target
from training.run.processes import say
from training.run.resume import RunFolder, open_run_folder, run_folder_for
from training.run.trainer import ClassifierTrainer, EpochCallback, EpochOrder, LossProgressBar, best_epoch
from training.splits.splits import Splits

_LEAST_TO_CALIBRATE = 100
# Two runs that differ in one of these are the same run.
_NO_PART_OF_A_RUN = (
    "name", "output", "save_minutes",
    "file", "test_file",  # of which the rows are compared
)  # fmt: skip
_NO_FIGURE = ("eval_loss", "eval_runtime")


class EncodedTexts(torch.utils.data.Dataset):
    """Tokenized texts with their targets, as the Trainer wants them: one dict a text, padded by batch."""

    def __init__(self, dataset: Dataset, encoded: list[dict[str, list[int]]]) -> None:
        self.rows = encoded
        if dataset.problem_type == SINGLE_LABEL:
            self.targets = [row[0] for row in dataset.targets]
        else:
            self.targets = dataset.multi_hot().astype(float).tolist()  # lists: the collator stacks no tensors

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "labels": self.targets[index]}


@dataclass(frozen=True)
class _Reader:
    """How this model reads texts."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    truncation: str

    def texts(self, dataset: Dataset) -> EncodedTexts:
        """Return `dataset` as the Trainer wants it."""
        return EncodedTexts(dataset, encode(self.tokenizer, dataset.texts, self.max_length, self.truncation))


def finetune(recipe: Recipe, parts: Splits, *, restart: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Train as `recipe` says, write the folder of the run to `recipe.target`, and return the held-out figures.

    In processes other than the main one there are none to return.

    The folder is complete or not there; a run that is stopped goes on from its last whole checkpoint. Raises
    TrainingError for a base model that cannot be used, and for a run that came to nothing.
    """
    if parts.train.columns.separator:  # of labels that came as lists, too: the held-out rows are written with it
        recipe = replace(recipe, label_separator=parts.train.columns.separator)
    transformers.logging.set_verbosity_error()  # its notes about a fresh head are expected here
    set_seed(recipe.seed)
    tokenizer, model = load_base(recipe, parts.train)
    max_length = min(recipe.max_length, max_positions_of(model))
    tokenizer.model_max_length = max_length
    if recipe.truncation != HEAD:
        model.config.inferer_truncation = recipe.truncation
    reader = _Reader(tokenizer, max_length, recipe.truncation)
    # Of the texts and not of their copies: balancing draws some again and again.
    lengths = lengths_of(tokenizer, tuple(dict.fromkeys((*parts.train.texts, *parts.held_out.texts))))
    _report_lengths(lengths, max_length, recipe.truncation)
    _report_parts(parts)
    if not processes.is_main():  # the first process keeps the folder; the others follow it
        run = run_folder_for(recipe.target)
        last = processes.from_main(None)
        if isinstance(last, TrainingError):
            raise last
        _train(recipe, parts, reader, model, run, last)
        return {}
    identity = _identity(recipe, parts)
    with _opened(recipe, identity, restart=restart) as run:
        last = processes.from_main(run.last_complete())
        if last is not None:
            say(f"going on from {last.name} of a run that was stopped (--restart begins anew)")
        trained = _train(recipe, parts, reader, model, run, last)
        check_target(recipe.target, CONFIG, overwrite=overwrite)  # another run may have ended meanwhile
        result = Result(recipe, parts, model, tokenizer, lengths, trained.threshold, trained.epochs, _versions())
        metrics = write_result(result, trained.predictions)
    rows = "\n".join(figure_rows(metrics))
    say(f"\nheld-out texts:\n{rows}\nwrote {recipe.target}")
    return metrics


@contextmanager
def _opened(recipe: Recipe, identity: dict[str, Any], *, restart: bool) -> Iterator[RunFolder]:
    """Yield the run's folder; where it cannot be had, the other processes, which wait to hear of it, are told why."""
    with ExitStack() as stack:
        try:
            run = stack.enter_context(open_run_folder(recipe.target, identity, restart=restart))
        except TrainingError as error:
            processes.from_main(error)
            raise
        yield run


@dataclass(frozen=True)
class _Trained:
    predictions: Predictions
    threshold: float
    epochs: list[dict[str, Any]]


def _train(
    recipe: Recipe, parts: Splits, reader: _Reader, model: PreTrainedModel, run: RunFolder, last: Path | None
) -> _Trained | None:
    """Train `model`, from the checkpoint `last` on where there is one, and ask it the held-out rows.

    None in processes other than the main one.
    """
    train, watched = reader.texts(parts.train), parts.watched
    single = watched.problem_type == SINGLE_LABEL
    order = EpochOrder(
        [len(row["input_ids"]) for row in train.rows],
        recipe.batch_size * recipe.gradient_accumulation,
        recipe.seed,
        grouped=recipe.group_by_length,
    )
    threshold = 0.5 if recipe.threshold == BEST else float(recipe.threshold)

    def figures(output: Any) -> dict[str, float]:
        _check_finite(output.predictions, recipe)
        predictions = predictions_from_logits(output.predictions, watched.problem_type, threshold)
        if recipe.threshold == BEST:  # each epoch by the threshold that it would be given
            predictions = Predictions(
                predictions.scores, predictions.scores >= best_f1(predictions.scores, watched.multi_hot())
            )
        found = measure(watched, predictions, intervals=False)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    trainer = ClassifierTrainer(
        model=model,
        args=_arguments(recipe, run.folder),
        train_dataset=train,
        eval_dataset=reader.texts(watched),
        data_collator=DataCollatorWithPadding(
            reader.tokenizer,
            padding="max_length" if recipe.pad_to_max_length else True,
            max_length=reader.max_length if recipe.pad_to_max_length else None,
        ),
        compute_metrics=figures,
        loss=make_loss(recipe, parts.train),
        order=order,
        head_learning_rate=recipe.head_learning_rate,
    )
    metric = "macro_f1" if single else "micro_f1"
    bar = LossProgressBar()
    trainer.remove_callback(DEFAULT_PROGRESS_CALLBACK)  # in a notebook another than on a terminal
    trainer.add_callback(bar)
    trainer.add_callback(EpochCallback(recipe, model, order, run, metric))
    try:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    finally:
        bar.close()
    history = trainer.state.log_history
    best = best_epoch(history, metric)
    if recipe.keep_best and best is not None and best.since:
        processes.wait_for_all()  # for the file, which the first process writes
        model.load_state_dict(load_file(run.best(best.step)))
    if not processes.is_main():
        return None
    # As evaluation and export run it: in fp32, without what the Trainer has put around it.
    plain = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
    loaded = LoadedModel(plain, reader.tokenizer, reader.max_length, reader.truncation)
    logits = compute_logits(loaded, parts.held_out.texts)
    if recipe.threshold == BEST and parts.validation is not None:
        scores = predictions_from_logits(compute_logits(loaded, parts.validation.texts), watched.problem_type).scores
        threshold = best_f1(scores, parts.validation.multi_hot())
    predictions = predictions_from_logits(logits, watched.problem_type, threshold)
    if not single and threshold != Recipe().threshold:
        model.config.inferer_threshold = threshold
    return _Trained(predictions, threshold, epoch_records(history, metric if recipe.keep_best else None))


def _check_finite(logits: np.ndarray, recipe: Recipe) -> None:
    if not np.isfinite(logits).all():
        raise DivergedError(
            f"the trained model gives logits that are not finite; try a learning rate below {recipe.learning_rate}"
        )


def epoch_records(history: list[dict[str, Any]], metric: str | None) -> list[dict[str, Any]]:
    """Return the Trainer's log as one entry an epoch: train_loss (mean over its steps), eval_loss, figures.

    metric: what the best epoch was chosen by, which gets "kept": true; None keeps the last.
    """
    epochs: list[dict[str, Any]] = []
    losses: list[tuple[float, int]] = []
    before, rate = 0, 0.0
    for entry in history:
        if "loss" in entry:
            losses.append((entry["loss"], entry["step"] - before))
            before, rate = entry["step"], entry["learning_rate"]
        elif "eval_loss" in entry:
            steps = sum(n for _, n in losses)
            figures = {
                name.removeprefix("eval_"): value
                for name, value in entry.items()
                if name.startswith("eval_") and name not in _NO_FIGURE and not name.endswith("per_second")
            }
            loss = sum(value * n for value, n in losses) / steps if steps else None
            epochs.append(
                {"epoch": entry["epoch"], "step": entry["step"], "learning_rate": rate, "train_loss": loss,
                 "eval_loss": entry["eval_loss"], **figures}
            )  # fmt: skip
            losses = []
    best = best_epoch(history, metric) if metric else None
    kept = best.step if best is not None else (epochs[-1]["step"] if epochs else None)
    return [{**entry, "kept": entry["step"] == kept} for entry in epochs]


def _report_lengths(lengths: list[int], max_length: int, truncation: str) -> None:
    over = sum(n > max_length for n in lengths)
    say(
        f"tokens a text: median {int(np.median(lengths))}, longest {max(lengths)}; {over / len(lengths):.1%} "
        f"are over max_length {max_length} and are cut ({truncation})"
    )


def _report_parts(parts: Splits) -> None:
    besides = "".join(
        f", {len(part)} more {what}"
        for part, what in ((parts.validation, "to choose by"), (parts.calibration, "for calibration"))
        if part is not None
    )
    say(f"training on {len(parts.train)} texts, {len(parts.held_out)} held out{besides}")
    if parts.calibration is not None and len(parts.calibration) < _LEAST_TO_CALIBRATE:
        say(f"note: the export calibrates on {_LEAST_TO_CALIBRATE} rows at least")


def _arguments(recipe: Recipe, folder: Path) -> TrainingArguments:
    batch, bf16 = recipe.batch_size // processes.count(), uses_bf16(recipe.precision)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=max(32, batch),
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_ratio=recipe.warmup_ratio,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        bf16=bf16,
        use_cpu=bf16 and not torch.cuda.is_available(),  # else the Trainer asks for a GPU
        label_names=["labels"],
        logging_steps=10,
        save_strategy="no",  # EpochCallback says when to log, evaluate and save
        eval_strategy="no",
        report_to=[],
        disable_tqdm=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=bool(recipe.head_first_epochs),
    )
    if arguments.n_gpu > 1:  # several GPUs are for the launcher; here they would multiply the batch
        arguments._n_gpu = 1
    return arguments


def _identity(recipe: Recipe, parts: Splits) -> dict[str, Any]:
    """Return what must be the same for a run to go on where another stopped."""
    content = hashlib.sha256()
    for part in (parts.train, parts.held_out, parts.validation):
        if part is not None:
            content.update(json.dumps([part.texts, part.targets, part.labels]).encode())
    chosen = {name: value for name, value in recipe.as_dict().items() if name not in _NO_PART_OF_A_RUN}
    return {
        **chosen,
        "rows": content.hexdigest(),
        "processes": processes.count(),
        "bf16": uses_bf16(recipe.precision),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": version("accelerate"),
        "tokenizers": version("tokenizers"),
        "scikit-learn": version("scikit-learn"),
        "numpy": np.__version__,
    }
