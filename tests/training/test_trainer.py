"""The order of texts, the head's learning rate, the best epoch, bf16, and runs of several processes."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.fruit import command, write_base, write_table
from tests.support.server import ROOT, run_to_end
from training.model.tokenize import EncodedTexts, TextEncoder
from training.recipe.recipe import Recipe
from training.run.epochs import BestEpoch, best_epoch, epoch_records
from training.run.trainer import ClassifierTrainer, EpochOrder, device_and_precision, training_arguments, uses_bf16

LENGTHS = [3 + (i * 7) % 40 for i in range(200)]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    """The order depends on seed and epoch, and not on random numbers drawn before."""
    first = EpochOrder(LENGTHS, 8, 5, grouped=True)
    torch.manual_seed(1)
    expected = list(first)
    torch.rand(100)
    assert list(EpochOrder(LENGTHS, 8, 5, grouped=True)) == expected
    assert sorted(expected) == list(range(200))
    first.epoch = 1
    assert list(first) != expected
    assert list(EpochOrder(LENGTHS, 8, 6, grouped=True)) != expected
    assert not hasattr(first, "set_epoch")  # accelerate would call it, with 0


def test_texts_of_like_length_come_together() -> None:
    """Grouped by length, the texts of a batch differ far less in length than in random order."""

    def padding(grouped: bool) -> int:
        order = list(EpochOrder(LENGTHS, 8, 0, grouped=grouped))
        batches = [[LENGTHS[i] for i in order[start : start + 8]] for start in range(0, 200, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(True) < padding(False) / 3


def test_texts_of_a_group_stay_together() -> None:
    """Groups come in another order each epoch, and so do the texts within a group."""
    groups = [0, 1, 2, 1, 0, 2, 1, 1]
    order = EpochOrder([9] * 8, 4, 0, grouped=True, groups=groups)
    epochs = []
    for order.epoch in range(4):
        rows = list(order)
        assert sorted(rows) == list(range(8))
        assert len(list(itertools.groupby(groups[row] for row in rows))) == 3
        epochs.append(rows)
    assert len({tuple(dict.fromkeys(groups[row] for row in rows)) for rows in epochs}) > 1
    assert len({tuple(row for row in rows if groups[row] == 1) for rows in epochs}) > 1


def history(*figures: float) -> list[dict[str, Any]]:
    """Return the log of a run with ten steps per epoch and these figures."""
    log: list[dict[str, Any]] = []
    for i, figure in enumerate(figures, start=1):
        log.append({"loss": 1.0, "step": 10 * i - 4, "epoch": i - 0.4, "learning_rate": 0.1})
        log.append({"loss": 2.0, "step": 10 * i, "epoch": float(i), "learning_rate": 0.01})
        log.append({"eval_loss": 0.5, "eval_macro_f1": figure, "eval_runtime": 9.0, "step": 10 * i, "epoch": float(i)})
    return log


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    """The best epoch is the one with the highest figure, the first of equals, with the number of epochs after it."""
    assert best_epoch(history(0.2, 0.7, 0.7, 0.1), "macro_f1") == BestEpoch(0.7, 20, 2)
    assert best_epoch([], "macro_f1") is None


def test_epochs_have_the_mean_loss_and_the_figures() -> None:
    """An epoch's loss is the mean over its steps; the one whose weights are kept is marked."""
    epochs = epoch_records(history(0.2, 0.7, 0.3), "macro_f1")
    assert epochs[1] == {
        "epoch": 2.0, "step": 20, "learning_rate": 0.01, "train_loss": pytest.approx((6 * 1.0 + 4 * 2.0) / 10),
        "eval_loss": 0.5, "macro_f1": 0.7, "kept": True,
    }  # fmt: skip
    assert [entry["kept"] for entry in epoch_records(history(0.2, 0.7, 0.3), None)] == [False, False, True]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f amx_bf16", True), ("avx512_bf16", True), ("fpu avx512_vnni avx512f", False), ("", False)],
)
def test_bf16_is_used_where_the_cpu_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    """With "auto" the CPU's flags decide on bf16; "bf16" and "fp32" decide by themselves."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert uses_bf16("auto", file) is expected
    assert uses_bf16("bf16", file)
    assert not uses_bf16("fp32", file)
    assert not uses_bf16("auto", tmp_path / "none")


def test_the_device_and_the_precision_have_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is named with its number, a CPU with its threads, both with the precision that the run has."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert device_and_precision(torch.device("cpu"), "bf16") == "the CPU (2 threads, bf16)"
    assert device_and_precision(torch.device("mps"), "fp32") == "mps (fp32)"
    names = {1: "NVIDIA A10"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])
    for has, expected in ((True, "NVIDIA A10 (cuda:1, bf16)"), (False, "NVIDIA A10 (cuda:1, fp32)")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert device_and_precision(torch.device("cuda", 1), "auto") == expected


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and a base model."""
    folder = tmp_path_factory.mktemp("given")
    return write_table(folder / "fruit.csv"), write_base(folder / "base")


