"""Recognition of post-norm transformer layers in an exported graph.

It goes by the connections between nodes, not by names. Two assumptions (the scale of the scores, the meaning of the
mask) are checked later: the rebuilt graph must agree with torch on real texts (export/checks/parity.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from onnx.onnx_ml_pb2 import NodeProto

from export.engine.graph import Graph, attribute
from export.engine.scores import Relative, find_scores
from export.engine.walk import LAYOUT, GraphLinear, NotALayerError, between, biased, demand, linear, producer, reader


@dataclass(frozen=True)
class Norm:
    """A LayerNormalization: its constants and its output y."""

    gamma: str
    beta: str
    epsilon: float
    y: str


@dataclass(frozen=True)
class Layer:
    """One post-norm transformer layer, from its input x to output_norm.y.

    activation: the nodes between the two feed-forward linears; inner_output: their input. biases, relative: terms of
    the scores by place (scores.py).
    """

    x: str
    heads: int
    query: GraphLinear
    key: GraphLinear
    value: GraphLinear
    output: GraphLinear
    attention_norm: Norm
    inner: GraphLinear
    inner_output: str
    activation: tuple[NodeProto, ...]
    outer: GraphLinear
    output_norm: Norm
    biases: tuple[str, ...]
    relative: tuple[Relative, ...]


def find_layers(graph: Graph) -> list[Layer]:
    """Return the layers in order; none unless every Softmax of the graph belongs to one chain of them."""
    softmaxes = [node for node in graph.proto.node if node.op_type == "Softmax"]
    try:
        layers = [_layer(graph, node) for node in softmaxes]
    except NotALayerError:
        return []
    masked = "attention_mask" in {i.name for i in graph.proto.input}
    chained = masked and all(a.output_norm.y == b.x for a, b in itertools.pairwise(layers))
    return layers if chained else []


def _layer(graph: Graph, softmax: NodeProto) -> Layer:
    scores = find_scores(graph, softmax.input[0])
    context = _beyond_layout(graph, softmax.output[0])
    value = linear(graph, context.input[1])
    demand(scores.query.x == scores.key.x == value.x)
    product = _beyond_layout(graph, context.output[0])
    output = linear(graph, biased(graph, product))
    attention_norm = _norm(graph, biased(graph, product), value.x)
    outer_sum = _residual(graph, attention_norm.y)
    branch = next(name for name in outer_sum.input if name != attention_norm.y)
    outer = linear(graph, branch)
    inner_output = biased(graph, reader(graph, attention_norm.y, "MatMul"))
    return Layer(
        x=value.x,
        heads=_heads(graph, context.input[1], graph.shape(value.weight)[1]),
        query=scores.query,
        key=scores.key,
        value=value,
        output=output,
        attention_norm=attention_norm,
        inner=linear(graph, inner_output),
        inner_output=inner_output,
        activation=between(graph, inner_output, outer.x),
        outer=outer,
        output_norm=_norm(graph, branch, attention_norm.y),
        biases=scores.biases,
        relative=scores.relative,
    )


def _beyond_layout(graph: Graph, tensor: str) -> NodeProto:
    """Return the one MatMul that reads `tensor`, through changes of its layout."""
    readers = graph.readers(tensor)
    demand(len(readers) == 1 and readers[0].op_type in (*LAYOUT, "MatMul"))
    return readers[0] if readers[0].op_type == "MatMul" else _beyond_layout(graph, readers[0].output[0])


def _residual(graph: Graph, tensor: str) -> NodeProto:
    """Return the addition that takes `tensor` as the residual."""
    adds = [n for n in graph.readers(tensor) if n.op_type == "Add" and not any(map(graph.is_constant, n.input))]
    demand(len(adds) == 1)
    return adds[0]


def _norm(graph: Graph, branch: str, residual: str) -> Norm:
    """Return the normalization of branch + residual."""
    total = reader(graph, branch, "Add")
    demand(set(total.input) == {branch, residual})
    node = reader(graph, total.output[0], "LayerNormalization")
    demand(len(node.input) == 3 and attribute(node, "axis", -1) == -1)
    return Norm(node.input[1], node.input[2], attribute(node, "epsilon", 1e-5), node.output[0])


def _heads(graph: Graph, values: str, width: int) -> int:
    """Return the number of heads, from the Reshape of the values to [texts, tokens, heads, head width].

    One of the last two numbers is given, and the other may be -1.
    """
    node = producer(graph, values)
    shape = ""
    while node.op_type in LAYOUT:
        shape = node.input[1] if node.op_type == "Reshape" else shape
        node = producer(graph, node.input[0])
    parts = producer(graph, shape, "Concat").input
    heads, head_width = (_number(graph, name) for name in parts[-2:])
    demand(len(parts) == 4 and (heads > 0 or head_width > 0))
    return heads if heads > 0 else width // head_width


def _number(graph: Graph, tensor: str) -> int:
    value = graph.constant(tensor)
    return -1 if value is None or value.size != 1 else int(value.item())
