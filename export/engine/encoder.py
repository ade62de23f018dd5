"""Rewriting of an exported encoder into fewer and cheaper nodes, by exact algebra in fp32; int8 comes after.

- Activations are [tokens · texts, width], token by token, so attention reads heads in place.
- 1/sqrt(head width) moves into the query's weights. The key's bias goes, because it cancels in the softmax. The value's
  bias moves through the output projection, because softmax rows sum to one.
- Normalizations shift each channel's mean to near zero, so a one-sided channel no longer sets every token's scale
  (Outlier Suppression+, Wei et al., arXiv 2304.09145). Biases undo the shift, so poor means never change the function.
- The input of query, key and value is divided per channel by a power of the channel's reach, and their weights are
  multiplied by it (SmoothQuant, Xiao et al., arXiv 2211.10438). The residual undoes it by a multiplication.
- Feed-forward neurons with outlier weights are split into copies (outliers.py).
- The last bias of the feed-forward branch moves into the normalization before it; the first bias makes up for that.
- Where the head reads only the first token, the last layer computes two tokens per text after its keys and values (one
  alone would take onnxruntime's matrix-vector kernel, which rounds differently).
- The mask is added only where there is padding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import GraphProto, NodeProto

from export.engine.activation import emit_activation
from export.engine.graph import MICROSOFT, Graph, attribute
from export.engine.layers import Layer, Norm
from export.engine.outliers import share, split_rows
from export.engine.places import Places
from export.engine.probe import Channels
from export.engine.walk import GraphLinear

_NEGATIVE = 1e9  # exp(score - 1e9) is 0 in fp32 for any score


@dataclass
class Hints:
    """Facts about tensors of shape [rows, width], by name, for their quantization.

    row_shapes: the name of a tensor that holds [rows, 1]. floors: a bound f where no element is below -f.
    owners: for a weight with copies, the row that each row is a share of.
    """

    row_shapes: dict[str, str] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    owners: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sizes:
    """Names of the tensors that depend on the input's shape and mask.

    texts, tokens: [1]. rows, first_rows: [rows, 1] of all tokens, and of the first two of each text; first_end: that
    count as [1]. mask: float32 [texts, 1, 1, tokens], added to the scores where the bool `padded` is true.
    """

    texts: str
    tokens: str
    rows: str
    first_rows: str
    first_end: str
    mask: str
    padded: str


# Exponent of a channel's reach over the median reach, and the least value of that ratio. At 0.75 the scores of three
# trained models changed least, at 0.5 and 1 nearly as little (docs/log.md).
_EQUALIZED = 0.75
_LEAST_REACH = 0.2


@dataclass(frozen=True)
class _Change:
    """The affine change of a layer's input, from exported to rewritten: (input + shift) / divisor; both [width]."""

    shift: np.ndarray
    divisor: np.ndarray


def rebuild_encoder(graph: Graph, layers: Sequence[Layer], channels: Mapping[str, Channels]) -> Hints:
    """Rewrite the encoder, made of `layers`, in place; return hints on the new tensors.

    channels: statistics of each layer's input, by the tensor's name.
    """
    last = layers[-1].output_norm.y
    reads = graph.readers(last)
    trim = all(node.op_type == "Gather" and _takes_first(graph, node) for node in reads)
    sizes = _sizes(graph)
    block = _Block(graph, sizes, Hints(), Places(graph, sizes.texts, sizes.tokens))
    width = graph.value(layers[0].attention_norm.gamma).size
    x = graph.add("Reshape", graph.add("Transpose", layers[0].x, perm=[1, 0, 2]), _ints(graph, -1, width))
    changes = _changes(layers, channels, width)
    for layer, change, after in zip(layers, changes[:-1], changes[1:], strict=True):
        x = block.emit(layer, x, change, after, trim=trim and layer is layers[-1])
    if trim:
        first = graph.add("Slice", x, _ints(graph, 0), block.sizes.texts, _ints(graph, 0))
        for node in reads:
            graph.replace(node.output[0], first)
    else:
        shape = graph.add("Concat", _ints(graph, -1), block.sizes.texts, _ints(graph, width), axis=0)
        graph.replace(last, graph.add("Transpose", graph.add("Reshape", x, shape), perm=[1, 0, 2]))
    return block.hints


def _changes(layers: Sequence[Layer], channels: Mapping[str, Channels], width: int) -> list[_Change]:
    """Return the change of each layer's input and of the last output.

    The first input, which no layer normalizes, and the last output do not change. Weights that several layers share
    (ALBERT's) are not multiplied, because each layer would need its own.
    """
    none = _Change(np.zeros(width), np.ones(width))
    uses = Counter(linear.weight for layer in layers for linear in (layer.query, layer.key, layer.value))
    changes = [none]
    for layer in layers[1:]:
        seen = channels[layer.x]
        shared = any(uses[linear.weight] > 1 for linear in (layer.query, layer.key, layer.value))
        changes.append(_Change(-seen.mean, none.divisor if shared else divisor(seen.reach)))
    return [*changes, none]


