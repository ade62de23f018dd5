"""Calls of the operators that inferer/native computes in one pass, in place of the nodes around int8 products.

Each operator is a function of the model with a body of the very nodes that it replaces. onnxruntime runs the native
kernel where the library is registered, and elsewhere puts the body in place of the call: the graph of before.

- QuantizeRows: a row's scale, and the row in steps of it;
- GeluQuantize: a product times its rows' scales, plus a bias, through GELU, quantized;
- GegluQuantize: neurons and gates times their rows' scales, GELU of the neurons times the gates, quantized;
- NormQuantize: a product times its rows' scales plus a residual, normalized, and quantized beside; …Bias: plus a bias;
  …Scaled: with a factor per channel of the residual, too;
- AddNormQuantize: a product times its rows' scales plus a residual, and beside it that sum normalized and quantized;
- AttentionQuantize: products of query, key and value to the quantized output of the heads.

`zeros` holds the zero point of each row, which opset 21 wants as a tensor; it is made once per run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, TensorProto, helper
from onnx.onnx_ml_pb2 import FunctionProto, ModelProto, NodeProto, OperatorSetIdProto

from export.engine.encoder import Hints
from export.engine.graph import MICROSOFT, Graph, attribute
from inferer.native import METADATA

DOMAIN = "inferer"
VERSION = 1
_LARGEST = 127
_ATTENTION: dict[str, Any] = {"transBatchA": 1, "transBatchB": 1, "transB": 1}

_node = helper.make_node


def fuse(model: ModelProto, graph: Graph, hints: Hints) -> None:
    """Replace what the operators can compute by calls of them, and add their functions to `model`.

    hints: of the rewritten encoder, to which the calls are limited.
    """
    for node in list(graph.proto.node):
        if node.op_type == "QuantizeLinear" and node.input[0] in hints.row_shapes:
            _fuse(graph, node)
    called = {node.op_type for node in graph.proto.node if node.domain == DOMAIN}
    if called:
        opsets = list(model.opset_import)
        model.functions.extend(_function(name, opsets) for name in sorted(called))
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        model.metadata_props.add(key=METADATA, value=str(VERSION))


def _fuse(graph: Graph, node: NodeProto) -> None:
    x, scale, zeros = node.input
    width = attribute(node, "block_size")
    steps = _steps(graph, scale)
    producer = graph.producer.get(x)
    kind = "" if producer is None else producer.op_type
    if producer is not None and kind == "Gelu" and (found := _gelu(graph, producer, scale)):
        inputs, least = found
        numbers = {"least": least, "point": 255 - steps, "step": float(np.float32(1 / steps))}
        outputs = _call(graph, "GeluQuantize", [*inputs, zeros], 2, width=width, **numbers)
    elif steps != _LARGEST:
        return
    elif producer is not None and kind == "Mul" and (parts := _geglu(graph, producer)):
        outputs = _call(graph, "GegluQuantize", [*parts, zeros], 2, width=width)
    elif producer is not None and kind == "LayerNormalization" and (parts := _pre_norm(graph, producer)):
        epsilon = attribute(producer, "epsilon")
        total, *outputs = _call(graph, "AddNormQuantize", [*parts, zeros], 3, width=width, epsilon=epsilon)
        graph.replace(producer.input[0], total)
    elif producer is not None and kind == "LayerNormalization" and (norm := _norm(graph, producer)):
        name, inputs, rest = norm
        epsilon = attribute(producer, "epsilon")
        y, *outputs = _call(graph, name, [*inputs, zeros, *rest], 3, width=width, epsilon=epsilon)
        graph.replace(x, y)
    elif producer is not None and kind == "Reshape" and (attention := _attention(graph, producer)):
        inputs, rest, heads = attention
        outputs = _call(
            graph, "AttentionQuantize", [*inputs, zeros, *rest], 2, heads=heads, width=width, flat=[-1, width]
        )
    else:
        outputs = _call(graph, "QuantizeRows", [x, zeros], 2, width=width)
    for old, new in zip((node.output[0], scale), outputs, strict=True):
        graph.replace(old, new)


def _call(graph: Graph, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
    graph.serial += 1
    name = f"inferer/{op}_{graph.serial}"
    names = [f"{name}:{i}" for i in range(outputs)]
    graph.append([_node(op, inputs, names, name=name, domain=DOMAIN, **attributes)])
    return names


def _producer(graph: Graph, tensor: str, op: str) -> NodeProto | None:
    node = graph.producer.get(tensor)
    return node if node is not None and node.op_type == op else None


def _steps(graph: Graph, scale: str) -> int:
    """Return the steps of a scale made by token_wise.py, largest · 1/steps; 0 for other ones."""
    node = _producer(graph, scale, "Mul")
    step = None if node is None else graph.constant(node.input[1])
    return 0 if step is None or step.size != 1 else round(1 / step.item())


def _product(graph: Graph, tensor: str) -> list[str] | None:
    """Return the int8 product and its rows' scales behind their product `tensor`."""
    node = _producer(graph, tensor, "Mul")
    if node is None or _producer(graph, node.input[0], "MatMulIntegerToFloat") is None:
        return None
    return list(node.input)


