"""Exports that fail: one line that names the fault, exit code 2, no bundle left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic
from safetensors.torch import load_file, save_file

import export.engine.onnx_model
import export.engine.quantize
import export.engine.token_wise
import export.pipeline
from export.checkpoint import load_checkpoint
from export.engine.quantize import Quantizer
from export.engine.token_wise import quantize_linears
from inferer import ModelInferer
from inferer.config import read_config
from tests.support import architectures
from tests.support.architectures import LABELS, TEXTS, copy_of, run_export, write_json
from tests.support.server import ROOT, environment, run_to_end

CHILD_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint folder; not to be changed."""
    return architectures.checkpoint(tmp_path_factory, "bert")


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that exports, checks that nothing was written, and returns the one line that says why."""

    def refuse(checkpoint: object, *options: object) -> str:
        target = tmp_path / "refused" / "bundle"
        capsys.readouterr()
        code = run_export(checkpoint, target, *options)
        said = capsys.readouterr().err.replace("\r", "\n").splitlines()
        assert code == 2, said
        assert not target.exists()
        assert not target.parent.exists() or not list(target.parent.iterdir())
        assert not [line for line in said if "Traceback" in line]
        lines = [line.strip() for line in said[:-1] if line.strip() and not line.startswith("note: ")]
        assert not [line for line in lines if not architectures.STEP.fullmatch(line)], "more than one line says why"
        assert said[-1].startswith("export: ")
        return said[-1]

    return refuse


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def _bare(tmp_path: Path, source: Path, weights: object = None, **changes: Any) -> list[object]:
    """Return the arguments that export the checkpoint folder `source` as a bare state dict."""
    file, config = architectures.write_state_dict(tmp_path / "bare", source, weights)
    return [file, "--config", write_json(tmp_path / "config.json", {**config, **changes})]


# What the conversion itself is checked for


@pytest.mark.slow
def test_a_layer_that_the_quantizer_skips_is_named(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linear layer left in fp32 stops the export, and the message names it."""

    def skipping(source: Path, target: Path, *, nodes_to_exclude: list[str], **options: Any) -> None:
        skipped = "/bert/encoder/layer/1/attention/self/key/MatMul"
        quantize_dynamic(source, target, nodes_to_exclude=[*nodes_to_exclude, skipped], **options)

    monkeypatch.setattr(export.engine.quantize, "quantize_dynamic", skipping)
    line = refusal(bert, "--scheme", "int8-tensor")
    assert "11 linear layers were quantized, 12 expected" in line
    assert "left in fp32: bert.encoder.layer.1.attention.self.key;" in line


