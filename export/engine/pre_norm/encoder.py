"""Rewriting of pre-norm encoders (ModernBERT) into fewer and cheaper nodes, by exact algebra in fp32.

- Activations are [tokens, texts, width], token by token, so attention reads heads in place (attention.py).
- Query, key and value are products of their own, so attention reads each without a copy. The neurons and their gates
  are one product, cut in two: a second product takes longer than the copies (docs/log.md).
- 1/sqrt(head width) moves into the query's weights, the value's bias through the output projection.
- Every linear layer's input is divided per channel by a power of the channel's reach, its weights are multiplied by it
  (SmoothQuant, Xiao et al., arXiv 2211.10438). The division is in what comes before: the normalization's gamma, the
  value's columns, the columns of the gate. The residual stream, with the outliers that trained models have, is fp32.
- Where the head reads only the first token, the last layer computes two tokens per text after its keys and values.
- The mean over a text's tokens, where the head takes it, adds up in their order, so padding changes no bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from export.engine.activation import emit_activation
from export.engine.encoder import Hints, divisor
from export.engine.graph import Graph, attribute
from export.engine.outliers import share, split_rows
from export.engine.pre_norm.attention import Attention, Rotary, ints, sizes
from export.engine.pre_norm.layers import PreNorm, PreNormLayer, final_norm
from export.engine.probe import Channels
from export.engine.walk import GraphLinear

# Texts for a second check of the logits: long enough for every way of attention.py.
LONG_TEXTS, LONG_TOKENS = 2, 600


@dataclass
class _Stream:
    """The residual stream: x, and the branch still to be added to it."""

    x: str
    branch: str | None = None


def tensors_to_probe(layers: Sequence[PreNormLayer]) -> list[str]:
    """Return the inputs of the layers' products."""
    return [name for layer in layers for name in (layer.joint.x, layer.context, layer.inner_norm.y, layer.gated)]


def rebuild_pre_norm(graph: Graph, layers: Sequence[PreNormLayer], channels: Mapping[str, Channels]) -> Hints:
    """Rewrite the encoder, made of `layers`, in place; return hints on the new tensors.

    channels: statistics of the tensors to probe.
    """
    emitter = _Emitter(graph)
    norm = final_norm(graph, list(layers))
    pooling = None if norm is None else _pooling(graph, norm.y)
    trim = pooling is not None and pooling.op_type == "Gather"
    stream = _Stream(graph.add("Transpose", layers[0].x, perm=[1, 0, 2]))
    for layer in layers:
        emitter.emit(layer, stream, channels, trim=trim and layer is layers[-1])
    if norm is None or pooling is None:
        x = emitter.settle(stream) if norm is None else emitter.normalize(stream, norm)
        graph.replace(layers[-1].y if norm is None else norm.y, graph.add("Transpose", x, perm=[1, 0, 2]))
        return emitter.hints
    x = emitter.normalize(stream, norm)
    if trim:
        pooled = graph.add("Gather", x, pooling.input[1], axis=0)
    else:
        # onnxruntime adds rows up one after the other where the first axis goes.
        real = graph.add("Transpose", _mask_of(graph, norm.y), perm=[1, 0, 2])
        pooled = graph.add("ReduceSum", graph.add("Mul", x, real), ints(graph, 0), keepdims=0)
    graph.replace(pooling.output[0], pooled)
    return emitter.hints


def _pooling(graph: Graph, last: str) -> NodeProto | None:
    """Return the node that pools the tokens: Gather of the first, or ReduceSum over those that the mask leaves."""
    readers = graph.readers(last)
    if len(readers) != 1:
        return None
    node = readers[0]
    if node.op_type == "Gather":
        index = graph.constant(node.input[1])
        first = attribute(node, "axis", 0) == 1 and index is not None and index.ndim == 0 and int(index) == 0
        return node if first else None
    after = graph.readers(node.output[0])
    if (
        node.op_type != "Mul"
        or len(after) != 1
        or after[0].op_type != "ReduceSum"
        or attribute(after[0], "keepdims", 1)
    ):
        return None
    axes = graph.constant(after[0].input[1]) if len(after[0].input) == 2 else None
    return after[0] if axes is not None and axes.tolist() == [1] else None


def _mask_of(graph: Graph, last: str) -> str:
    """Return the other factor of the product that reads `last`: the mask, [texts, tokens, 1]."""
    factors = graph.readers(last)[0].input
    return str(next(name for name in factors if name != last))


