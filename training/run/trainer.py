"""transformers' Trainer with this project's loss, order of texts, learning rates, and what happens between epochs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from training.model.freezing import encoder_parameters, head_parameters, set_trained
from training.model.losses import Loss
from training.recipe.recipe import Recipe
from training.run import processes
from training.run.resume import RunFolder


class EpochOrder(torch.utils.data.Sampler[int]):
    """The order of texts in an epoch: shuffled, texts of like length together. Depends on seed and epoch alone.

    So a run that goes on in the middle of an epoch sees the texts that were left. It has no set_epoch on purpose:
    accelerate's skip_first_batches would set it back to 0; `EpochCallback` sets `epoch`.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, *, grouped: bool) -> None:
        self.lengths, self.batch, self.seed, self.grouped, self.epoch = lengths, batch, seed, grouped, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        # Of the pair, so that epoch 1 of seed 0 is not epoch 0 of seed 1.
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        numbers = torch.Generator().manual_seed(int(state[0]) % 2**63)
        if not self.grouped:
            return iter(torch.randperm(len(self.lengths), generator=numbers).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=numbers))


class ClassifierTrainer(Trainer):
    """The Trainer, with the loss and the order given, and a learning rate of its own for the head."""

    def __init__(
        self, *args: Any, loss: Loss, order: EpochOrder, head_learning_rate: float | None, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.loss, self.order, self.head_learning_rate = loss, order, head_learning_rate
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the Trainer divides it by accumulated batches

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a batch, by the recipe and not by the model's own."""
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self.loss(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, *_: Any) -> EpochOrder:
        return self.order

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW as the Trainer does, encoder and head in groups of their own when their rates differ."""
        if self.head_learning_rate is None or self.optimizer is not None:
            return super().create_optimizer()
        decayed = set(self.get_decay_parameter_names(self.model))
        head = {id(weight) for weight in head_parameters(self.model)}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                groups.setdefault((id(weight) in head, name in decayed), []).append(weight)
        chosen, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        rates = {True: self.head_learning_rate, False: self.args.learning_rate}
        self.optimizer = chosen(
            [
                {"params": weights, "lr": rates[is_head], "weight_decay": self.args.weight_decay if decays else 0.0}
                for (is_head, decays), weights in groups.items()
            ],
            **options,
        )
        return self.optimizer


class LossProgressBar(ProgressCallback):
    """The Trainer's bar without the dictionaries that it prints between."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Show the loss behind the bar."""
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def close(self) -> None:
        """Close the bars where training ended early, so that they are not drawn again behind the message."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch on the validation rows so far: its figure, the step it ended at, and how many came after it."""

    figure: float
    step: int
    since: int


def best_epoch(history: list[dict[str, Any]], metric: str) -> BestEpoch | None:
    """Return the best epoch in the Trainer's log by `metric`; the first of equals. None where none was evaluated."""
    found = [(entry[f"eval_{metric}"], entry["step"]) for entry in history if f"eval_{metric}" in entry]
    if not found:
        return None
    figure, step = max(found, key=lambda one: (one[0], -one[1]))
    return BestEpoch(figure, step, sum(other > step for _, other in found))


class EpochCallback(TrainerCallback):
    """What happens between steps: the head first, the order of the epoch, evaluating, saving, stopping early."""

    def __init__(self, recipe: Recipe, model: PreTrainedModel, order: EpochOrder, run: RunFolder, metric: str) -> None:
        self.recipe, self.model, self.order, self.run, self.metric = recipe, model, order, run, metric
        self.later = [weight for weight in encoder_parameters(model) if weight.requires_grad]
        self.saved = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Choose the order of the epoch, and whether the encoder is trained in it."""
        self.order.epoch = int((state.epoch or 0.0) + 1e-6)
        if self.recipe.head_first_epochs:
            set_trained(self.later, trained=self.order.epoch >= self.recipe.head_first_epochs)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save now and then within an epoch; with several processes only between epochs, when they are in step."""
        passed = time.monotonic() - self.saved
        # An epoch's last step is saved once it is evaluated: what goes on from there must not miss that.
        amid = abs(state.epoch - round(state.epoch)) > 1e-9
        if args.world_size == 1 and amid and passed >= self.recipe.save_minutes * 60:
            control.should_save = state.global_step < state.max_steps

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Log, evaluate and save, the last epoch too: the figures and pictures that follow may fail."""
        control.should_log = control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Show the epoch's figures, keep the best epoch's weights, and stop when none was better for long enough."""
        if state.is_world_process_zero and metrics:
            shown = {"loss": "loss", "accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1"}
            figures = [
                f"{word} {metrics[f'eval_{name}']:.4f}" for name, word in shown.items() if f"eval_{name}" in metrics
            ]
            tqdm.write(f"epoch {state.epoch:g}: {', '.join(figures)}", file=sys.stderr)
        if not (self.recipe.keep_best or self.recipe.early_stopping):
            return
        best = best_epoch(state.log_history, self.metric)
        if best is None:
            return
        if self.recipe.keep_best and best.step == state.global_step and state.is_world_process_zero:
            kept = self.run.best(best.step)
            partial = kept.with_suffix(".partial")
            save_file({name: weight.contiguous() for name, weight in self.model.state_dict().items()}, partial)
            partial.rename(kept)
        if self.recipe.early_stopping and best.since >= self.recipe.early_stopping:
            control.should_training_stop = True
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Mark what was saved as whole, and let go of what it replaces."""
        self.saved = time.monotonic()
        processes.wait_for_all()  # each process writes a part
        if state.is_world_process_zero:
            self.run.mark_complete(state.global_step)
            best = best_epoch(state.log_history, self.metric)
            if best is not None:
                self.run.keep_only_best(best.step)