def ran(given: tuple[Path, Path], target: Path, *flags: str, launcher: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a training and return its record, with its stderr under "said"."""
    how = ("-m", *launcher) if launcher else ()
    done = run_to_end(
        sys.executable, *how, "-m", "training", *command(*given, target, "--label-column", "colour", *flags),
        HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads((target / "training.json").read_text()), "said": done.stderr}


@pytest.mark.slow
def test_a_run_in_bf16(given: tuple[Path, Path], tmp_path: Path) -> None:
    """A run in bf16 learns as well, and its weights are written in fp32."""
    from safetensors.numpy import load_file

    assert ran(given, tmp_path / "m", "--precision", "bf16")["held_out"]["accuracy"] > 0.8
    assert {weight.dtype for weight in load_file(tmp_path / "m" / "model.safetensors").values()} == {
        np.dtype("float32")
    }


@pytest.mark.slow
def test_a_run_stops_early_and_keeps_the_best_epoch(given: tuple[Path, Path], tmp_path: Path) -> None:
    """With early stopping a run ends before its last epoch, and the weights are those of the best."""
    flags = ("--epochs", "40", "--validation-share", "0.2", "--early-stopping", "2", "--keep-best")
    ran(given, tmp_path / "m", *flags)
    epochs = json.loads((tmp_path / "m" / "epochs.json").read_text())
    assert len(epochs) < 40
    best = max(range(len(epochs)), key=lambda i: epochs[i]["macro_f1"])
    assert len(epochs) == best + 1 + 2
    assert [entry["kept"] for entry in epochs] == [i == best for i in range(len(epochs))]
    done = run_to_end(
        sys.executable, "-m", "training.evaluate", str(tmp_path / "m"),
        "--data", str(tmp_path / "m" / "validation.csv"),
        "--output", str(tmp_path / "r"), OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["macro_f1"] == pytest.approx(epochs[best]["macro_f1"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "token"])
def test_a_run_with_a_head_and_a_frozen_encoder(given: tuple[Path, Path], tmp_path: Path, head: str) -> None:
    """A run with another head on a frozen encoder keeps the encoder's weights, and learns."""
    from safetensors.numpy import load_file

    record = ran(
        given, tmp_path / "m", "--head", head, "--freeze", "encoder", "--learning-rate", "0.02", "--epochs", "10"
    )
    if head == "token":  # the pooler of a random encoder tells nothing about the words
        assert record["held_out"]["accuracy"] > record["held_out"]["majority_accuracy"] + 0.1
    before = load_file(given[1] / "model.safetensors")
    after = load_file(tmp_path / "m" / "model.safetensors")
    encoder = {name: weight for name, weight in before.items() if not name.startswith("pooler.")}
    assert all(np.array_equal(after[f"bert.{name}"], weight) for name, weight in encoder.items())
    assert json.loads((tmp_path / "m" / "config.json").read_text())["inferer_head"]["type"] == head


@pytest.mark.slow
def test_two_processes_make_one_run(given: tuple[Path, Path], tmp_path: Path) -> None:
    """Started by accelerate's launcher in two processes a run prints once, writes one folder, and learns as well."""
    launcher = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
                "--mixed_precision", "no", "--dynamo_backend", "no")  # fmt: skip
    flags = ("--head-first-epochs", "1", "--epochs", "10")
    record = ran(given, tmp_path / "m", *flags, launcher=launcher)
    assert record["said"].count("texts from") == 1
    assert record["said"].count("wrote ") == 1
    steps = re.findall(r"\| \d+/(\d+) \[", record["said"])
    assert max(map(int, steps)) == 10 * 14  # 112 rows by 8, over both processes
    assert record["held_out"]["accuracy"] > 0.8
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """Return a checkpoint's weights."""
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_the_head_is_trained_first_and_by_its_own_rate(given: tuple[Path, Path], tmp_path: Path) -> None:
    """The encoder stays in the head-first epochs; then it moves far less than a head with a higher rate."""
    before = {name: weight for name, weight in weights_of(given[1]).items() if not name.startswith("pooler.")}

    def moved(folder: Path) -> float:
        after = weights_of(folder)
        return max(float(np.abs(after[f"bert.{name}"] - weight).max()) for name, weight in before.items())

    # 1.01 epochs: one head-first epoch and one step.
    flags = ("--head-first-epochs", "1", "--learning-rate", "1e-5", "--head-learning-rate", "0.01")
    ran(given, tmp_path / "one", *flags, "--epochs", "1.01")
    ran(given, tmp_path / "three", *flags, "--epochs", "3")
    assert moved(tmp_path / "one") < moved(tmp_path / "three") < 1e-3
    heads = [weights_of(tmp_path / name)["classifier.weight"] for name in ("one", "three")]
    assert np.abs(heads[1] - heads[0]).max() > 1e-3


