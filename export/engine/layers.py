"""Recognition of post-norm transformer layers in an exported graph.

It goes by the connections between nodes, not by names. Two assumptions (the scale of the scores, the meaning of the
mask) are checked later: the rebuilt graph must agree with torch on real texts (export/checks/parity.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from export.engine.graph import Graph, attribute

_SCALING = ("Mul", "Div")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Relu", "Sigmoid", "Gelu", "Softplus", "Max", "Min")
_LAYOUT = ("Reshape", "Transpose")
_MOST_NUMBERS = 8  # of a constant that may be a scale, an axis or a shape


@dataclass(frozen=True)
class GraphLinear:
    """A linear layer x · weight + bias. node: its MatMul; weight, [inputs, outputs], and bias: names of constants."""

    node: str
    x: str
    weight: str
    bias: str | None


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

    activation: the nodes between the two feed-forward linears; inner_output: their input.
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


class _NotALayerError(Exception):
    """The nodes around a Softmax do not form a post-norm layer."""


def find_layers(graph: Graph) -> list[Layer]:
    """Return the layers in order; none unless every Softmax of the graph belongs to one chain of them."""
    softmaxes = [node for node in graph.proto.node if node.op_type == "Softmax"]
    try:
        layers = [_layer(graph, node) for node in softmaxes]
    except _NotALayerError:
        return []
    masked = "attention_mask" in {i.name for i in graph.proto.input}
    chained = masked and all(a.output_norm.y == b.x for a, b in itertools.pairwise(layers))
    return layers if chained else []


def _layer(graph: Graph, softmax: NodeProto) -> Layer:
    scores = _product(graph, softmax.input[0])
    query, key = (_linear(graph, name) for name in scores.input)
    context = _reader(graph, softmax.output[0], "MatMul")
    value = _linear(graph, context.input[1])
    _demand(query.x == key.x == value.x)
    merged = _reader(graph, _reader(graph, context.output[0], "Transpose").output[0], "Reshape")
    product = _reader(graph, merged.output[0], "MatMul")
    output = _linear(graph, _biased(graph, product))
    attention_norm = _norm(graph, _biased(graph, product), query.x)
    outer_sum = _residual(graph, attention_norm.y)
    outer = _linear(graph, next(name for name in outer_sum.input if name != attention_norm.y))
    inner_output = _biased(graph, _reader(graph, attention_norm.y, "MatMul"))
    inner = _linear(graph, inner_output)
    activation = _between(graph, inner_output, outer.x)
    output_norm = _norm(graph, next(name for name in outer_sum.input if name != attention_norm.y), attention_norm.y)
    heads = _heads(graph, context.input[1], graph.shape(value.weight)[1])
    return Layer(
        query.x, heads, query, key, value, output, attention_norm, inner, inner_output, activation, outer, output_norm
    )


def _demand(holds: bool) -> None:
    if not holds:
        raise _NotALayerError


def _producer(graph: Graph, tensor: str) -> NodeProto:
    _demand(tensor in graph.producer)
    node: NodeProto = graph.producer[tensor]
    return node


def _reader(graph: Graph, tensor: str, op: str) -> NodeProto:
    """Return the one node of kind `op` that reads `tensor`."""
    found = [node for node in graph.readers(tensor) if node.op_type == op]
    _demand(len(found) == 1)
    return found[0]


def _product(graph: Graph, tensor: str, depth: int = 4) -> NodeProto:
    """Return the product of queries and keys behind the scores, through the mask and the scaling."""
    node = _producer(graph, tensor)
    if node.op_type == "MatMul":
        _demand(not any(graph.is_constant(name) for name in node.input))
        return node
    _demand(depth > 0 and node.op_type in ("Add", "Where", *_SCALING))
    for name in node.input:
        try:
            found = _product(graph, name, depth - 1)
        except _NotALayerError:
            continue
        _demand(all(other == name or _is_mask(graph, other) for other in node.input))
        return found
    raise _NotALayerError


def _is_mask(graph: Graph, tensor: str) -> bool:
    """Return whether `tensor` is computed from the attention mask and small constants alone."""
    seen: set[str] = set()
    stack = [tensor]
    while stack:
        name = stack.pop()
        if name in seen or name == "attention_mask":
            continue
        seen.add(name)
        constant = graph.constant(name)
        if constant is not None:
            if constant.size > _MOST_NUMBERS:
                return False
            continue
        node = graph.producer.get(name)
        if node is None:  # another input of the model
            return False
        if node.op_type != "Shape":
            stack.extend(node.input)
    return True


def _linear(graph: Graph, tensor: str, depth: int = 6) -> GraphLinear:
    """Return the linear layer behind `tensor`, through the split into heads and the scaling."""
    node, bias = _producer(graph, tensor), None
    if node.op_type == "Add":
        biases = [name for name in node.input if graph.is_constant(name)]
        products = [name for name in node.input if not graph.is_constant(name)]
        _demand(len(biases) == len(products) == 1)
        node, bias = _producer(graph, products[0]), biases[0]
        _demand(node.op_type == "MatMul")
    if node.op_type == "MatMul":
        _demand(graph.is_constant(node.input[1]))
        return GraphLinear(node.name, node.input[0], node.input[1], bias)
    _demand(depth > 0 and node.op_type in (*_SCALING, *_LAYOUT))
    for name in node.input:
        try:
            return _linear(graph, name, depth - 1)
        except _NotALayerError:
            continue
    raise _NotALayerError


def _biased(graph: Graph, product: NodeProto) -> str:
    """Return the output of a linear layer, after its bias if it has one."""
    output: str = product.output[0]
    readers = graph.readers(output)
    if len(readers) == 1 and readers[0].op_type == "Add" and any(map(graph.is_constant, readers[0].input)):
        output = readers[0].output[0]
    return output


def _residual(graph: Graph, tensor: str) -> NodeProto:
    """Return the addition that takes `tensor` as the residual."""
    adds = [n for n in graph.readers(tensor) if n.op_type == "Add" and not any(map(graph.is_constant, n.input))]
    _demand(len(adds) == 1)
    return adds[0]


def _norm(graph: Graph, branch: str, residual: str) -> Norm:
    """Return the normalization of branch + residual."""
    total = _reader(graph, branch, "Add")
    _demand(set(total.input) == {branch, residual})
    node = _reader(graph, total.output[0], "LayerNormalization")
    _demand(len(node.input) == 3 and attribute(node, "axis", -1) == -1)
    return Norm(node.input[1], node.input[2], attribute(node, "epsilon", 1e-5), node.output[0])


def _between(graph: Graph, start: str, end: str) -> tuple[NodeProto, ...]:
    """Return the nodes from `start` to `end`, in order; all must be elementwise, with scalar constants."""
    found: dict[str, NodeProto] = {}

    def visit(tensor: str) -> None:
        if tensor == start:
            return
        if graph.is_constant(tensor):
            _demand(np.prod(graph.shape(tensor)) == 1)
            return
        node = _producer(graph, tensor)
        _demand(node.op_type in _ELEMENTWISE and len(node.output) == 1 and len(found) < 32)
        for name in node.input:
            visit(name)
        found[tensor] = node

    visit(end)
    return tuple(found.values())


def _heads(graph: Graph, values: str, width: int) -> int:
    """Return the number of heads, from the Reshape of the values to [batch, tokens, heads, head width]."""
    node = _producer(graph, values)
    while node.op_type == "Transpose":
        node = _producer(graph, node.input[0])
    _demand(node.op_type == "Reshape")
    parts = _producer(graph, node.input[1])
    _demand(parts.op_type == "Concat")
    head_width = graph.constant(parts.input[-1])
    if head_width is None or head_width.size != 1 or int(head_width.item()) <= 0:
        raise _NotALayerError
    return width // int(head_width.item())
