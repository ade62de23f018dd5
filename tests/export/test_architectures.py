"""Every promised architecture, exported for real: the bundle gives torch's predictions, and all layers are int8."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    BertTokenizerFast,
    Data2VecTextConfig,
    Data2VecTextForSequenceClassification,
    FNetConfig,
    FNetForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from inferer import ModelInferer, read_bundle
from inferer.bundle.reader import FP32_MODEL, INT8_MODEL
from tests.support import architectures
from tests.support.architectures import LABELS, LAYERS, LONG_TEXT, POSITIONS, TEXTS

pytestmark = pytest.mark.slow

# Counted by hand: query, key, value, attention's output and two of the feed-forward, a layer. ALBERT (one
# layer more, run three times) and ELECTRA also project their narrower embeddings once.
QUANTIZED = {
    "bert": 6 * LAYERS,
    "roberta": 6 * LAYERS,
    "distilbert": 6 * LAYERS,
    "albert": 6 * (LAYERS + 1) + 1,
    "xlm-roberta": 6 * LAYERS,
    "electra": 6 * LAYERS + 1,
    "camembert": 6 * LAYERS,
    "mpnet": 6 * LAYERS,
    "deberta-v2": 6 * LAYERS,
    "modernbert": 6 * LAYERS,  # query, key, value, output; both halves of the gated layer in one, and the last
}
INPUTS = {
    "bert": {"input_ids", "attention_mask", "token_type_ids"},
    "roberta": {"input_ids", "attention_mask"},
    "distilbert": {"input_ids", "attention_mask"},
    "albert": {"input_ids", "attention_mask", "token_type_ids"},
    "xlm-roberta": {"input_ids", "attention_mask"},
    "electra": {"input_ids", "attention_mask", "token_type_ids"},
    "camembert": {"input_ids", "attention_mask"},
    "mpnet": {"input_ids", "attention_mask"},
    "deberta-v2": {"input_ids", "attention_mask"},
    "modernbert": {"input_ids", "attention_mask"},
}


@dataclass(frozen=True)
class Exported:
    """One architecture: its checkpoint, the bundle made of it, and the bundle's int8 graph."""

    name: str
    checkpoint: Path
    bundle: Path
    graph: onnx.GraphProto


@pytest.fixture(scope="module", params=architectures.TESTED)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each of the promised architectures, exported once."""
    return _exported(tmp_path_factory, request.param)


def _exported(factory: pytest.TempPathFactory, name: str) -> Exported:
    bundle = architectures.bundle(factory, name)
    return Exported(name, architectures.checkpoint(factory, name), bundle, onnx.load(bundle / INT8_MODEL).graph)


def _logits(model: ModelInferer, texts: tuple[str, ...]) -> np.ndarray:
    return np.stack([model.logits(text) for text in texts])


def _weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _fp32_products(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Return the weights of the matrix products that were not quantized; the quantizer makes MatMul of Gemm."""
    weights = _weights(graph)
    return [weights[n.input[1]] for n in graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in weights]


def _int8_products(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]