def divisor(reach: np.ndarray) -> np.ndarray:
    """Return what to divide each channel by, from its reach: a power of it over the median reach."""
    middle = np.median(reach)
    if not (np.isfinite(reach).all() and middle > 0):
        return np.ones_like(reach)
    divisor: np.ndarray = np.maximum(reach / middle, _LEAST_REACH) ** _EQUALIZED
    return divisor


def _takes_first(graph: Graph, node: NodeProto) -> bool:
    index = graph.constant(node.input[1])
    return attribute(node, "axis", 0) == 1 and index is not None and index.ndim == 0 and int(index) == 0


@dataclass
class _Block:
    """The emitter of rewritten layers into `graph`."""

    graph: Graph
    sizes: _Sizes
    hints: Hints
    places: Places
    shapes: dict[tuple[int, int], str] = field(default_factory=dict)

    def emit(self, layer: Layer, x: str, change: _Change, after: _Change, *, trim: bool) -> str:
        """Emit `layer` on `x` with its `change`; return the output, changed by `after`.

        trim: compute only the first two tokens of each text.
        """
        graph = self.graph
        self.hints.row_shapes[x] = self.sizes.rows
        context, residual, rows = self._attention(layer, x, change, trim=trim)
        self.hints.row_shapes[context] = rows
        if (change.divisor != 1).any():
            residual = graph.add("Mul", residual, graph.weight(_row(change.divisor)))
        value_bias = _bias(graph, layer.value) - change.shift @ graph.value(layer.value.weight)
        bias = value_bias @ graph.value(layer.output.weight) + _bias(graph, layer.output) - change.shift
        projected = graph.add("MatMul", context, layer.output.weight, name=layer.output.node)
        attended = graph.add("Add", projected, graph.weight(_row(bias)))
        total = graph.add("Add", attended, residual)
        # The residual carries the bias of the feed-forward branch from here on.
        outer_bias = _bias(graph, layer.outer)
        x = self._norm(total, layer.attention_norm, _Change(outer_bias, np.ones_like(outer_bias)))
        self.hints.row_shapes[x] = rows
        inner = self._feed_forward(layer, x, outer_bias)
        self.hints.row_shapes[inner] = rows
        total = graph.add("Add", graph.add("MatMul", inner, self._shared(layer), name=layer.outer.node), x)
        return self._norm(total, layer.output_norm, after)

    def _attention(self, layer: Layer, x: str, change: _Change, *, trim: bool) -> tuple[str, str, str]:
        """Return the heads' output, [rows, width], its residual, and the tensor that holds their [rows, 1]."""
        graph = self.graph
        # DeBERTa divides the sum of its products by the root of their number, too.
        scale = 1 / np.sqrt(graph.shape(layer.query.weight)[1] / layer.heads * (1 + len(layer.relative)))
        bias = (_bias(graph, layer.query) - change.shift @ graph.value(layer.query.weight)) * scale
        residual, rows = x, self.sizes.rows
        if trim:
            rows = self.sizes.first_rows
            residual = graph.add("Slice", x, _ints(graph, 0), self.sizes.first_end, _ints(graph, 0))
            self.hints.row_shapes[residual] = rows
        query = self._heads(residual, layer.query, layer.heads, change.divisor * scale)
        key = self._heads(x, layer.key, layer.heads, change.divisor)
        value = self._heads(x, layer.value, layer.heads, change.divisor)
        query = graph.add("Add", query, graph.weight(bias.reshape(layer.heads, -1).astype(np.float32)))
        if any(term.by_key for term in layer.relative):
            # Only beside these does the key's bias not cancel.
            key_bias = _bias(graph, layer.key) - change.shift @ graph.value(layer.key.weight)
            key = graph.add("Add", key, graph.weight(key_bias.reshape(layer.heads, -1).astype(np.float32)))
        scores = graph.add("FusedMatMul", query, key, domain=MICROSOFT, transBatchA=1, transBatchB=1, transB=1)
        for bias_by_place in layer.biases:
            rows_of = self.places.first_rows(bias_by_place) if trim else bias_by_place
            scores = graph.add("Add", scores, rows_of)
        for term in layer.relative:
            scores = graph.add(
                "Add", scores, self.places.product(term, key if term.by_key else query, scale, trim=trim)
            )
        shares = self._softmax(scores)
        context = graph.add("FusedMatMul", shares, value, domain=MICROSOFT, transBatchB=1)
        width = graph.value(layer.value.weight).shape[1]
        context = graph.add("Reshape", graph.add("Transpose", context, perm=[2, 0, 1, 3]), _ints(graph, -1, width))
        return context, residual, rows

    def _heads(self, x: str, linear: GraphLinear, heads: int, factor: np.ndarray) -> str:
        """Return x·(weight · factor), split into heads: [tokens, texts, heads, head width].

        Query, key and value are three products: one and a Split would copy as much as it saves in calls.
        """
        graph = self.graph
        weight = linear.weight
        if (factor != 1).any():
            # The name depends on weight and factor alone, so layers that share weights go on sharing them.
            weight = f"{linear.weight}*{factor[0]:g}" if np.ptp(factor) == 0 else f"{linear.node}/weight*channels"
            graph.weight((graph.value(linear.weight) * factor[:, np.newaxis]).astype(np.float32), weight)
        product = graph.add("MatMul", x, weight, name=linear.node)
        split = (heads, graph.shape(weight)[1] // heads)
        if split not in self.shapes:
            self.shapes[split] = graph.add("Concat", _ints(graph, -1), self.sizes.texts, _ints(graph, *split), axis=0)
        return graph.add("Reshape", product, self.shapes[split])

    def _feed_forward(self, layer: Layer, x: str, shift: np.ndarray) -> str:
        """Return the activations of the neurons and their copies on x, which includes `shift`."""
        graph = self.graph
        weight = graph.value(layer.inner.weight)
        owners = self.hints.owners[self._shared(layer)]
        name = f"{layer.inner.weight}/copies of {layer.outer.weight}"
        widened = graph.weight(weight[:, owners].astype(np.float32), name)
        bias = _bias(graph, layer.inner) - shift @ weight
        product = graph.add("MatMul", x, widened, name=layer.inner.node)
        x = graph.add("Add", product, graph.weight(_row(bias[owners])))
        y, floor = emit_activation(graph, layer.activation, layer.inner_output, x)
        if floor is not None:
            self.hints.floors[y] = floor
        return y

    def _shared(self, layer: Layer) -> str:
        """Return the last weights of the feed-forward branch, shared out between neurons and their copies."""
        name = f"{layer.outer.weight}/shared"
        if name not in self.hints.owners:
            weight = self.graph.value(layer.outer.weight)
            self.hints.owners[name] = split_rows(weight)
            self.graph.weight(share(weight, self.hints.owners[name]).astype(np.float32), name)
        return name

    def _softmax(self, scores: str) -> str:
        """Return the softmax of `scores`, masked where there is padding."""
        self.graph.serial += 1
        masked, with_mask, without = (f"inferer.softmax_{self.graph.serial}.{i}" for i in range(3))

        def branch(name: str, y: str, *nodes: NodeProto) -> GraphProto:
            return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)])

        add = helper.make_node("Add", [scores, self.sizes.mask], [masked])
        then = branch("masked", with_mask, add, helper.make_node("Softmax", [masked], [with_mask], axis=-1))
        plain = branch("plain", without, helper.make_node("Softmax", [scores], [without], axis=-1))
        return self.graph.add("If", self.sizes.padded, then_branch=then, else_branch=plain)

    def _norm(self, x: str, norm: Norm, change: _Change) -> str:
        """Normalize x and apply `change`."""
        graph = self.graph
        beta = graph.weight(((graph.value(norm.beta) + change.shift) / change.divisor).astype(np.float32))
        gamma = norm.gamma
        if (change.divisor != 1).any():
            gamma = graph.weight((graph.value(norm.gamma) / change.divisor).astype(np.float32))
        return graph.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=norm.epsilon)