def _gelu(graph: Graph, node: NodeProto, scale: str) -> tuple[list[str], float] | None:
    """Return product, scales and bias of a GELU, and the least largest value of its scale."""
    add = _producer(graph, node.input[0], "Add")
    most = _producer(graph, graph.producer[scale].input[0], "Max")
    if add is None or most is None or not graph.is_constant(add.input[1]):
        return None
    parts = _product(graph, add.input[0])
    return None if parts is None else ([*parts, add.input[1]], graph.value(most.input[1]).item())


def _geglu(graph: Graph, node: NodeProto) -> list[str] | None:
    """Return product and scales of neurons and gates, for the product of GELU and gates."""
    activated = _producer(graph, node.input[0], "Gelu")
    halves = _producer(graph, node.input[1], "Split")
    if activated is None or halves is None or [activated.input[0], node.input[1]] != list(halves.output):
        return None
    return _product(graph, halves.input[0])


def _pre_norm(graph: Graph, node: NodeProto) -> list[str] | None:
    """Return product, scales, residual and gamma of a normalization without beta that no Slice of queries reads."""
    total = _producer(graph, node.input[0], "Add")
    is_sliced = any(reader.op_type == "Slice" for reader in graph.readers(node.output[0]))
    if total is None or len(node.input) != 2 or is_sliced:
        return None
    residual, branch = total.input
    parts = _product(graph, branch)
    return None if parts is None else [*parts, residual, node.input[1]]


def _norm(graph: Graph, node: NodeProto) -> tuple[str, list[str], list[str]] | None:
    """Return the operator for a normalization of a sum, its inputs before the zero points, and those after."""
    total = _producer(graph, node.input[0], "Add")
    if total is None or len(graph.readers(node.input[0])) > 1:
        return None
    branch, residual = total.input
    gamma_beta = list(node.input[1:])
    if parts := _product(graph, branch):
        return "NormQuantize", [*parts, residual, *gamma_beta], []
    add = _producer(graph, branch, "Add")
    if add is None or not graph.is_constant(add.input[1]):
        return None
    parts = _product(graph, add.input[0])
    if parts is None:
        return None
    factor = _producer(graph, residual, "Mul")
    if factor is not None and graph.is_constant(factor.input[1]) and len(graph.readers(residual)) == 1:
        return "NormQuantizeScaled", [*parts, factor.input[0], *gamma_beta], [add.input[1], factor.input[1]]
    return "NormQuantizeBias", [*parts, residual, *gamma_beta], [add.input[1]]


