"""fp32 ONNX to dynamic int8 by onnxruntime's own quantizer, and the proof that nothing was left out.

Scheme `int8-tensor`: signed weights, one scale a column; activations scaled at run time over the whole
tensor. That scale spans a batch, so a text's answer would depend on its neighbours: bundles of this
scheme are run one text at a time.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence, Set
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.errors import ExportError
from export.onnx_model import Linear

_INT8_PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat")


def quantize(fp32: Path, target: Path, linears: Sequence[Linear], scheme: str, kept: Collection[str] = ()) -> int:
    """Write the int8 version of `fp32` to `target`; return how many matrix products are int8.

    linears: the encoder's linear layers, each of which must have become that many int8 products, but
    those named in `kept`, which stay fp32. The head's (Gemm nodes, one row a text) stay fp32 too: they
    cost nothing and decide the answer. Raises ExportError, naming the layers, when one was left out.
    """
    graph = onnx.load(fp32, load_external_data=False).graph
    names = {linear.name for linear in linears}
    stay = [node.name for node in graph.node if node.op_type == "MatMul" and layer_of(node.name, names) in kept]
    _tensor_wise(fp32, target, stay)
    quantized = onnx.load(target).graph
    check_all_quantized(quantized, [linear for linear in linears if linear.name not in kept])
    return sum(node.op_type in _INT8_PRODUCTS for node in quantized.node)


def _tensor_wise(fp32: Path, target: Path, stay: Sequence[str]) -> None:
    graph = onnx.load(fp32, load_external_data=False).graph
    gemms = [node.name for node in graph.node if node.op_type == "Gemm"]
    # The quantizer turns Gemm into MatMul and Add first, under this name, and looks for exclusions after.
    head = [*gemms, *(f"{name}_MatMul" for name in gemms)]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the advice to pre-process is for convolutional models
    try:
        quantize_dynamic(
            fp32,
            target,
            weight_type=QuantType.QInt8,  # unsigned weights run 6-8 times slower on VNNI
            per_channel=True,
            nodes_to_exclude=[*head, *stay],
        )
    finally:
        root.setLevel(level)


def check_all_quantized(graph: onnx.GraphProto, linears: Sequence[Linear]) -> None:
    """Raise ExportError unless `graph` has an int8 product for every call of every layer in `linears`."""
    names = {linear.name for linear in linears}
    found = Counter(layer_of(node.name, names) for node in graph.node if node.op_type in _INT8_PRODUCTS)
    expected = sum(linear.calls for linear in linears)
    if found.total() == expected:
        return
    left = [linear.name for linear in linears if found[linear.name] < linear.calls]
    raise ExportError(
        f"{found.total()} linear layers were quantized, {expected} expected; "
        f"left in fp32: {', '.join(left) or 'none of these, so the head was quantized too'}"
    )


def layer_of(node_name: str, known: Set[str]) -> str:
    """Return the layer's name in the model from a node's: /bert/encoder/layer.0/…/query/MatMul_quant.

    The exporter numbers the later calls of a layer that runs several times: …/query_1/MatMul_quant.
    """
    name = ".".join(part for part in node_name.split("/")[:-1] if part)
    return name if name in known else re.sub(r"_\d+$", "", name)
