"""Token-wise dynamic int8: one activation scale a token, one weight scale a column, both symmetric.

For y = x·W + b with x of shape [..., K]:

    once      s_w[n] = max|W[:, n]| / 127,  W_q = round(W / s_w)               int8
    a run     s_x = max|x| over the last axis / 127,  x_q = round(x / s_x) + 128   uint8
              y = (x_q - 128)·W_q · s_w · s_x + b

The sums are exact integers and everything else is done token by token, so that no token's result depends
on what else is in the batch. Vector-wise quantization of LLM.int8() (Dettmers et al., arXiv 2208.07339) and
ZeroQuant's token-wise one (Yao et al., arXiv 2206.01861). A row of zeros has scale 0 and stays zeros:
whatever is rounded to, it is multiplied by 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

import numpy as np
from onnx import numpy_helper

from export.encoder import Hints
from export.graph import MICROSOFT, Graph

_LARGEST = 127
INT8 = "/int8"  # what the int8 product, weight or table adds to the name of the fp32 one
# Unsigned activations against signed weights are what onnxruntime has fast kernels for: signed against
# signed measured 10 times slower, unsigned against unsigned 2 times (benchmarks, docs/log.md).
_ZERO_POINT = 128
# Smaller tables (token types) stay fp32: they are read whole from cache, and are nothing in size.
_SMALLEST_TABLE = 16_384


def quantize_linears(graph: Graph, kept: Set[str], hints: Hints) -> None:
    """Make every MatMul with constant weights an int8 one, but those named in `kept`."""
    by_input = defaultdict(list)
    for node in list(graph.proto.node):
        if node.op_type != "MatMul" or node.name in kept or not graph.is_constant(node.input[1]):
            continue
        if len(graph.shape(node.input[1])) == 2:
            by_input[node.input[0]].append(node)
    unit = graph.weight(np.array(1, np.float32), "inferer.unit")
    zero_point = graph.weight(np.array(_ZERO_POINT, np.uint8), "inferer.zero_point")
    points: dict[str, str] = {}
    for x, nodes in by_input.items():
        width = graph.shape(nodes[0].input[1])[0]
        scale = _scale(graph, x, hints.floors.get(x))
        shape = hints.row_shapes.get(x) or graph.add("Shape", scale)
        if shape not in points:
            points[shape] = _zero_points(graph, shape)
        quantized = graph.add("QuantizeLinear", x, scale, points[shape], axis=-1, block_size=width)
        for node in nodes:
            weight, weight_scale = _int8_weight(graph, node.input[1])
            # One a node: onnxruntime 1.31's exact mode rewrites it, and cannot do so twice to the same constant.
            no_zero_point = graph.weight(np.array(0, np.int8), f"{node.name}/zero_point")
            product = graph.add(
                "MatMulIntegerToFloat",
                quantized,
                weight,
                unit,
                weight_scale,
                zero_point,
                no_zero_point,
                name=node.name + INT8,
                domain=MICROSOFT,
            )
            graph.replace(node.output[0], graph.add("Mul", product, scale))


def _scale(graph: Graph, x: str, floor: float | None) -> str:
    """Return the name of max|x| / 127 over the last axis, [..., 1]."""
    axis = graph.weight(np.array([-1], np.int64), "inferer.last_axis")
    if floor is None:
        largest = graph.add("ReduceMax", graph.add("Abs", x), axis, keepdims=1)
    else:
        largest = graph.add("ReduceMax", x, axis, keepdims=1)
        largest = graph.add("Max", largest, graph.weight(np.array(floor, np.float32), f"inferer.floor_{floor}"))
    return graph.add("Mul", largest, graph.weight(np.array(1 / _LARGEST, np.float32), "inferer.step"))


def _zero_points(graph: Graph, shape: str) -> str:
    value = numpy_helper.from_array(np.array([_ZERO_POINT], np.uint8))
    return graph.add("ConstantOfShape", shape, value=value)


def _int8_weight(graph: Graph, name: str) -> tuple[str, str]:
    """Return the names of the int8 weight, [K, N], and of its scales, float32 [N]; made once a weight."""
    quantized, scale = name + INT8, f"{name}/scale"
    if not graph.is_constant(quantized):
        values, scales = quantize_along(graph.value(name), axis=0)
        graph.weight(values, quantized)
        graph.weight(scales[0], scale)
    return quantized, scale


def quantize_along(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `values` as int8 and their scales, float32, by the largest magnitude along `axis` (kept as 1)."""
    scale = (np.abs(values).max(axis=axis, keepdims=True) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    rounded = np.rint(values / scale.astype(np.float64))
    return np.clip(rounded, -_LARGEST, _LARGEST).astype(np.int8), scale


def quantize_tables(graph: Graph) -> None:
    """Make embedding tables int8 with a scale a row, which is gathered with it."""
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