def _sizes(graph: Graph) -> _Sizes:
    shape = graph.add("Shape", "attention_mask")
    zero, one, two = (_ints(graph, i) for i in range(3))
    texts = graph.add("Slice", shape, zero, one)
    tokens = graph.add("Slice", shape, one, two)
    first_end = graph.add("Mul", texts, graph.add("Min", tokens, two))
    mask = graph.add("Sub", graph.add("Cast", "attention_mask", to=TensorProto.FLOAT), _float(graph, 1))
    padded = graph.add("Cast", graph.add("ReduceMin", "attention_mask", keepdims=0), to=TensorProto.BOOL)
    return _Sizes(
        texts=texts,
        tokens=tokens,
        rows=graph.add("Concat", graph.add("Mul", texts, tokens), one, axis=0),
        first_rows=graph.add("Concat", first_end, one, axis=0),
        first_end=first_end,
        mask=graph.add("Unsqueeze", graph.add("Mul", mask, _float(graph, _NEGATIVE)), _ints(graph, 1, 2)),
        padded=graph.add("Not", padded),
    )


def _bias(graph: Graph, linear: GraphLinear) -> np.ndarray:
    if linear.bias is None:
        return np.zeros(graph.value(linear.weight).shape[1])
    return graph.value(linear.bias)


def _row(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float32)[np.newaxis, :]


def _ints(graph: Graph, *values: int) -> str:
    return graph.weight(np.array(values, np.int64), f"inferer.{list(values)}")


def _float(graph: Graph, value: float) -> str:
    return graph.weight(np.array(value, np.float32), f"inferer.{value!r}")