def _attention(graph: Graph, flat: NodeProto) -> tuple[list[str], list[str], int] | None:
    """Return the inputs of the attention that ends in the Reshape `flat`, and its heads; None for other kinds."""
    transposed = _producer(graph, flat.input[0], "Transpose")
    mixed = None if transposed is None else _producer(graph, transposed.input[0], "FusedMatMul")
    shares = None if mixed is None else _producer(graph, mixed.input[0], "If")
    if mixed is None or shares is None:
        return None
    inner = [node for branch in ("then_branch", "else_branch") for node in attribute(shares, branch).node]
    if [node.op_type for node in inner] != ["Add", "Softmax", "Softmax"] or inner[0].input[0] != inner[2].input[0]:
        return None
    scores, mask = inner[0].input
    product = _producer(graph, scores, "FusedMatMul")
    if product is None or {a.name: a.i for a in product.attribute} != _ATTENTION:
        return None
    shifted = _producer(graph, product.input[0], "Add")
    if shifted is None or len(graph.shape(shifted.input[1])) != 2:
        return None
    heads = [_producer(graph, name, "Reshape") for name in (shifted.input[0], product.input[1], mixed.input[1])]
    parts = [None if node is None else _product(graph, node.input[0]) for node in heads]
    query, key, value = parts
    if query is None or key is None or value is None or key[1] != value[1] or heads[0] is None:
        return None
    inputs = [*query, key[0], *value, shifted.input[1], "attention_mask"]
    return inputs, [mask, shares.input[0], heads[0].input[1]], graph.shape(shifted.input[1])[0]


def _referring(node: NodeProto, name: str, outer: str, kind: AttributeProto.AttributeType) -> NodeProto:
    """Let `node` take its attribute `name` from the function's attribute `outer`."""
    node.attribute.add(name=name, ref_attr_name=outer, type=kind)
    return node


def _number(name: str, output: str, *, ints: bool = False) -> NodeProto:
    kind = ("value_ints", name, AttributeProto.INTS) if ints else ("value_float", name, AttributeProto.FLOAT)
    return _referring(_node("Constant", [], [output]), *kind)


def _quantized(x: str) -> list[NodeProto]:
    """Return the nodes from x to `quantized`, by `scale` and the zero points `zeros`."""
    linear = _node("QuantizeLinear", [x, "scale", "zeros"], ["quantized"], axis=-1)
    return [_referring(linear, "block_size", "width", AttributeProto.INT)]


def _rows(x: str) -> list[NodeProto]:
    return [
        _node("Abs", [x], ["magnitudes"]),
        _node("Constant", [], ["last_axis"], value_ints=[-1]),
        _node("ReduceMax", ["magnitudes", "last_axis"], ["largest"], keepdims=1),
        _node("Constant", [], ["step"], value_float=float(np.float32(1 / _LARGEST))),
        _node("Mul", ["largest", "step"], ["scale"]),
        *_quantized(x),
    ]


def _gelu_body() -> list[NodeProto]:
    return [
        _node("Mul", ["product", "scales"], ["scaled"]),
        _node("Add", ["scaled", "bias"], ["shifted"]),
        _node("Gelu", ["shifted"], ["y"], domain=MICROSOFT),
        _node("Constant", [], ["last_axis"], value_ints=[-1]),
        _node("ReduceMax", ["y", "last_axis"], ["largest_of_row"], keepdims=1),
        _number("least", "least_of_all"),
        _node("Max", ["largest_of_row", "least_of_all"], ["largest"]),
        _number("step", "one_step"),
        _node("Mul", ["largest", "one_step"], ["scale"]),
        *_quantized("y"),
    ]


def _norm_body(*, bias: bool, factor: bool) -> list[NodeProto]:
    nodes = [_node("Mul", ["product", "scales"], ["scaled"])]
    branch, skipped = "scaled", "residual"
    if bias:
        nodes.append(_node("Add", ["scaled", "bias"], ["shifted"]))
        branch = "shifted"
    if factor:
        nodes.append(_node("Mul", ["residual", "factor"], ["multiplied"]))
        skipped = "multiplied"
    norm = _node("LayerNormalization", ["total", "gamma", "beta"], ["y"], axis=-1)
    return [
        *nodes,
        _node("Add", [branch, skipped], ["total"]),
        _referring(norm, "epsilon", "epsilon", AttributeProto.FLOAT),
        *_rows("y"),
    ]