@pytest.mark.slow
def test_accumulated_batches_are_one_large_batch(given: tuple[Path, Path], tmp_path: Path) -> None:
    """Two accumulated batches of 4 make the step of one of 8, with class weights and smoothing, without dropout."""
    config = json.loads((given[1] / "config.json").read_text())
    base = tmp_path / "base"
    shutil.copytree(given[1], base)
    plain = {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    (base / "config.json").write_text(json.dumps(plain))
    flags = ("--class-weights", "balanced", "--label-smoothing", "0.1", "--epochs", "1", "--learning-rate", "1e-3")
    ran((given[0], base), tmp_path / "whole", *flags, "--batch-size", "8")
    ran((given[0], base), tmp_path / "parts", *flags, "--batch-size", "4", "--gradient-accumulation", "2")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    start = weights_of(base)
    for name, weight in whole.items():
        # A bias of the keys moves all scores of a query alike: its gradient is only rounding, which Adam enlarges.
        if not name.endswith("attention.self.key.bias"):
            np.testing.assert_allclose(parts[name], weight, atol=2e-4, err_msg=name)
    assert (
        np.abs(whole["bert.encoder.layer.0.output.dense.weight"] - start["encoder.layer.0.output.dense.weight"]).max()
        > 5e-3
    )


@pytest.mark.slow
def test_a_base_that_classified_before_brings_nothing_but_its_encoder(given: tuple[Path, Path], tmp_path: Path) -> None:
    """A run from a checkpoint with its own head, truncation and threshold takes over only the encoder."""
    old = ("--head", "mlp", "--truncation", "head_tail", "--epochs", "1")
    ran(given, tmp_path / "old", *old)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    assert (config["inferer_head"]["type"], config["inferer_truncation"]) == ("mlp", "head_tail")
    ran((given[0], tmp_path / "old"), tmp_path / "new", "--epochs", "1")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert not {"inferer_head", "inferer_truncation", "inferer_threshold"} & set(config)
    ran((given[0], tmp_path / "new"), tmp_path / "newer", "--epochs", "0.1", "--learning-rate", "1e-9")
    heads = [weights_of(tmp_path / name)["classifier.weight"] for name in ("new", "newer")]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3  # fresh, though the shapes are the same


@pytest.mark.slow
def test_a_run_that_failed_at_the_end_does_not_train_again(
    given: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> None:
    """If writing the result fails, the same command resumes from the trained model, with the same weights."""
    from training import pipeline as finetune
    from training.__main__ import main

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flags = ("--label-column", "colour", "--epochs", "2")
    assert main(command(*given, tmp_path / "whole", *flags)) == 0
    arguments = command(*given, tmp_path / "model", *flags)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "model"))

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "write_result", full)
        assert main(arguments) == 2
    assert (tmp_path / "model.unfinished").is_dir()
    assert main(arguments) == 0
    assert weights_of(tmp_path / "model").keys() == weights_of(tmp_path / "whole").keys()
    for name, weight in weights_of(tmp_path / "whole").items():
        np.testing.assert_allclose(weights_of(tmp_path / "model")[name], weight, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_each_text_is_tokenized_once(
    given: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> None:
    """A run tokenizes every row of the data once, for lengths, training, validation and held-out figures together."""
    from training.__main__ import main

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encode, seen = TextEncoder.encode, Counter[str]()

    def counted(self: TextEncoder, texts: Sequence[str]) -> EncodedTexts:
        seen.update(texts)
        return encode(self, texts)

    monkeypatch.setattr(TextEncoder, "encode", counted)
    flags = ("--label-column", "colour", "--epochs", "0.1", "--validation-share", "0.2", "--keep-best")
    assert main(command(*given, tmp_path / "model", *flags)) == 0
    with given[0].open(encoding="utf-8", newline="") as file:
        assert seen == Counter(row["text"] for row in csv.DictReader(file))


def test_the_recipe_s_numbers_reach_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, decay, clipping, accumulation and precision are the Trainer's; processes share the batch."""
    recipe = Recipe(
        learning_rate=3e-4, weight_decay=0.2, warmup_ratio=0.3, max_grad_norm=0.5, gradient_accumulation=4, epochs=2.5,
        batch_size=24, seed=9, precision="bf16",
    )  # fmt: skip
    monkeypatch.setattr("training.run.processes.count", lambda: 2)
    arguments = training_arguments(recipe, tmp_path)
    found = {
        name: getattr(arguments, name)
        for name in (
            "learning_rate",
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "num_train_epochs",
            "seed",
            "bf16",
        )
    }
    assert found == {
        "learning_rate": 3e-4, "weight_decay": 0.2, "warmup_steps": 0.3, "max_grad_norm": 0.5, "num_train_epochs": 2.5,
        "seed": 9, "bf16": True,
    }  # fmt: skip
    assert (arguments.gradient_accumulation_steps, arguments.per_device_train_batch_size) == (4, 12)
    all_steps = training_arguments(dataclasses.replace(recipe, warmup_ratio=1.0), tmp_path)
    assert all_steps.get_warmup_steps(500) == 500


def test_a_head_s_rate_is_its_own_in_the_optimizer(given: tuple[Path, Path]) -> None:
    """The optimizer has each weight once, the head's at the head's rate; norms do not decay."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(given[1], num_labels=3)
    trainer = ClassifierTrainer(
        model=model,
        args=training_arguments(Recipe(learning_rate=1e-5, epochs=1), given[1].parent / "out"),
        loss=None,
        distillation=None,
        order=None,
        head_learning_rate=1e-2,
    )
    groups = trainer.create_optimizer().param_groups
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, weight in model.named_parameters():
        is_head = name.startswith(("classifier.", "bert.pooler."))
        assert rates[id(weight)] == (1e-2 if is_head else 1e-5), name
    decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert decays[id(model.bert.embeddings.LayerNorm.weight)] == 0
    assert decays[id(model.classifier.weight)] == 0.01
