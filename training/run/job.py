"""A run ready to train: the model, the rows with their tokens, and the facts that tell it from other runs."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel, set_seed

from inferer.bundle.manifest import NONE, REGRESSION, SIGMOID
from inferer.bundle.reader import HEAD, LONGEST_FIRST
from training.data.dataset import Dataset
from training.distillation.teacher import seen_notes, teacher_identity, teacher_logits
from training.evaluation.checkpoint_logits import LoadedModel, compute_logits
from training.model.load import load_base, max_positions_of
from training.model.losses import is_relevance
from training.model.scale import scale_of_kept_head
from training.model.tokenize import EncodedTexts, TextEncoder
from training.recipe.defaults import with_schedule
from training.recipe.recipe import Recipe
from training.report.metrics import choosing_figure
from training.run import processes
from training.run.processes import say
from training.run.trainer import uses_bf16
from training.splits.splits import Splits
from training.unsupported import UNSUPPORTED

_SAMPLE = 256  # rows that tell the range of a base model's numbers
# Runs that differ in these options alone are the same run; the rows and the teacher's weights are compared.
NOT_OF_IDENTITY = (
    *("name", "output", "save_minutes", "report_to"),
    *("file", "test_file", "encoding", "unlabelled", "teacher"),
)


@dataclass(frozen=True)
class Job:
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


def prepare(recipe: Recipe, splits: Splits) -> Job:
    """Return the run of `recipe` on `splits`, with the rates and epochs that it leaves open.

    Raises TrainingError for a base model or a teacher that cannot be used.
    """
    transformers.logging.set_verbosity_error()  # its notes about a fresh head are expected
    set_seed(recipe.seed)
    tokenizer, model, keeps_head = load_base(recipe, splits.train)
    if reason := UNSUPPORTED.get(model.config.model_type):
        kind = model.config.model_type
        say(f"warning: the export refuses architecture '{kind}': {reason}; to serve the model, train another base")
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
    return Job(recipe, splits, model, encoder, train, held_out, watched, teacher)


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


def identity(job: Job) -> dict[str, Any]:
    """Return the facts that must be equal for a run to resume another."""
    content = hashlib.sha256()
    for part in (job.splits.train, job.splits.held_out, job.splits.validation):
        if part is not None:
            content.update(json.dumps([part.texts, part.targets, part.labels, part.numbers, part.groups]).encode())
    options = {name: value for name, value in job.recipe.as_dict().items() if name not in NOT_OF_IDENTITY}
    if job.recipe.teacher:
        content.update(json.dumps(job.splits.unlabelled.texts).encode())
        content.update(teacher_identity(job.recipe, job.splits.unlabelled.probabilities))
    machine = {"processes": processes.count(), "bf16": uses_bf16(job.recipe.precision)}
    return {**options, "rows": content.hexdigest(), **machine, **versions()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide on a run's bits."""
    libraries = ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