def test_the_bundle_is_complete(exported: Exported) -> None:
    """The bundle has all its files, and states the checkpoint's labels and lengths."""
    names = {file.name for file in exported.bundle.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "inferer.json",
        "model.onnx",
        "model_quantized.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    bundle = read_bundle(exported.bundle)
    assert bundle.labels == LABELS
    assert (bundle.max_length, bundle.max_positions) == (POSITIONS, POSITIONS)
    assert bundle.scheme == "int8-token"


def test_int8_answers_are_near_torchs(exported: Exported) -> None:
    """The bundle's int8 logits are near torch's, on texts different enough for the test to tell."""
    texts = (*TEXTS, LONG_TEXT)
    expected = architectures.torch_logits(exported.checkpoint, texts)
    found = _logits(ModelInferer(exported.bundle), texts)
    assert np.ptp(expected, axis=0).max() > 1.0
    # ModernBERT's logits lie further apart, and so do onnxruntime's own int8 ones (0.49 at most; ours 0.30).
    assert np.abs(found - expected).max() < (0.3 if exported.name == "modernbert" else 0.15)


def test_fp32_answers_are_torchs(exported: Exported) -> None:
    """The bundle's fp32 model is the checkpoint to rounding, for short texts and for cut ones."""
    texts = (*TEXTS, LONG_TEXT)
    expected = architectures.torch_logits(exported.checkpoint, texts)
    found = _logits(ModelInferer(exported.bundle, quantize=False), texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_linear_layer_is_quantized(exported: Exported) -> None:
    """Every linear layer of the encoder runs in int8, and the manifest counts as many as the graph has."""
    assert len(_int8_products(exported.graph)) == QUANTIZED[exported.name]
    assert read_bundle(exported.bundle).manifest["quantization"]["quantized_matmuls"] == QUANTIZED[exported.name]
    heads = [n for n in onnx.load(exported.bundle / FP32_MODEL).graph.node if n.op_type == "Gemm"]
    assert len(_fp32_products(exported.graph)) == len(heads)


def test_weights_are_signed_with_a_scale_per_column(exported: Exported) -> None:
    """Every quantized layer has signed weights and a scale for each column."""
    weights = _weights(exported.graph)
    for node in _int8_products(exported.graph):
        layer, scale = weights[node.input[1]], weights[node.input[3]]
        assert layer.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [layer.dims[1]]


def test_the_head_stays_fp32(exported: Exported) -> None:
    """The classification head, which decides the prediction, stays in fp32."""
    products = _fp32_products(exported.graph)
    assert [len(LABELS), 32] in [list(weight.dims) for weight in products]
    assert {weight.data_type for weight in products} == {onnx.TensorProto.FLOAT}


def test_the_graph_declares_the_architectures_inputs_and_gets_no_others(exported: Exported) -> None:
    """The graph declares the inputs of its architecture, and the model runs on them."""
    declared = {i.name for i in exported.graph.input}
    assert declared == INPUTS[exported.name]
    prediction = ModelInferer(exported.bundle).predict(TEXTS[0])
    assert prediction.label in LABELS


def test_a_text_longer_than_the_model_is_cut_and_answered(exported: Exported) -> None:
    """A text of more tokens than positions is cut, and the prediction says so."""
    model = ModelInferer(exported.bundle)
    assert model.max_length == 64
    prediction = model.predict(LONG_TEXT)
    assert prediction.truncated
    assert prediction.num_tokens > 64
    np.testing.assert_array_equal(model.logits(LONG_TEXT), model.logits(LONG_TEXT + " and nothing of this is read"))


def test_alberts_shared_weights_stand_once_in_the_int8_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ALBERT's one layer is written once, and all three of its runs are in int8."""
    albert = _exported(tmp_path_factory, "albert")
    weights = _weights(albert.graph)
    used = [node.input[1] for node in _int8_products(albert.graph)]
    assert len(_int8_products(albert.graph)) == 6 * 3 + 1
    # Query, key and value in one, in the last run the query apart from the other two; three more; the projection.
    assert len(set(used)) == 3 + 3 + 1
    matrices = [t.raw_data for t in weights.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
    assert len(set(matrices)) == len(matrices)


def test_an_untested_architecture_is_exported_with_a_note(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data2Vec, an untested architecture, is exported with a note, all int8, and gives torch's predictions."""
    tokenizer = BertTokenizerFast.from_pretrained(architectures.checkpoint(tmp_path_factory, "bert"))
    torch.manual_seed(0)
    config = Data2VecTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS + 2,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=3,
        problem_type="single_label_classification",
    )
    model = Data2VecTextForSequenceClassification(config)
    model.save_pretrained(tmp_path / "data2vec")
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        pad_token=tokenizer.pad_token,
        model_input_names=["input_ids", "attention_mask"],
    )
    plain.save_pretrained(tmp_path / "data2vec")
    assert architectures.run_export(tmp_path / "data2vec", tmp_path / "bundle", "--max-length", 32) == 0
    assert "note: architecture 'data2vec-text' is untested here" in capsys.readouterr().err
    served = ModelInferer(tmp_path / "bundle")
    assert served.bundle.manifest["quantization"]["quantized_matmuls"] == 6 * LAYERS
    expected = architectures.torch_logits(tmp_path / "data2vec", TEXTS)
    assert np.abs(_logits(served, TEXTS) - expected).max() < 0.02


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_onnxruntimes_own_int8_can_be_chosen(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """With --scheme int8-tensor every layer is quantized by onnxruntime's quantizer, and scores are near torch's."""
    checkpoint = architectures.checkpoint(tmp_path_factory, name)
    assert architectures.run_export(checkpoint, tmp_path / "bundle", "--scheme", "int8-tensor") == 0
    operators = [node.op_type for node in onnx.load(tmp_path / "bundle" / INT8_MODEL).graph.node]
    assert operators.count("MatMulInteger") == QUANTIZED[name]
    expected = architectures.torch_logits(checkpoint, TEXTS)
    assert np.abs(_logits(ModelInferer(tmp_path / "bundle"), TEXTS) - expected).max() < 0.15


def test_a_tested_architecture_is_exported_without_a_word_of_others(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A promised architecture is exported without a note, and the export prints only its own lines."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "roberta")
    capsys.readouterr()
    transformers_logging.warning_once.cache_clear()  # what it said in an earlier test, it should say again
    assert architectures.run_export(checkpoint, tmp_path / "bundle") == 0
    said = [line.strip() for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.strip()]
    ours = ("wrote ", "fp32 ONNX", "int8 against", "int8 was not checked")
    assert not [line for line in said if not line.startswith(ours) and not architectures.STEP.fullmatch(line)]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_an_architecture_that_cannot_be_exported_is_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """An architecture without an ONNX configuration is refused by name, and nothing is written."""
    tokenizer = BertTokenizerFast.from_pretrained(architectures.checkpoint(tmp_path_factory, "bert"))
    config = FNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        intermediate_size=8,
        max_position_embeddings=POSITIONS,
        problem_type="single_label_classification",
    )
    FNetForSequenceClassification(config).save_pretrained(tmp_path / "fnet")
    tokenizer.save_pretrained(tmp_path / "fnet")
    assert architectures.run_export(tmp_path / "fnet", tmp_path / "bundle") == 2
    assert "export: architecture 'fnet' cannot be exported: " in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("source", ["folder", "state dict"])
def test_distilbert_with_berts_tokenizer_is_exported(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, source: str
) -> None:
    """A DistilBERT saved with BERT's tokenizer, which names token_type_ids, is exported and gives torch's logits."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "distilbert")
    arguments = _with_bert_tokenizer(tmp_path, checkpoint, source)
    assert architectures.run_export(arguments[0], tmp_path / "bundle", *arguments[1:]) == 0
    expected = architectures.torch_logits(checkpoint, TEXTS)
    assert np.abs(_logits(ModelInferer(tmp_path / "bundle"), TEXTS) - expected).max() < 0.15


def _with_bert_tokenizer(tmp_path: Path, checkpoint: Path, source: str) -> list[Any]:
    tokenizer = BertTokenizerFast.from_pretrained(checkpoint)
    if source == "folder":
        folder = architectures.copy_of(checkpoint, tmp_path / "folder")
        tokenizer.save_pretrained(folder)
        return [folder]
    weights, config = architectures.write_state_dict(tmp_path / "bare", checkpoint)
    tokenizer.save_pretrained(config["model_name"])
    return [weights, "--config", architectures.write_json(tmp_path / "config.json", config)]
