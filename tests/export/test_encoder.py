"""The rewritten encoder gives the exported one's logits in fp32, for every kind of layer that is recognized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper
from transformers import AutoModelForSequenceClassification, PreTrainedModel

import export.pipeline
from export.engine.encoder import rebuild_encoder
from export.engine.graph import MICROSOFT, Graph
from export.engine.layers import find_layers
from export.engine.probe import Channels
from tests.support import architectures

pytestmark = pytest.mark.slow

VARIANTS: dict[str, dict[str, Any]] = {
    "relu": {"hidden_act": "relu"},
    "tanh gelu": {"hidden_act": "gelu_new"},
    "silu": {"hidden_act": "silu"},
    "one layer": {"num_hidden_layers": 1},
    "four heads": {"num_attention_heads": 4},
}
DEBERTAS: dict[str, dict[str, Any]] = {
    "token types": {"type_vocab_size": 2},
    "positions in the input": {"position_biased_input": True},
    "no distances": {"relative_attention": False, "pos_att_type": None, "position_biased_input": True},
    "by query alone": {"pos_att_type": ["c2p"]},
    "by key alone": {"pos_att_type": "p2c"},
    "projections of distances": {"share_att_key": False},
    "no buckets": {"position_buckets": -1, "norm_rel_ebd": "none"},
    "narrow embeddings": {"embedding_size": 16},
}


def exported(model: PreTrainedModel, folder: Path) -> onnx.ModelProto:
    """Return `model` as fp32 ONNX."""
    export.pipeline.to_onnx(model.eval(), folder / "model.onnx")  # conftest.py keeps conversions
    return onnx.load(folder / "model.onnx")


def rebuilt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` with its encoder rewritten, channels far from zero and of unequal reach."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    layers = find_layers(graph)
    assert layers
    width = graph.value(layers[0].attention_norm.gamma).size
    seen = Channels(np.linspace(-3, 3, width), np.geomspace(0.01, 40, width))
    rebuild_encoder(graph, layers, {layer.x: seen for layer in layers})
    graph.prune()
    copy.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return copy


def answers(model: onnx.ModelProto, tokens: int = 20) -> np.ndarray:
    """Return the logits of 6 texts of different lengths, padded to `tokens`."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 60, (6, tokens))
    mask = (np.arange(tokens) < rng.integers(1, tokens + 1, (6, 1))).astype(np.int64)
    ids[mask == 0] = 1  # RoBERTa's padding, an ordinary id elsewhere
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return session.run(["logits"], {i.name: feeds[i.name] for i in session.get_inputs()})[0]


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Both give the same logits, padded, in a batch, and for texts of one and of two tokens."""
    for tokens in (20, 2, 1):
        found, expected = answers(other, tokens), answers(one, tokens)
        assert np.ptp(expected) > 0.05
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("architecture", [name for name in architectures.TESTED if name != "modernbert"])
def test_every_post_norm_architecture_answers_as_before(
    architecture: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For every promised architecture with such layers, they are recognized, and the rewriting keeps the logits."""
    checkpoint = architectures.checkpoint(tmp_path_factory, architecture)
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    same(model, rebuilt(model))


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_activations_depths_and_heads_answer_as_before(variant: str, tmp_path: Path) -> None:
    """Other activations, a single layer and other numbers of heads are recognized and keep their logits."""
    folder = architectures.write_checkpoint(tmp_path / "variant", "bert", **VARIANTS[variant])
    model = exported(AutoModelForSequenceClassification.from_pretrained(folder), tmp_path)
    same(model, rebuilt(model))


@pytest.mark.parametrize("variant", DEBERTAS)
def test_other_debertas_answer_as_before(variant: str, tmp_path: Path) -> None:
    """DeBERTa's choices of positions, distances and embeddings are recognized and keep their logits."""
    folder = architectures.write_checkpoint(tmp_path / "variant", "deberta-v2", **DEBERTAS[variant])
    model = exported(AutoModelForSequenceClassification.from_pretrained(folder), tmp_path)
    assert ("token_type_ids" in {i.name for i in model.graph.input}) == (variant == "token types")
    same(model, rebuilt(model))


def test_a_head_that_reads_every_token_gets_every_token(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the head takes the mean over tokens the last layer is not cut, and the logits stay."""

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(32, 32)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.dense(hidden.mean(dim=1)))

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(architectures.checkpoint(tmp_path_factory, "bert"))
    model.bert.pooler = Mean()
    proto = exported(model, tmp_path)
    changed = rebuilt(proto)
    same(proto, changed)
    assert sum(node.op_type == "Transpose" for node in changed.graph.node) == architectures.LAYERS + 2


def test_one_layer_less_of_work_where_the_head_reads_the_first_token(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the last layer all but the keys and values is computed for two tokens of each text, before it for all."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    changed = rebuilt(exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path))
    products = {node.output[0]: node.name for node in changed.graph.node if "/layer/" in node.name}
    changed.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in products)
    session = ort.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.full((3, 9), 7)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    rows = {
        products[name]: len(array) for name, array in zip(products, session.run(list(products), feeds), strict=True)
    }
    few = {name for name, count in rows.items() if count == 3 * 2}
    last = f"/layer/{architectures.LAYERS - 1}/"
    assert few == {name for name in rows if last in name and "/key/" not in name and "/value/" not in name}
    assert {rows[name] for name in rows.keys() - few} == {3 * 9}


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_neurons_with_large_weights_get_copies(
    architecture: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A neuron with far larger weights than the others is computed several times; the logits stay."""
    checkpoint = architectures.checkpoint(tmp_path_factory, architecture)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    name = "ffn_output" if architecture == "albert" else "layer.0.output.dense"
    (outer,) = [layer for path, layer in model.named_modules() if path.endswith(name)]
    outer.weight.data[:, 5] *= 20
    proto = exported(model, tmp_path)
    changed = rebuilt(proto)
    same(proto, changed)
    widths = {tuple(t.dims) for t in changed.graph.initializer if "/shared" in t.name}
    assert (outer.weight.shape[1] + 1, outer.weight.shape[0]) in widths


def test_a_bias_by_position_is_no_mask(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Scores to which more than the mask is added are not recognized, so that nothing is left out of them."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    graph = Graph(model)
    assert len(find_layers(graph)) == architectures.LAYERS
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.input[0] = graph.add("Add", softmax.input[0], graph.weight(np.ones((2, 20, 20), np.float32)))
    assert find_layers(graph) == []