@pytest.mark.slow
def test_a_layer_that_token_wise_quantization_skips_is_named(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linear layer that int8-token left in fp32 stops the export, and the message names it."""

    def skipping(graph: Any, kept: set[str], hints: Any) -> None:
        quantize_linears(graph, {*kept, "/bert/encoder/layer/0/output/dense/MatMul"}, hints)

    monkeypatch.setattr(export.engine.quantize, "quantize_linears", skipping)
    line = refusal(bert)
    assert "11 linear layers were quantized, 12 expected" in line
    assert "left in fp32: bert.encoder.layer.0.output.dense;" in line


@pytest.mark.slow
def test_int8_token_that_depends_on_the_batch_is_refused(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An int8-token model with one activation scale for the whole batch is refused, and the message says why."""

    def one_scale(graph: Any, x: str, least: float, steps: int) -> str:
        largest = graph.add("ReduceMax", token_wise_scale(graph, x, least, steps), keepdims=1)
        shape = graph.add("Shape", graph.add("ReduceMax", x, graph.weight(np.array([-1]), "last"), keepdims=1))
        return graph.add("Expand", largest, shape)

    token_wise_scale = export.engine.token_wise._scale
    monkeypatch.setattr(export.engine.token_wise, "_scale", one_scale)
    line = refusal(bert)
    assert "int8 scores depend on the batch" in line
    assert "export with --scheme int8-tensor" in line


def _after(step: Callable[..., Any], change: Callable[[onnx.GraphProto], None]) -> Callable[..., Any]:
    """Return `step`, which writes an ONNX file to its second argument, with `change` made to that file."""

    def changed(source: object, target: Path, *rest: object) -> Any:
        result = step(source, target, *rest)
        model = onnx.load(target)
        change(model.graph)
        onnx.save(model, target)
        return result

    return changed


def _scale_head(graph: onnx.GraphProto, factor: float) -> None:
    for tensor in graph.initializer:
        if tensor.name == "classifier.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
            return
    pytest.fail("the graph has no classifier.weight")


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_an_fp32_model_that_is_not_the_checkpoint_is_refused(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """A conversion that changed weights by one per cent, or to NaN, is refused."""
    converted = _after(export.engine.onnx_model.to_onnx, lambda graph: _scale_head(graph, factor))
    monkeypatch.setattr(export.pipeline, "to_onnx", converted)
    assert "the fp32 ONNX model differs from the checkpoint: logits differ by" in refusal(bert)


def _ignore_mask(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[i] = "all_ones"
    one = numpy_helper.from_array(np.array([1], dtype=np.int64))
    graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["its_shape"], ["all_ones"], value=one))
    graph.node.insert(0, onnx.helper.make_node("Shape", ["attention_mask"], ["its_shape"]))


@pytest.mark.slow
def test_a_model_that_does_not_heed_the_mask_is_refused(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes padding for text, right for one text and wrong in a batch, is refused."""
    monkeypatch.setattr(export.pipeline, "to_onnx", _after(export.engine.onnx_model.to_onnx, _ignore_mask))
    assert "the fp32 ONNX model differs from the checkpoint: logits differ by" in refusal(
        bert, "--scheme", "int8-tensor"
    )
    assert "the rewritten encoder gives other logits" in refusal(bert)


@pytest.mark.slow
def test_int8_that_is_broken_is_refused_with_a_way_out(
    bert: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An int8 model with other predictions than fp32 is refused, and the message names --scheme fp32."""
    broken = _after(Quantizer.__call__, lambda graph: _scale_head(graph, -5))
    monkeypatch.setattr(Quantizer, "__call__", broken)
    line = refusal(bert)
    assert "int8 is broken: scores move by" in line
    assert "--scheme fp32" in line


def test_a_tokenizer_that_differs_from_the_served_one_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A tokenizer that keeps the ends of long texts is refused, because serving keeps the beginnings."""
    folder = copy_of(bert, tmp_path / "left")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**settings, "truncation_side": "left"})
    assert "the tokenizer in tokenizer.json reads 'Their support answered" in refusal(folder)


# Weights


def test_weights_missing_in_a_folder_are_named(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A checkpoint without its classifier is refused, and the message names the weight."""
    folder = copy_of(bert, tmp_path / "headless")
    _change_weights(folder, lambda weights: weights.pop("classifier.weight"))
    assert refusal(folder).endswith("headless: missing weights: classifier.weight")


def test_weights_left_over_in_a_folder_are_named(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """Weights that the architecture does not have are refused by name."""
    folder = copy_of(bert, tmp_path / "more")
    _change_weights(folder, lambda weights: weights.update({"classifier.dense.weight": torch.ones(2, 2)}))
    assert refusal(folder).endswith("more: unexpected weights: classifier.dense.weight")


def test_weights_of_another_shape_in_a_folder_are_named(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A classifier for three labels in a model for two is refused, and the message names its weights."""
    folder = copy_of(bert, tmp_path / "two", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    assert refusal(folder).endswith("two: misshapen weights: classifier.bias, classifier.weight")


def test_many_missing_weights_are_counted_and_not_all_listed(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """Of many missing weights the message lists the first and counts the rest."""
    folder = copy_of(bert, tmp_path / "shallow")
    _change_weights(folder, lambda weights: [weights.pop(n) for n in list(weights) if n.startswith("bert.encoder")])
    line = refusal(folder)
    assert "missing weights: bert.encoder.layer.0.attention.output.LayerNorm.bias, " in line
    assert line.endswith(" and 27 more")


def test_weights_missing_and_left_over_in_a_state_dict_are_named(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A state dict with a head of another name is refused with its missing and unexpected weights."""
    state = architectures.state_of(bert)
    state["head.bias"] = state.pop("classifier.bias")
    line = refusal(*_bare(tmp_path, bert, state))
    assert line.endswith("weights.pt: missing weights: classifier.bias; unexpected weights: head.bias")


def test_a_state_dict_of_another_shape_is_named(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A config with fewer labels than the state dict has logits is refused, and the message names the weight."""
    line = refusal(*_bare(tmp_path, bert, labels=list(LABELS[:2])))
    assert "does not fit" in line
    assert "size mismatch for classifier.weight" in line


def test_a_folder_without_weights_is_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A folder with a config and no weights is refused."""
    folder = copy_of(bert, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    assert "empty: has config.json and no weights; expected model.safetensors" in refusal(folder)


def test_damaged_weights_are_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A safetensors file that is cut short is refused without a traceback."""
    folder = copy_of(bert, tmp_path / "cut")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:9000])
    assert "cut: cannot be loaded: Error while deserializing header" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"no zip, no pickle", b"PK\x03\x04 but not more"])
def test_a_file_without_a_state_dict_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str], content: bytes
) -> None:
    """A .pt file of other bytes is refused without a traceback."""
    arguments = _bare(tmp_path, bert)
    Path(str(arguments[0])).write_bytes(content)
    assert "weights.pt: cannot be read as a state dict: " in refusal(*arguments)


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_a_file_of_other_things_than_tensors_by_name_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str], content: object
) -> None:
    """A .pt file without a mapping of names to tensors is refused."""
    assert "weights.pt: not a state dict" in refusal(*_bare(tmp_path, bert, content))


class Booby:
    """Unpickling one of these makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def test_a_pickled_object_is_refused_and_not_run(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A state dict with code in it is refused without running the code or advising to load it."""
    made = tmp_path / "made"
    line = refusal(*_bare(tmp_path, bert, {**architectures.state_of(bert), "extra": Booby(made)}))
    assert not made.exists()
    assert "it holds pickled objects (posix.mkdir), and only tensors are loaded" in line
    assert "weights_only" not in line
    with Path(tmp_path / "proof").open("wb") as file:
        pickle.dump(Booby(made), file)
    with Path(tmp_path / "proof").open("rb") as file:
        pickle.load(file)  # noqa: S301 - the proof that it would have run
    assert made.is_dir()


def test_a_pickled_object_in_a_folder_is_refused_and_not_run(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A checkpoint folder with code in an old pytorch_model.bin is refused, and the code not run."""
    made = tmp_path / "made"
    folder = copy_of(bert, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    torch.save({**architectures.state_of(bert), "extra": Booby(made)}, folder / "pytorch_model.bin")
    assert "old: cannot be loaded: it holds pickled objects (posix.mkdir)" in refusal(folder)
    assert not made.exists()


def test_a_whole_pickled_model_is_refused_with_the_way_to_save(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """The frequent torch.save(model) is refused with the right way to save."""
    model = load_checkpoint(bert, read_config(None)).model
    line = refusal(*_bare(tmp_path, bert, model))
    assert "BertForSequenceClassification" in line
    assert line.endswith("save model.state_dict() instead")


_WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {f"module.{name}": weight for name, weight in state.items()},
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.1},
    "both": lambda state: {"state_dict": {f"module.{name}": weight for name, weight in state.items()}},
    "half": lambda state: {
        name: weight.half() if weight.is_floating_point() else weight for name, weight in state.items()
    },
    "old buffers": lambda state: {**state, "bert.embeddings.position_ids": torch.arange(64)[None, :]},
}


@pytest.mark.parametrize("wrapping", _WRAPPINGS)
def test_a_state_dict_is_found_in_the_wrappings_of_training_loops(tmp_path: Path, bert: Path, wrapping: str) -> None:
    """A state dict as DataParallel or a training loop saves it is loaded, its weights unchanged."""
    state = architectures.state_of(bert)
    file, config = architectures.write_state_dict(tmp_path / "bare", bert, _WRAPPINGS[wrapping](state))
    loaded = load_checkpoint(file, read_config(config))
    found = loaded.model.state_dict()
    assert set(found) == set(state)
    for name, weight in state.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-3)
    assert {weight.dtype for weight in found.values() if weight.is_floating_point()} == {torch.float32}
    assert (loaded.labels, loaded.max_length) == (LABELS, 64)


# Facts of the config and the checkpoint


def test_a_state_dict_without_a_config_is_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A bare state dict is refused, and the message names --config and its keys."""
    line = refusal(_bare(tmp_path, bert)[0])
    assert "--config FILE.json (model_type, model_name, labels, problem_type, max_seq_length)" in line


def test_another_architecture_than_the_config_says_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A model_type other than that of model_name is refused, and the message names both."""
    line = refusal(*_bare(tmp_path, bert, model_type="roberta"))
    assert "config.model_type is 'roberta'" in line
    assert line.endswith("is 'bert'")


def test_a_checkpoint_that_does_not_say_its_problem_type_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A checkpoint without a problem_type is refused, and the message names --problem-type and its values."""
    line = refusal(copy_of(bert, tmp_path / "silent", problem_type=None))
    assert "problem_type is None" in line
    assert "--problem-type, single_label_classification or multi_label_classification" in line


def test_a_regression_of_several_numbers_is_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """A regression with more logits than one is refused, and the message counts them."""
    line = refusal(copy_of(bert, tmp_path / "regression", problem_type="regression"))
    assert line.endswith("gives 3 logits; a regression has one, the number")


def test_a_list_of_labels_of_another_length_is_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """More names than a checkpoint folder has logits are refused, and the message gives both numbers."""
    config = write_json(tmp_path / "config.json", {"labels": ["a", "b", "c", "d"]})
    assert refusal(bert, "--config", config).endswith("gives 3 logits, the config names 4 labels")


@pytest.mark.parametrize(
    ("id2label", "said"),
    [
        ({"1": "a", "2": "b", "3": "c"}, "expected a name for each of 0 to 2"),
        ({"0": 0, "1": 1, "2": 2}, "expected a name for each of 0 to 2"),
        ({"0": "a", "1": "b", "2": "a"}, "names a label twice: a, b, a"),
    ],
)
def test_labels_without_ordered_names_are_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str], id2label: dict[str, Any], said: str
) -> None:
    """An id2label that does not start at 0, holds numbers or has a name twice is refused."""
    assert said in refusal(copy_of(bert, tmp_path / "named", id2label=id2label))


def test_more_tokens_than_the_model_has_positions_are_refused(bert: Path, refusal: Callable[..., str]) -> None:
    """A --max-length beyond the model's positions is refused, and the message names the limit."""
    assert refusal(bert, "--max-length", 65).endswith("max_length is 65, the model can read at most 64 tokens")


def test_roberta_loses_the_positions_before_its_padding_id(
    tmp_path_factory: pytest.TempPathFactory, refusal: Callable[..., str]
) -> None:
    """RoBERTa with 66 positions takes 64 tokens, because two positions are never reached."""
    roberta = architectures.checkpoint(tmp_path_factory, "roberta")
    assert json.loads((roberta / "config.json").read_text())["max_position_embeddings"] == 66
    assert refusal(roberta, "--max-length", 65).endswith("max_length is 65, the model can read at most 64 tokens")


def test_thresholds_for_a_single_label_are_refused(tmp_path: Path, bert: Path, refusal: Callable[..., str]) -> None:
    """Thresholds for a single-label model, which would ignore them, are refused."""
    config = write_json(tmp_path / "config.json", {"thresholds": 0.3})
    assert "config.thresholds: 0.3 is not allowed" in refusal(bert, "--config", config)


def test_a_threshold_for_a_label_that_is_not_there_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str]
) -> None:
    """A misspelled label in the thresholds is refused by name."""
    config = write_json(
        tmp_path / "config.json", {"thresholds": {"brnad": 0.3}, "problem_type": "multi_label_classification"}
    )
    assert "config.thresholds: 'brnad' is not allowed; expected one of the labels" in refusal(bert, "--config", config)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """A model with fewer embeddings than the tokenizer has ids is refused."""
    folder = architectures.write_checkpoint(tmp_path / "few", "bert", vocab_size=100)
    assert refusal(folder).endswith("the model has embeddings for 0 to 99")


@pytest.mark.parametrize(("content", "said"), [(None, "no tokenizer in "), ("{", "tokenizer.json is not valid JSON")])
def test_a_folder_without_a_readable_tokenizer_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str], content: str | None, said: str
) -> None:
    """A checkpoint with a missing or damaged tokenizer is refused, and the message says which."""
    folder = copy_of(bert, tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    line = refusal(folder)
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a valid JSON file"),
        ("[]", "cannot be loaded"),
        ('{"model_type": "zork"}', "model_type: 'zork', unknown to transformers"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(
    tmp_path: Path, bert: Path, refusal: Callable[..., str], content: str, said: str
) -> None:
    """A damaged config.json, or one of an unknown architecture, is refused, and the message says why."""
    folder = copy_of(bert, tmp_path / "odd")
    (folder / "config.json").write_text(content)
    assert said in refusal(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """A folder without config.json is refused, and the message says so."""
    (tmp_path / "other").mkdir()
    assert "other: is empty: no config.json" in refusal(tmp_path / "other")


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """A mistyped path is refused as one that does not exist."""
    assert refusal(tmp_path / "nowhere").endswith("nowhere: does not exist")


# The target folder


def _written(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def earlier(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An existing bundle, copied for this test."""
    return Path(shutil.copytree(architectures.bundle(tmp_path_factory, "bert"), tmp_path / "earlier" / "bundle"))


@pytest.mark.slow
def test_a_bundle_that_is_there_is_left_alone(earlier: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --overwrite a bundle that is there is left alone, and the message names the flag."""
    before = _written(earlier)
    assert run_export(bert, earlier) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert _written(earlier.parent) == {f"bundle/{name}": content for name, content in before.items()}


@pytest.mark.slow
def test_overwrite_replaces_a_bundle(earlier: Path, bert: Path) -> None:
    """--overwrite replaces the old bundle whole, and leaves nothing beside it."""
    (earlier / "stale").write_text("of the old one")
    assert run_export(bert, earlier, "--overwrite", "--max-length", 16) == 0
    assert ModelInferer(earlier).max_length == 16
    assert not (earlier / "stale").exists()
    assert [f.name for f in earlier.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_bundle_that_was_there(tmp_path: Path, earlier: Path, bert: Path) -> None:
    """A failed --overwrite leaves the bundle that it was to replace."""
    before = _written(earlier)
    assert run_export(copy_of(bert, tmp_path / "silent", problem_type=None), earlier, "--overwrite") == 2
    assert _written(earlier.parent) == {f"bundle/{name}": content for name, content in before.items()}


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_folder_without_a_bundle_is_never_replaced(
    tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """A folder of somebody's files is left alone, with --overwrite or without."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("four years")
    assert run_export(bert, tmp_path / "thesis", *options) == 2
    assert "thesis: is a folder with other files in it" in capsys.readouterr().err
    assert _written(tmp_path) == {"thesis/chapter1.txt": b"four years"}


@pytest.mark.slow
def test_latest_is_the_newest_run(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`latest` is the newest checkpoint, not the last by name nor one that is half written."""
    for age_s, name in enumerate((".b.1.partial", "b-newest", "c-older", "a-oldest")):
        folder = copy_of(bert, tmp_path / "checkpoints" / name)
        when = time.time() - 100 * age_s
        os.utime(folder / "config.json", (when, when))
    monkeypatch.chdir(tmp_path)
    assert run_export("latest", "bundle", "--scheme", "fp32") == 0
    assert "wrote bundle from checkpoints/b-newest" in capsys.readouterr().err


def test_latest_without_a_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    """`latest` with nothing under checkpoints/ is refused, and the message says to train first."""
    monkeypatch.chdir(tmp_path)
    assert refusal("latest") == "export: latest: found no checkpoint under checkpoints/; train one first"


# How it ends


def test_a_fault_of_the_exports_own_is_not_hidden(tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen error is raised as it is, and leaves no folder behind."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(export.pipeline, "to_onnx", fail)
    with pytest.raises(ZeroDivisionError):
        run_export(bert, tmp_path / "out" / "bundle")
    assert not list((tmp_path / "out").iterdir())


def test_an_interruption_leaves_nothing(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control-C during the conversion leaves no folder and no traceback, and ends with exit code 130."""

    def interrupted(_model: object, target: Path) -> None:
        target.write_bytes(b"half a model")
        raise KeyboardInterrupt

    monkeypatch.setattr(export.pipeline, "to_onnx", interrupted)
    assert run_export(bert, tmp_path / "out" / "bundle") == 130
    said = capsys.readouterr().err
    assert said.endswith("export: interrupted; nothing was written\n")
    assert "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_terminated_export_leaves_nothing(tmp_path: Path, bert: Path) -> None:
    """SIGTERM to the real command, once it has begun to write, leaves nothing written and ends with exit code 130."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "export", str(bert), str(out / "bundle")]
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + CHILD_TIMEOUT_S
        while not list(out.glob(".bundle.*.partial")):
            assert child.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        assert child.wait(CHILD_TIMEOUT_S) == 130
    finally:
        child.kill()
        child.wait()
    assert not list(out.iterdir())
    assert (tmp_path / "log").read_text().endswith("export: interrupted; nothing was written\n")


@pytest.mark.slow
def test_the_command_ends_with_2_and_one_line(tmp_path: Path) -> None:
    """`python -m export` with a wrong checkpoint ends with exit code 2 and one line that says why, on stderr."""
    done = run_to_end(sys.executable, "-m", "export", str(tmp_path / "nowhere"), str(tmp_path / "bundle"))
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.replace("\r", "\n").splitlines()
    assert said[-1] == f"export: checkpoint {tmp_path / 'nowhere'}: does not exist"
    assert all(line.startswith("export: ") for line in said if line.strip())


@pytest.mark.slow
def test_the_checks_pass_what_is_right(tmp_path: Path, bert: Path) -> None:
    """The same state dict, config and tokenizer without a fault are exported and give torch's logits."""
    arguments = _bare(tmp_path, bert)
    assert run_export(arguments[0], tmp_path / "bundle", *arguments[1:]) == 0
    expected = architectures.torch_logits(bert, TEXTS)
    model = ModelInferer(tmp_path / "bundle")
    assert np.abs(np.stack([model.logits(text) for text in TEXTS]) - expected).max() < 0.15
