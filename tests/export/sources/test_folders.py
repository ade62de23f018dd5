"""Folders that are not a checkpoint of a sequence classifier: a sentence that names what is there and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError
from export.source import find_checkpoint
from inferer import BundleError, ModelInferer
from inferer.checkpoint_folder import fault_of, fault_of_base
from training.errors import TrainingError
from training.model.base_model import base_model_path


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes files: a table is the content in JSON, None an empty file. Returns the folder."""

    def write(**files: dict[str, Any] | None) -> Path:
        for name, content in files.items():
            file = tmp_path / "it" / name.replace("__", ".").replace("_in_", "/").replace("checkpoint_", "checkpoint-")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("" if content is None else json.dumps(content))
        return tmp_path / "it"

    return write


def of(*architectures: str) -> dict[str, Any]:
    """Return a config.json that names these architectures."""
    return {"model_type": "bert", "architectures": list(architectures)}


@pytest.mark.parametrize(
    "name",
    [
        "BertForTokenClassification",
        "BertForMaskedLM",
        "BertForQuestionAnswering",
        "BertForPreTraining",
        "BertForNextSentencePrediction",
        "BertForMultipleChoice",
        "BertLMHeadModel",
        "BertModel",
    ],
)
def test_another_head_is_named_with_the_expected_one(folder: Callable[..., Path], name: str) -> None:
    """A model with another head, or none, is refused by the name in config.json, and the expected one is named."""
    path = folder(config__json=of(name), model__safetensors=None)
    assert fault_of(path) == (
        f"config.json names the architecture {name}, expected a sequence classifier such as "
        "BertForSequenceClassification; train one on it: inferer train --base-model FOLDER"
    )


@pytest.mark.parametrize(
    "config",
    [of("BertForSequenceClassification"), of("BertForSequenceClassificationWithMlpHead"), {}, of("OurBert"), of()],
)
@pytest.mark.parametrize("weights", ["model__safetensors", "pytorch_model__bin", "pytorch_model-00001-of-00002__bin"])
def test_a_classifier_passes(folder: Callable[..., Path], config: dict[str, Any], weights: str) -> None:
    """A classifier, one with a head of ours and one under an unknown name pass: their weights are checked next."""
    assert fault_of(folder(config__json=config, **{weights: None})) is None


def test_an_adapter_is_to_be_merged(folder: Callable[..., Path]) -> None:
    """A LoRA adapter is refused, with its base model and the way to merge it, beside a config.json too."""
    adapter = {"base_model_name_or_path": "org/base"}
    said = "has a LoRA adapter (adapter_config.json) of the base model 'org/base', not a whole model; merge it first: "
    alone = folder(adapter_config__json=adapter, adapter_model__safetensors=None)
    assert str(fault_of(alone)).startswith(said)
    beside = folder(config__json=of("BertForSequenceClassification"), model__safetensors=None)
    assert str(fault_of(beside)).startswith(said)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model-q4__gguf", "GGUF"),
        ("tf_model__h5", "TensorFlow"),
        ("flax_model__msgpack", "Flax"),
        ("model__onnx", "ONNX"),
    ],
)
@pytest.mark.parametrize("config", [{}, {"config__json": of("BertForSequenceClassification")}], ids=["bare", "config"])
def test_weights_of_other_frameworks_are_named(
    folder: Callable[..., Path], file: str, name: str, config: dict[str, Any]
) -> None:
    """A folder with the weights of another framework alone is refused with the file's name."""
    said = str(fault_of(folder(**{file: None}, **config)))
    assert f"has weights for {name} alone ({file.replace('__', '.')})" in said
    assert "model.safetensors or pytorch_model.bin" in said


def test_a_sentence_transformers_model_is_named(folder: Callable[..., Path]) -> None:
    """A sentence-transformers model is refused with the way to train a classifier on it."""
    path = folder(config__json=of("BertModel"), modules__json=None, model__safetensors=None)
    assert str(fault_of(path)).startswith("is a sentence-transformers model (modules.json), which embeds texts")


def test_a_trainers_folder_names_its_newest_checkpoint(folder: Callable[..., Path]) -> None:
    """Of a Trainer's folder without a model the newest checkpoint is named by number, and the best by its figures."""
    path = folder(
        checkpoint_900_in_config__json={},
        checkpoint_1000_in_config__json={},
        checkpoint_old_in_config__json={},
        checkpoint_2000_in_optimizer__pt=None,  # its writing was cut off
    )
    newest = path / "checkpoint-1000"
    said = f"is the output folder of a Trainer, without a model of its own; give its newest checkpoint, {newest}"
    assert fault_of(path) == said
    folder(checkpoint_1000_in_trainer_state__json={"best_model_checkpoint": "/elsewhere/it/checkpoint-900"})
    assert fault_of(path) == f"{said} (the best by the run's own figures is checkpoint-900)"
    folder(config__json=of("BertForSequenceClassification"), model__safetensors=None)
    assert fault_of(path) is None


def test_a_trainers_folder_of_adapters_names_its_newest_checkpoint(folder: Callable[..., Path]) -> None:
    """Peft's checkpoints have no config.json; the newest is named, and its own message tells how to merge it."""
    path = folder(checkpoint_5_in_adapter_config__json={}, checkpoint_40_in_adapter_config__json={})
    newest = path / "checkpoint-40"
    said = f"is the output folder of a Trainer, without a model of its own; give its newest checkpoint, {newest}"
    assert fault_of(path) == said
    assert str(fault_of(newest)).startswith("has a LoRA adapter")


def test_a_base_model_needs_no_classifier_and_nothing_less(folder: Callable[..., Path]) -> None:
    """Any head will do for a base model; a Trainer's folder and one without weights are refused as in an export."""
    path = folder(checkpoint_1000_in_config__json={})
    with pytest.raises(TrainingError, match=f"base model {path}: is the output folder of a Trainer.*checkpoint-1000"):
        base_model_path(str(path))
    folder(config__json=of("BertForMaskedLM"), flax_model__msgpack=None)
    assert "Trainer" in str(fault_of_base(path))
    folder(model__safetensors=None)
    assert fault_of_base(path) is None
    assert "config.json names" in str(fault_of(path))


def test_folders_that_lack_everything_are_told_apart(folder: Callable[..., Path], tmp_path: Path) -> None:
    """An empty folder, one without config.json, one without weights and a bundle are told apart."""
    (tmp_path / "empty").mkdir()
    assert str(fault_of(tmp_path / "empty")).startswith("is empty")
    assert str(fault_of(folder(notes__txt=None))).startswith("no config.json; expected a Hugging Face checkpoint")
    assert str(fault_of(folder(config__json={}))).startswith("has config.json and no weights")
    assert str(fault_of(folder(inferer__json=None))).startswith("is a bundle")


def test_the_command_and_python_say_it(folder: Callable[..., Path], tmp_path: Path) -> None:
    """The command and ModelInferer end with that sentence."""
    path = folder(adapter_config__json={}, adapter_model__safetensors=None)
    with pytest.raises(ExportError, match=f"checkpoint {path}: has a LoRA adapter"):
        find_checkpoint(str(path))
    with pytest.raises(BundleError, match="nor a PyTorch checkpoint .*: has a LoRA adapter"):
        ModelInferer(path, cache_dir=tmp_path / "cache")
