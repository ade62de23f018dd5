"""Fine-tune an encoder with transformers' Trainer and write an ordinary Hugging Face checkpoint.

Owns the model's making, the run, and the checkpoint's files. The data comes checked; the split is made
here before anything else touches it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the Trainer's loader may fork

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from training.answers import answers_of
from training.base_model import base_model_path, max_positions_of
from training.csv_file import write_csv
from training.data import SINGLE_LABEL, Dataset
from training.errors import TrainingError
from training.metrics import as_table, measure
from training.output import fresh_folder
from training.recipe import Recipe
from training.split import calibration_split, multi_hot, stratified_split

RECORD = "training.json"
HELD_OUT = "held_out.csv"
CALIBRATION = "calibration.csv"
_LEAST_TO_CALIBRATE = 100


class _EncodedTexts(torch.utils.data.Dataset):
    """Tokenized texts with their targets, as the Trainer wants them: one dict a text, padded by batch."""

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.rows = tokenizer(list(dataset.texts), truncation=True, max_length=max_length)
        if dataset.problem_type == SINGLE_LABEL:
            self.targets = [row[0] for row in dataset.targets]
        else:
            self.targets = multi_hot(dataset).astype(float).tolist()  # lists: the collator stacks no tensors

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**{name: column[index] for name, column in self.rows.items()}, "labels": self.targets[index]}


class _Bar(ProgressCallback):
    """The Trainer's bar without the dictionaries that it prints between."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Show the loss behind the bar."""
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def close(self) -> None:
        """Close the bar where training ended early, so that it is not drawn again behind the message."""
        if self.training_bar is not None:
            self.training_bar.close()


def finetune(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Train as `recipe` says, write the checkpoint to `recipe.target`, and return the held-out metrics.

    The folder is complete or not there. Raises TrainingError for a base model that cannot be used.
    """
    train, held_out = stratified_split(dataset, recipe.test_share, recipe.seed)
    calibration = None
    if recipe.calibration_share:
        share = round(recipe.calibration_share / (1 - recipe.test_share), 6)  # or 0.2 of 160 rows would be 33
        train, calibration = calibration_split(train, held_out, share, recipe.seed)
    transformers.logging.set_verbosity_error()  # its notes about a fresh head are expected here
    set_seed(recipe.seed)
    tokenizer, model = _base(recipe, dataset)
    max_length = min(recipe.max_length, max_positions_of(model))
    tokenizer.model_max_length = max_length
    _report_lengths(dataset, tokenizer, max_length)
    besides = "" if calibration is None else f", {len(calibration)} more for calibration"
    print(f"training on {len(train)} texts, {len(held_out)} held out{besides}", file=sys.stderr)
    if calibration is not None and len(calibration) < _LEAST_TO_CALIBRATE:
        print(f"note: the export calibrates on {_LEAST_TO_CALIBRATE} rows at least", file=sys.stderr)
    with fresh_folder(recipe.target) as folder, tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=_arguments(recipe, scratch),
            train_dataset=_EncodedTexts(train, tokenizer, max_length),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.remove_callback(ProgressCallback)
        bar = _Bar()
        trainer.add_callback(bar)
        try:
            trainer.train()
        finally:
            bar.close()
        trainer.args.group_by_length = False  # it would hand the held-out rows back in another order
        logits = trainer.predict(_EncodedTexts(held_out, tokenizer, max_length)).predictions
        if not np.isfinite(logits).all():
            raise TrainingError(
                f"the trained model gives logits that are not finite; try a learning rate below {recipe.learning_rate}"
            )
        metrics = measure(held_out, answers_of(logits, dataset.problem_type))
        _write(folder, model, tokenizer)
        write_csv(folder / HELD_OUT, held_out)
        if calibration is not None:
            write_csv(folder / CALIBRATION, calibration)
        record = {
            "recipe": recipe.as_dict(),
            "train_rows": len(train),
            "calibration_rows": 0 if calibration is None else len(calibration),
            "held_out": metrics,
            "versions": _versions(),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nheld-out texts ({HELD_OUT}):\n{as_table(metrics)}\nwrote {recipe.target}", file=sys.stderr)
    return metrics


def _base(recipe: Recipe, dataset: Dataset) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load the tokenizer and the encoder with a fresh head; only the head's weights may be new."""
    source = base_model_path(recipe.base_model)
    names = dict(enumerate(dataset.labels))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # tokenizers raises Exception itself for a file that it cannot read
        raise _cannot_be_loaded(recipe, error) from error
    try:
        config = AutoConfig.from_pretrained(
            source,
            num_labels=len(names),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type=dataset.problem_type,
        )
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            source, config=config, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _cannot_be_loaded(recipe, error) from error
    fresh = [*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])]
    encoder = f"{model.base_model_prefix}."  # what is outside it is the head; a pooler is half of one
    lost = [key for key in fresh if key.startswith(encoder) and ".pooler." not in key]
    if lost:
        raise TrainingError(f"base model {recipe.base_model}: {len(lost)} weights are missing, the first is {lost[0]}")
    if not tokenizer.is_fast:
        raise TrainingError(f"base model {recipe.base_model}: has no fast tokenizer, which serving needs")
    return tokenizer, model


def _cannot_be_loaded(recipe: Recipe, error: Exception) -> TrainingError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TrainingError(f"base model {recipe.base_model}: cannot be loaded: {reason}")


def _report_lengths(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    lengths = [len(ids) for ids in tokenizer(list(dataset.texts), truncation=False, verbose=False)["input_ids"]]
    over = sum(n > max_length for n in lengths)
    print(
        f"tokens a text: median {int(np.median(lengths))}, longest {max(lengths)}; {over / len(lengths):.1%} "
        f"are over max_length {max_length} and are cut",
        file=sys.stderr,
    )


def _arguments(recipe: Recipe, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=max(32, recipe.batch_size),
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_ratio=recipe.warmup_ratio,
        seed=recipe.seed,
        group_by_length=True,
        logging_steps=10,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=False,
        dataloader_pin_memory=False,
    )


def _write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    # The base's file may carry a fixed padding and truncation (the embedded one: 128); they are not ours.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _versions() -> dict[str, str]:
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