class _Emitter:
    """The emitter of rewritten layers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sizes = sizes(graph)
        self.hints = Hints()
        self._rotary = Rotary(graph, self.sizes)
        self._attend = Attention(graph, self.sizes)
        self._shapes: dict[tuple[int, ...], str] = {}

    def emit(self, layer: PreNormLayer, stream: _Stream, channels: Mapping[str, Channels], *, trim: bool) -> None:
        """Emit `layer` on `stream`. trim: compute only the first two tokens of each text."""
        graph = self.graph
        rows = self.sizes.first_rows if trim else self.sizes.rows
        factors = {name: _factor(channels[name]) for name in tensors_to_probe([layer])}
        context = self._attention(layer, stream, factors, trim=trim)
        self.hints.row_shapes[context] = rows
        output = graph.value(layer.output.weight)
        width = len(output)
        bias = _bias(graph, layer.output) + _bias(graph, layer.joint)[2 * width :] @ output
        stream.branch = self._product(context, layer.output, _rows(output, factors[layer.context]), bias)
        x = self.normalize(stream, layer.inner_norm, factors[layer.inner_norm.y])
        self.hints.row_shapes[x] = rows
        gated, outer = self._gated(layer, x, factors)
        self.hints.row_shapes[gated] = rows
        stream.branch = self._product(gated, layer.outer, outer, _bias(graph, layer.outer))

    def _attention(self, layer: PreNormLayer, stream: _Stream, factors: Mapping[str, np.ndarray], *, trim: bool) -> str:
        """Return the heads' output, [tokens, texts, width]; trim `stream` too."""
        graph = self.graph
        factor = factors[layer.joint.x]
        if layer.attention_norm is not None:
            x = self.normalize(stream, layer.attention_norm, factor)
        else:
            x = graph.add("Mul", self.settle(stream), graph.weight((1 / factor).astype(np.float32)))
        self.hints.row_shapes[x] = self.sizes.rows
        some, positions = x, self._rotary.all
        if trim:
            some, stream.x = (
                graph.add("Slice", whole, ints(graph, 0), self.sizes.first, ints(graph, 0)) for whole in (x, stream.x)
            )
            self.hints.row_shapes[some] = self.sizes.first_rows
            positions = self._rotary.first
        weights = np.split(_rows(graph.value(layer.joint.weight), factor), 3, axis=1)
        biases = np.split(_bias(graph, layer.joint), 3)
        width = len(biases[0])
        scale = 1 / np.sqrt(width / layer.heads)
        query = self._product(some, layer.joint, weights[0] * scale, biases[0] * scale, "query")
        key = self._product(x, layer.joint, weights[1], biases[1], "key")
        value = self._product(x, layer.joint, weights[2] / factors[layer.context], np.zeros(width), "value")
        query = self._rotary(query, layer.heads, layer.frequencies, positions)
        key = self._rotary(key, layer.heads, layer.frequencies, self._rotary.all)
        split = self._shape(layer.heads, width // layer.heads)
        query, key, value = (graph.add("Reshape", part, split) for part in (query, key, value))
        return self._attend(query, key, value, layer.window, self._shape(width), trim=trim)

    def _gated(self, layer: PreNormLayer, x: str, factors: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
        """Return the gated neurons on x, with copies of those with outlier weights, and the weights that follow."""
        graph = self.graph
        factor = factors[layer.gated]
        outer = _rows(graph.value(layer.outer.weight), factor)
        owners = split_rows(outer)
        weight = _rows(graph.value(layer.inner.weight), factors[layer.inner_norm.y])
        activated, gate = (half[:, owners] for half in np.split(weight, 2, axis=1))
        biases = [half[owners] for half in np.split(_bias(graph, layer.inner), 2)]
        scaled = factor[owners]
        weight, bias = np.hstack([activated, gate / scaled]), np.hstack([biases[0], biases[1] / scaled])
        y, gates = graph.halve(self._product(x, layer.inner, weight, bias))
        y, _ = emit_activation(graph, layer.activation, layer.inner_output, y)
        gated = graph.add("Mul", y, gates)
        self.hints.owners[_weight_name(layer.outer)] = owners
        return gated, share(outer, owners)

    def _product(self, x: str, linear: GraphLinear, weight: np.ndarray, bias: np.ndarray, part: str = "") -> str:
        graph = self.graph
        name = f"{linear.node}_{part}" if part else linear.node
        y = graph.add("MatMul", x, graph.weight(weight.astype(np.float32), _weight_name(linear, part)), name=name)
        return graph.add("Add", y, graph.weight(bias.astype(np.float32))) if bias.any() else y

    def normalize(self, stream: _Stream, norm: PreNorm, factor: np.ndarray | None = None) -> str:
        """Add the stream's branch; return the normalized stream, divided per channel by `factor`."""
        graph = self.graph
        names = [name for name in (norm.gamma, norm.beta) if name is not None]
        if factor is not None:
            names = [graph.weight((graph.value(name) / factor).astype(np.float32)) for name in names]
        # Not SkipLayerNormalization: its kernel takes 5 to 7 times as long as LayerNormalization.
        return graph.add("LayerNormalization", self.settle(stream), *names, axis=-1, epsilon=norm.epsilon)

    def settle(self, stream: _Stream) -> str:
        """Add the stream's branch; return the stream."""
        if stream.branch is not None:
            stream.x, stream.branch = self.graph.add("Add", stream.x, stream.branch), None
        return stream.x

    def _shape(self, *widths: int) -> str:
        """Return the shape [tokens, texts, *widths]."""
        if widths not in self._shapes:
            graph = self.graph
            last = ints(graph, *widths)
            self._shapes[widths] = graph.add("Concat", ints(graph, -1), self.sizes.texts, last, axis=0)
        return self._shapes[widths]


def _factor(seen: Channels) -> np.ndarray:
    return divisor(np.abs(seen.mean) + seen.reach)


def _rows(weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return np.asarray(weight * factor[:, np.newaxis])


def _weight_name(linear: GraphLinear, part: str = "") -> str:
    return f"{linear.node}/{part or 'whole'} weight"


def _bias(graph: Graph, linear: GraphLinear) -> np.ndarray:
    if linear.bias is None:
        return np.zeros(graph.shape(linear.weight)[1])
    return graph.value(linear.bias)
