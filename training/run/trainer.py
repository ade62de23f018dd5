"""transformers' Trainer with this project's loss, order of texts, learning rates, and work between epochs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel, ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from training.distillation.loss import Distillation
from training.errors import TrainingError
from training.model.freezing import encoder_parameters, head_parameters, set_trained
from training.model.losses import Loss
from training.recipe.recipe import BF16, FP32, Recipe
from training.run import processes
from training.run.epochs import BestEpoch, best_epoch
from training.run.resume import RunFolder

_SHOWN = {"eval_loss": "loss", "eval_accuracy": "accuracy", "eval_macro_f1": "macro-F1", "eval_micro_f1": "micro-F1"}
_SHOWN |= {"eval_spearman": "Spearman", "eval_mae": "MAE", "eval_mrr_at_10": "MRR@10"}
# CPUs that multiply bfloat16 themselves; on others torch converts, and is slower than in fp32.
_FLAGS = ("amx_bf16", "avx512_bf16")


# Fields of a row: the number of its group, and the teacher's logits.
GROUPS, TEACHER = "groups", "teacher"


class EpochOrder(torch.utils.data.Sampler[int]):
    """The order of texts in an epoch: shuffled, with texts of like length together, by seed and epoch alone.

    A run that resumes within an epoch therefore gets the texts that were left. groups: the group of each text, where
    texts of a group stay together in place of those of like length. The class has no set_epoch on purpose:
    accelerate's skip_first_batches would reset it to 0; `EpochCallback` sets `epoch`.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, *, grouped: bool, groups: Sequence[int] = ()) -> None:
        self.lengths, self.batch, self.seed, self.grouped, self.epoch = lengths, batch, seed, grouped, 0
        self.groups = groups

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        # A sequence of both numbers, so that epoch 1 of seed 0 differs from epoch 0 of seed 1.
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        numbers = torch.Generator().manual_seed(int(state[0]) % 2**63)
        if self.groups:
            shuffled = torch.randperm(len(self.lengths), generator=numbers).tolist()
            places = torch.randperm(max(self.groups) + 1, generator=numbers).tolist()
            return iter(sorted(shuffled, key=lambda row: places[self.groups[row]]))
        if not self.grouped:
            return iter(torch.randperm(len(self.lengths), generator=numbers).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=numbers))


class ClassifierTrainer(Trainer):
    """The Trainer with a given loss and order, and a separate learning rate for the head.

    distillation: the loss of rows that have a teacher's logits.
    """

    def __init__(
        self,
        *args: Any,
        loss: Loss,
        distillation: Distillation,
        order: EpochOrder,
        head_learning_rate: float | None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.loss, self.distillation = loss, distillation
        self.order, self.head_learning_rate = order, head_learning_rate
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the Trainer divides it by accumulated batches

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Any:
        """Return the recipe's loss of a batch, in place of the model's own."""
        labels, groups, teacher = inputs.pop("labels"), inputs.pop(GROUPS, None), inputs.pop(TEACHER, None)
        outputs = model(**inputs)
        if teacher is None:
            loss = self.loss(outputs.logits, labels, groups)
        else:
            loss = self.distillation(outputs.logits, labels, teacher)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, *_: Any) -> EpochOrder:
        return self.order

    def create_optimizer(self, model: Any = None) -> Any:
        """Make AdamW as the Trainer does, with encoder and head in separate groups if their rates differ."""
        if self.head_learning_rate is None or self.optimizer is not None:
            return super().create_optimizer(model)
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        head = {id(weight) for weight in head_parameters(model)}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                groups.setdefault((id(weight) in head, name in decayed), []).append(weight)
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        rates = {True: self.head_learning_rate, False: self.args.learning_rate}
        settings = [
            {"params": weights, "lr": rates[is_head], "weight_decay": self.args.weight_decay if decays else 0.0}
            for (is_head, decays), weights in groups.items()
        ]
        self.optimizer = optimizer_class(settings, **options)
        return self.optimizer


class LossProgressBar(ProgressCallback):
    """The Trainer's progress bar without the dictionaries that it prints. stays: on the terminal, at its end."""

    def __init__(self, *, stays: bool = True) -> None:
        super().__init__()
        self.stays = stays

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        if self.training_bar is not None:
            self.training_bar.leave = self.stays

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Show the loss behind the bar."""
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def close(self) -> None:
        """Close the bars; after an error they would be drawn again behind the message."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()


