"""The rewritten encoder is the exported one in fp32: same answers, for every kind of layer that is recognized."""

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

from export.encoder import JOINED, rebuild_encoder
from export.graph import MICROSOFT, Graph
from export.layers import find_layers
from export.onnx_model import to_onnx
from tests import architectures

pytestmark = pytest.mark.slow

QUERY = "/bert/encoder/layer.0/attention/self/query/MatMul"
VARIANTS: dict[str, dict[str, Any]] = {
    "relu": {"hidden_act": "relu"},
    "tanh gelu": {"hidden_act": "gelu_new"},
    "silu": {"hidden_act": "silu"},
    "one layer": {"num_hidden_layers": 1},
    "four heads": {"num_attention_heads": 4},
}


def exported(model: PreTrainedModel, folder: Path) -> onnx.ModelProto:
    """Return `model` as fp32 ONNX."""
    to_onnx(model.eval(), folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def rebuilt(model: onnx.ModelProto, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Return a copy of `model` with its encoder rewritten, channels shifted by what is far from zero."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    layers = find_layers(graph)
    assert layers
    width = graph.value(layers[0].attention_norm.gamma).size
    means = {layer.x: np.linspace(-3, 3, width) for layer in layers}
    rebuild_encoder(graph, layers, means, kept)
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
    """Both answer alike, padded, in a batch, and for texts of one and of two tokens."""
    for tokens in (20, 2, 1):
        found, expected = answers(other, tokens), answers(one, tokens)
        assert np.ptp(expected) > 0.05
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("architecture", architectures.TESTED)
def test_every_promised_architecture_answers_as_before(
    architecture: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For every promised architecture the layers are recognized, and the rewritten graph answers as the exported."""
    checkpoint = architectures.checkpoint(tmp_path_factory, architecture)
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    same(model, rebuilt(model))


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_activations_depths_and_heads_answer_as_before(variant: str, tmp_path: Path) -> None:
    """Other activations, a single layer and other numbers of heads are recognized and answer as before."""
    folder = architectures.write_checkpoint(tmp_path / "variant", "bert", **VARIANTS[variant])
    model = exported(AutoModelForSequenceClassification.from_pretrained(folder), tmp_path)
    same(model, rebuilt(model))


def test_a_head_that_reads_every_token_gets_every_token(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the head takes the mean over tokens the last layer is not cut, and the answers are as before."""

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
    """In the last layer the query is a product of its own, of the first tokens; before it all three are one."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    joined = [len(node.name.split(JOINED)) for node in rebuilt(model).graph.node if "/self/" in node.name]
    assert sorted(joined) == [1, 2, 3]


def test_what_stays_fp32_is_not_joined(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A query that stays fp32 is a product of its own, as are the key and the value beside it."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    changed = rebuilt(model, frozenset({QUERY}))
    names = {node.name for node in changed.graph.node if node.op_type == "MatMul"}
    assert {QUERY, QUERY.replace("query", "key"), QUERY.replace("query", "value")} <= names
    same(model, changed)


def test_a_bias_by_position_is_no_mask(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Scores to which more than the mask is added are not recognized, so that nothing is left out of them."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    model = exported(AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path)
    graph = Graph(model)
    assert len(find_layers(graph)) == architectures.LAYERS
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.input[0] = graph.add("Add", softmax.input[0], graph.weight(np.ones((2, 20, 20), np.float32)))
    assert find_layers(graph) == []
