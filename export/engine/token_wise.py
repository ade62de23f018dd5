"""Token-wise dynamic int8: one activation scale per token, one weight scale per column, both symmetric.

For y = x·W + b with x of shape [..., K]:

    once      s_w[n] = max|W[:, n]| / 127,  W_q = round(W / s_w)               int8
    per run   s_x = max|x| over the last axis / 127,  x_q = round(x / s_x) + 128   uint8
              y = (x_q - 128)·W_q · s_w · s_x + b

Sums are exact integers and all other steps are per token, so no token's result depends on the rest of the batch. A row
of zeros has scale 0 and stays zero. Outputs of GELU and ReLU are bounded below: their zero point is a lower constant,
and their scale that of the largest value. Sources: LLM.int8() (vector-wise; Dettmers et al., arXiv 2208.07339) and
ZeroQuant (token-wise; Yao et al., arXiv 2206.01861).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

import numpy as np
from onnx import numpy_helper

from export.engine.encoder import Hints
from export.engine.graph import MICROSOFT, Graph
from export.engine.outliers import share_rounded

_LARGEST = 127
INT8 = "/int8"  # suffix of int8 products, weights and tables
# onnxruntime's fast kernels take unsigned activations and signed weights: signed by signed measured 10 times slower,
# unsigned by unsigned 2 times (docs/log.md).
_ZERO_POINT = 128
_MOST = 255
# The zero point where no value is below -f, f > 0. A lower one leaves more steps above zero, but no step is finer than
# f over it: with 24 and GELU's f of 0.17 that binds for tokens with a largest value below 1.6.
_BOUNDED_ZERO_POINT = 24
# Smaller tables (token types) stay fp32: they fit the cache and add little to the file.
_SMALLEST_TABLE = 16_384


def quantize_linears(graph: Graph, kept: Set[str], hints: Hints) -> None:
    """Make every MatMul with constant weights int8, but those named in `kept`."""
    by_input = defaultdict(list)
    for node in list(graph.proto.node):
        if node.op_type != "MatMul" or node.name in kept or not graph.is_constant(node.input[1]):
            continue
        if len(graph.shape(node.input[1])) == 2:
            by_input[node.input[0]].append(node)
    unit = graph.weight(np.array(1, np.float32), "inferer.unit")
    points: dict[tuple[str, int], str] = {}
    for x, nodes in by_input.items():
        width = graph.shape(nodes[0].input[1])[0]
        scale, point = _scale_and_zero_point(graph, x, hints.floors.get(x))
        zero_point = graph.weight(np.array(point, np.uint8), f"inferer.zero_point_{point}")
        shape = hints.row_shapes.get(x) or graph.add("Shape", scale)
        if (shape, point) not in points:
            value = numpy_helper.from_array(np.array([point], np.uint8))
            points[shape, point] = graph.add("ConstantOfShape", shape, value=value)
        quantized = graph.add("QuantizeLinear", x, scale, points[shape, point], axis=-1, block_size=width)
        for node in nodes:
            weight, weight_scale = _int8_weight(graph, node.input[1], hints.owners.get(node.input[1]))
            # One per node: the exact mode of onnxruntime 1.31 rewrites it and fails on a shared constant.
            no_zero_point = graph.weight(np.array(0, np.int8), f"{node.name}/zero_point")
            inputs = quantized, weight, unit, weight_scale, zero_point, no_zero_point
            product = graph.add("MatMulIntegerToFloat", *inputs, name=node.name + INT8, domain=MICROSOFT)
            graph.replace(node.output[0], graph.add("Mul", product, scale))


def _scale_and_zero_point(graph: Graph, x: str, floor: float | None) -> tuple[str, int]:
    """Return the name of the scale, [..., 1], and the zero point of an x with no value below -floor, if one is given.

    Without a floor: max|x| / 127 over the last axis, and the middle.
    """
    if floor is None:
        return _scale(graph, graph.add("Abs", x), 0.0, _LARGEST), _ZERO_POINT
    point = _BOUNDED_ZERO_POINT if floor else 0
    steps = _MOST - point
    return _scale(graph, x, floor * steps / point if floor else 0.0, steps), point


def _scale(graph: Graph, x: str, least: float, steps: int) -> str:
    """Return the name of max(x, least) / steps over the last axis, [..., 1]."""
    axis = graph.weight(np.array([-1], np.int64), "inferer.last_axis")
    largest = graph.add("ReduceMax", x, axis, keepdims=1)
    if least:
        largest = graph.add("Max", largest, graph.weight(np.array(least, np.float32), f"inferer.least_{least:g}"))
    return graph.add("Mul", largest, graph.weight(np.array(1 / steps, np.float32), f"inferer.step_{steps}"))


def _int8_weight(graph: Graph, name: str, owners: np.ndarray | None) -> tuple[str, str]:
    """Return the names of the int8 weight, [K, N], and of its scales, float32 [N]; made once per weight."""
    quantized, scale = name + INT8, f"{name}/scale"
    if not graph.is_constant(quantized):
        values, scales = quantize_along(graph.value(name), axis=0, owners=owners)
        graph.weight(values, quantized)
        graph.weight(scales[0], scale)
    return quantized, scale


def quantize_along(values: np.ndarray, axis: int, owners: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return `values` as int8 and their float32 scales by the largest magnitude along `axis`, which stays as 1.

    owners: the row that each row is a share of; then the sum of the shares is rounded.
    """
    scale = (np.abs(values).max(axis=axis, keepdims=True) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    steps = values / scale.astype(np.float64)
    if owners is not None:
        totals = np.zeros((owners.max() + 1, values.shape[1]))
        np.add.at(totals, owners, steps)
        steps = share_rounded(np.rint(totals), owners)
    return np.clip(np.rint(steps), -_LARGEST, _LARGEST).astype(np.int8), scale


def quantize_tables(graph: Graph) -> None:
    """Make embedding tables int8 with a scale per row, gathered with the row."""
    for node in list(graph.proto.node):
        if node.op_type != "Gather" or not graph.is_constant(node.input[0]):
            continue
        table = graph.constant(node.input[0])
        if table is None or table.dtype != np.float32 or table.ndim != 2 or table.size < _SMALLEST_TABLE:
            continue
        name, ids = node.input
        if not graph.is_constant(name + INT8):
            values, scales = quantize_along(table.astype(np.float64), axis=1)
            graph.weight(values, name + INT8)
            graph.weight(scales, f"{name}/scale")
        rows = graph.add("Cast", graph.add("Gather", name + INT8, ids, axis=0), to=1)
        scale = graph.add("Gather", f"{name}/scale", ids, axis=0)
        graph.replace(node.output[0], graph.add("Mul", rows, scale))