class EpochCallback(TrainerCallback):
    """Work between steps: head-first epochs, the order of the epoch, evaluation, saving, early stopping.

    transformers' own callbacks do not resume to the same bytes: EarlyStoppingCallback forgets its count of epochs, and
    load_best_model_at_end would keep the best epoch's optimizer state. Each checkpoint's log tells the best one.
    says: print each epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PreTrainedModel,
        order: EpochOrder,
        run: RunFolder,
        metric: str,
        *,
        says: bool = True,
    ) -> None:
        self.recipe, self.model, self.order, self.run, self.metric = recipe, model, order, run, metric
        self.says = says
        self.encoder = [weight for weight in encoder_parameters(model) if weight.requires_grad]
        self.saved = time.monotonic()

    def _best(self, state: Any) -> BestEpoch | None:
        return best_epoch(state.log_history, self.metric)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Set the order of the epoch, and whether the encoder is trained in it."""
        self.order.epoch = int((state.epoch or 0.0) + 1e-6)
        if self.recipe.head_first_epochs:
            set_trained(self.encoder, trained=self.order.epoch >= self.recipe.head_first_epochs)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save every save_minutes within an epoch; several processes save only between epochs, when in step."""
        passed = time.monotonic() - self.saved
        # The last step of an epoch is saved after its evaluation, which a resumed run would otherwise miss.
        within = abs(state.epoch - round(state.epoch)) > 1e-9
        if args.world_size == 1 and within and passed >= self.recipe.save_minutes * 60:
            control.should_save = state.global_step < state.max_steps

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Log, evaluate and save, after the last epoch too: writing the report may fail."""
        control.should_log = control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Show the epoch's figures, keep the weights of the best epoch, and stop early."""
        if self.says and state.is_world_process_zero and metrics:
            figures = ", ".join(f"{word} {metrics[name]:.4f}" for name, word in _SHOWN.items() if name in metrics)
            tqdm.write(f"epoch {state.epoch:g}: {figures}", file=sys.stderr)
        if (best := self._best(state)) is None:
            return
        if self.recipe.keep_best and best.step == state.global_step and state.is_world_process_zero:
            kept = self.run.best_weights(best.step)
            partial = kept.with_suffix(".partial")
            save_file({name: weight.contiguous() for name, weight in self.model.state_dict().items()}, partial)
            partial.rename(kept)
            if not control.should_save:  # else a run that resumes from the save before may want the older file
                self.run.keep_only_best(best.step)
        if self.recipe.early_stopping and best.since >= self.recipe.early_stopping:
            control.should_training_stop, control.should_save = True, False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Mark the saved checkpoint as whole, and remove those that it replaces."""
        self.saved = time.monotonic()
        processes.wait_for_all()  # each process writes a part
        if state.is_world_process_zero:
            self.run.mark_complete(state.global_step)
            if (best := self._best(state)) is not None:
                self.run.keep_only_best(best.step)


def training_arguments(recipe: Recipe, folder: Path) -> TrainingArguments:
    """Return the Trainer's arguments for `recipe`, which has epochs and rates, with `folder` for its checkpoints."""
    batch, bf16 = recipe.batch_size // processes.count(), uses_bf16(recipe.precision)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=cast(float, recipe.epochs),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=max(32, batch),
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=cast(float, recipe.learning_rate),
        weight_decay=recipe.weight_decay,
        warmup_steps=min(recipe.warmup_ratio, math.nextafter(1, 0)),  # below 1 it is a share of the steps
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        bf16=bf16,
        use_cpu=bf16 and not torch.cuda.is_available(),  # else the Trainer asks for a GPU
        label_names=["labels"],
        remove_unused_columns=False,  # it would drop the groups, which the loss takes and the model does not
        logging_steps=10,
        save_strategy="no",  # EpochCallback decides when to log, evaluate and save
        eval_strategy="no",
        report_to=[],  # the callbacks of trackers.py report
        run_name=recipe.name or recipe.target.name,
        disable_tqdm=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=bool(recipe.head_first_epochs),
    )
    if arguments.n_gpu > 1:  # the launcher starts a process per GPU; here several would multiply the batch
        arguments._n_gpu = 1
    return arguments


def device_and_precision(device: torch.device, precision: str) -> str:
    """Return a run's device and precision in words, such as "the CPU (2 threads, bf16)"."""
    word = BF16 if uses_bf16(precision) else FP32
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device}, {word})"
    if device.type != "cpu":
        return f"{device} ({word})"
    threads = torch.get_num_threads()
    return f"the CPU ({threads} thread{'' if threads == 1 else 's'}, {word})"


def uses_bf16(wanted: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether to train in bfloat16 (autocast): as wanted, or with "auto" if the GPU or CPU supports it."""
    if wanted == FP32:
        return False
    if torch.cuda.is_available():
        has = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if wanted == BF16 and not has:
            raise TrainingError('precision is "bf16", which this GPU does not support; expected "fp32" or "auto"')
        return has
    if wanted == BF16:  # a CPU without it converts, slowly
        return True
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return any(flag in found.split() for flag in (*_FLAGS, "bf16"))