def _geglu_body() -> list[NodeProto]:
    return [
        _node("Mul", ["product", "scales"], ["scaled"]),
        _node("Split", ["scaled"], ["neurons", "gates"], axis=-1, num_outputs=2),
        _node("Gelu", ["neurons"], ["active"], domain=MICROSOFT),
        _node("Mul", ["active", "gates"], ["y"]),
        *_rows("y"),
    ]


def _add_norm_body() -> list[NodeProto]:
    norm = _node("LayerNormalization", ["total", "gamma"], ["y"], axis=-1)
    return [
        _node("Mul", ["product", "scales"], ["scaled"]),
        _node("Add", ["residual", "scaled"], ["total"]),
        _referring(norm, "epsilon", "epsilon", AttributeProto.FLOAT),
        *_rows("y"),
    ]


def _attention_body() -> list[NodeProto]:
    def branch(name: str, *nodes: NodeProto) -> object:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    masked = [_node("Add", ["scores", "mask"], ["hidden"]), _node("Softmax", ["hidden"], ["masked"], axis=-1)]
    plain = _node("Softmax", ["scores"], ["plain"], axis=-1)
    return [
        *(
            node
            for name, scales in (("query", "query_scales"), ("key", "scales"), ("value", "scales"))
            for node in (
                _node("Mul", [name, scales], [f"{name}_scaled"]),
                _node("Reshape", [f"{name}_scaled", "split"], [f"{name}_heads"]),
            )
        ),
        _node("Add", ["query_heads", "bias"], ["query_shifted"]),
        _node("FusedMatMul", ["query_shifted", "key_heads"], ["scores"], domain=MICROSOFT, **_ATTENTION),
        _node("If", ["padded"], ["shares"], then_branch=branch("masked", *masked), else_branch=branch("plain", plain)),
        _node("FusedMatMul", ["shares", "value_heads"], ["mixed"], domain=MICROSOFT, transBatchB=1),
        _node("Transpose", ["mixed"], ["by_token"], perm=[2, 0, 1, 3]),
        _number("flat", "rows_of_width", ints=True),
        _node("Reshape", ["by_token", "rows_of_width"], ["context"]),
        *_rows("context"),
    ]


_NORM = ["product", "scales", "residual", "gamma", "beta", "zeros"]


def _function(name: str, opsets: Sequence[OperatorSetIdProto]) -> FunctionProto:
    """Return the operator `name` as a function of plain nodes."""
    inputs, outputs, body, attributes = {
        "QuantizeRows": (["x", "zeros"], [], _rows("x"), ["width"]),
        "GeluQuantize": (
            ["product", "scales", "bias", "zeros"], [], _gelu_body(), ["width", "least", "point", "step"]
        ),
        "GegluQuantize": (["product", "scales", "zeros"], [], _geglu_body(), ["width"]),
        "AddNormQuantize": (
            ["product", "scales", "residual", "gamma", "zeros"], ["total"], _add_norm_body(), ["width", "epsilon"]
        ),
        "NormQuantize": (_NORM, ["y"], _norm_body(bias=False, factor=False), ["width", "epsilon"]),
        "NormQuantizeBias": ([*_NORM, "bias"], ["y"], _norm_body(bias=True, factor=False), ["width", "epsilon"]),
        "NormQuantizeScaled": (
            [*_NORM, "bias", "factor"], ["y"], _norm_body(bias=True, factor=True), ["width", "epsilon"]
        ),
        "AttentionQuantize": (
            ["query", "query_scales", "key", "value", "scales", "bias", "keep", "zeros", "mask", "padded", "split"],
            [],
            _attention_body(),
            ["heads", "width", "flat"],
        ),
    }[name]  # fmt: skip
    return helper.make_function(DOMAIN, name, inputs, [*outputs, "quantized", "scale"], body, opsets, attributes)
