"""Recognition of ModernBERT's layers in an exported graph.

A layer normalizes before its products, turns queries and keys by their position (RoPE), sees all tokens or those in a
window, and multiplies an activation by a gate (GeGLU). As in engine/layers.py, connections decide, and the rebuilt
graph must give the logits of the exported one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from export.engine import walk
from export.engine.graph import Graph, attribute
from export.engine.walk import GraphLinear, NotALayerError

WIDEST_WINDOW = 64  # tokens to each side; the blocks of attention.py hold no wider one


@dataclass(frozen=True)
class PreNorm:
    """A LayerNormalization of the residual stream: its constants (beta: None without), its input x and output y."""

    gamma: str
    beta: str | None
    epsilon: float
    x: str
    y: str


@dataclass(frozen=True)
class PreNormLayer:
    """One layer, from its input x to its output y, both the residual stream.

    attention_norm: None where the products read x itself. joint: query, key and value in one product. frequencies:
    the constant of RoPE's angles per position, [head width / 2]. window: the distance at which tokens still see each
    other; None without a limit. context: the heads' output. activation: the nodes from inner_output (the first half
    of `inner`) on; gated: the product of their result and the second half.
    """

    x: str
    attention_norm: PreNorm | None
    joint: GraphLinear
    heads: int
    frequencies: str
    window: int | None
    context: str
    output: GraphLinear
    inner_norm: PreNorm
    inner: GraphLinear
    inner_output: str
    activation: tuple[NodeProto, ...]
    gated: str
    outer: GraphLinear
    y: str


def find_pre_norm_layers(graph: Graph) -> list[PreNormLayer]:
    """Return the layers in order; none unless every Softmax of the graph belongs to one chain of them."""
    softmaxes = [node for node in graph.proto.node if node.op_type == "Softmax"]
    try:
        layers = [_layer(graph, node) for node in softmaxes]
    except NotALayerError:
        return []
    masked = "attention_mask" in {i.name for i in graph.proto.input}
    chained = masked and all(a.y == b.x for a, b in itertools.pairwise(layers))
    return layers if chained else []


def final_norm(graph: Graph, layers: list[PreNormLayer]) -> PreNorm | None:
    """Return the normalization after the last layer; None where there is none, or something else reads the layer."""
    readers = graph.readers(layers[-1].y)
    alone = len(readers) == 1 and readers[0].op_type == "LayerNormalization"
    return _norm(graph, readers[0].output[0]) if alone else None


def _layer(graph: Graph, softmax: NodeProto) -> PreNormLayer:
    masked = walk.producer(graph, softmax.input[0], "Add")
    scaled = walk.producer(graph, masked.input[0], "Mul")
    scores = walk.producer(graph, scaled.input[0], "MatMul")
    context = walk.reader(graph, softmax.output[0], "MatMul")
    query = walk.producer(graph, scores.input[0], "Add")
    key = walk.producer(graph, walk.producer(graph, scores.input[1], "Transpose").input[0], "Add")
    frequencies = _frequencies(graph, query)
    walk.demand(_frequencies(graph, key) == frequencies)
    turned = [walk.producer(graph, node.input[0], "Mul").input[0] for node in (query, key)]
    parts = [_part(graph, name, i) for i, name in enumerate((*turned, context.input[1]))]
    walk.demand(len({part.input[0] for part in parts}) == 1)
    joint = walk.linear(graph, parts[0].input[0])
    head_width = 2 * graph.shape(frequencies)[0]
    scale = graph.constant(scaled.input[1])
    walk.demand(scale is not None and scale.size == 1 and np.isclose(float(scale), head_width**-0.5))
    merged = walk.reader(graph, walk.reader(graph, context.output[0], "Transpose").output[0], "Reshape").output[0]
    attended = walk.biased(graph, walk.reader(graph, merged, "MatMul"))
    between = walk.reader(graph, attended, "Add")
    x = next(name for name in between.input if name != attended)
    attention_norm = None if joint.x == x else _norm(graph, joint.x)
    walk.demand(attention_norm is None or attention_norm.x == x)
    middle = between.output[0]
    inner_norm = _norm(graph, walk.reader(graph, middle, "LayerNormalization").output[0])
    projected = walk.biased(graph, walk.reader(graph, inner_norm.y, "MatMul"))
    halves = walk.reader(graph, projected, "Split").output
    walk.demand(len(halves) == 2)
    gating = walk.reader(graph, halves[1], "Mul")
    activated = next(name for name in gating.input if name != halves[1])
    gated = gating.output[0]
    result = walk.biased(graph, walk.reader(graph, gated, "MatMul"))
    total = walk.reader(graph, result, "Add")
    walk.demand(set(total.input) == {middle, result})
    return PreNormLayer(
        x=x,
        attention_norm=attention_norm,
        joint=joint,
        heads=graph.shape(joint.weight)[1] // (3 * head_width),
        frequencies=frequencies,
        window=_window(graph, masked.input[1]),
        context=merged,
        output=walk.linear(graph, attended),
        inner_norm=inner_norm,
        inner=walk.linear(graph, projected),
        inner_output=halves[0],
        activation=walk.between(graph, halves[0], activated),
        gated=gated,
        outer=walk.linear(graph, result),
        y=total.output[0],
    )


def _norm(graph: Graph, y: str) -> PreNorm:
    node = walk.producer(graph, y, "LayerNormalization")
    walk.demand(len(node.output) == 1 and attribute(node, "axis", -1) == -1)
    beta = node.input[2] if len(node.input) == 3 else None
    return PreNorm(node.input[1], beta, attribute(node, "epsilon", 1e-5), node.input[0], y)


def _frequencies(graph: Graph, turned: NodeProto) -> str:
    """Return the frequencies of the cosines by which a query or key is `turned`: x · cos + rotated x · sin."""
    cosines = walk.producer(graph, walk.producer(graph, turned.input[0], "Mul").input[1], "Unsqueeze").input[0]
    # A Mul before Unsqueeze would scale the attention (yarn); such graphs stay as they are.
    doubled = walk.producer(graph, walk.producer(graph, cosines, "Cos").input[0], "Concat")
    walk.demand(len(set(doubled.input)) == 1)
    angles = walk.producer(graph, doubled.input[0], "Mul")
    walk.demand(graph.is_constant(angles.input[1]) and len(graph.shape(angles.input[1])) == 1)
    frequencies: str = angles.input[1]
    return frequencies


def _part(graph: Graph, heads: str, place: int) -> NodeProto:
    """Return the Reshape to [texts, tokens, 3, heads, head width], of which `heads` is the part at `place`."""
    squeezed = walk.producer(graph, walk.producer(graph, heads, "Transpose").input[0], "Squeeze")
    cut = walk.producer(graph, squeezed.input[0], "Slice")
    start = graph.constant(cut.input[1])
    walk.demand(start is not None and start.size == 1 and int(start.item()) == place)
    return walk.producer(graph, cut.input[0], "Reshape")


def _window(graph: Graph, mask: str) -> int | None:
    """Return the distance that `mask` allows; None where it has no limit."""
    limits: set[int] = set()
    stack, seen = [mask], set[str]()
    while stack:
        name = stack.pop()
        node = graph.producer.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "LessOrEqual":
            limit = graph.constant(node.input[1])
            walk.demand(limit is not None and limit.size == 1)
            limits.add(int(graph.value(node.input[1]).item()))
        stack.extend(node.input)
    walk.demand(len(limits) < 2 and max(limits, default=0) <= WIDEST_WINDOW)
    return limits.pop() if limits else None
