"""Dynamic int8 quantization of fp32 ONNX, and the proof that it left no layer out.

`int8-token`, this project's own: the encoder is rewritten (encoder.py), then quantized with one scale per token
(token_wise.py), so a text's result does not depend on the batch. `int8-tensor`, onnxruntime's quantizer: activations
have one scale per run, which spans a batch, so bundles of this scheme run one text at a time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper
from onnx.onnx_ml_pb2 import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.engine.encoder import Hints, rebuild_encoder
from export.engine.fused import fuse
from export.engine.graph import MICROSOFT, Graph
from export.engine.layers import find_layers
from export.engine.pre_norm.encoder import LONG_TEXTS, LONG_TOKENS, rebuild_pre_norm, tensors_to_probe
from export.engine.pre_norm.layers import find_pre_norm_layers
from export.engine.probe import Probe, check_same, probe
from export.engine.token_wise import INT8, quantize_linears, quantize_tables
from export.errors import ExportError
from inferer.bundle.reader import INT8_TOKEN

_OPSET = 21  # the first opset with one scale per row in QuantizeLinear
_IR_VERSION = 10  # opset 21's own
_INT8_PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class Quantizer:
    """The quantizer of one fp32 model by one scheme.

    linears: the calls per text of each of the encoder's linear layers, each of which becomes an int8 product. The
    head's layers (one row per text) stay fp32: they cost little and decide the prediction.
    """

    fp32: Path
    linears: Mapping[str, int]
    scheme: str

    def __call__(self, target: Path, kept: Collection[str] = ()) -> int:
        """Write the int8 model, with the layers named in `kept` in fp32; return its number of int8 products.

        Raises ExportError with the names of layers that were left out.
        """
        model = onnx.load(self.fp32, load_external_data=False)
        quantized = {name: calls for name, calls in self.linears.items() if name not in kept}
        write = _token_wise if self.scheme == INT8_TOKEN else _tensor_wise
        write(self.fp32, model, target, quantized)
        return check_all_quantized(onnx.load(target).graph, quantized)


def _token_wise(fp32: Path, model: ModelProto, target: Path, quantized: Collection[str]) -> None:
    graph = Graph(model)
    hints, seen = _rebuild(fp32, graph)
    graph.prune(*hints.row_shapes.values())
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)])
    model.ir_version = _IR_VERSION
    for run in seen:
        check_same(model, run)
    quantize_linears(graph, _staying(model, quantized), hints)
    quantize_tables(graph)
    fuse(model, graph, hints)
    graph.prune()
    onnx.save(model, target)


def _rebuild(fp32: Path, graph: Graph) -> tuple[Hints, list[Probe]]:
    """Rewrite a known encoder; return hints, and probes of the logits to compare with. Leave others as they are."""
    if layers := find_layers(graph):
        seen = probe(fp32, graph, [layer.x for layer in layers])
        return rebuild_encoder(graph, layers, seen.channels), [seen]
    if pre_norm := find_pre_norm_layers(graph):
        seen = probe(fp32, graph, tensors_to_probe(pre_norm))
        long = probe(fp32, graph, texts=LONG_TEXTS, tokens=LONG_TOKENS)
        return rebuild_pre_norm(graph, pre_norm, seen.channels), [seen, long]
    return Hints(), []


def _staying(model: ModelProto, quantized: Collection[str]) -> set[str]:
    """Return the products that no layer of `quantized` has."""
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    return {name for name in products if layer_of(name) not in quantized}


def _tensor_wise(fp32: Path, model: ModelProto, target: Path, quantized: Collection[str]) -> None:
    gemms = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    # The quantizer first turns Gemm into MatMul and Add under this name, then looks up the exclusions.
    head = [*gemms, *(f"{name}_MatMul" for name in gemms)]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the advice to pre-process is for convolutional models
    try:
        # Unsigned weights, the alternative, run 6-8 times slower on VNNI.
        quantize_dynamic(
            fp32,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[*head, *_staying(model, quantized)],
        )
    finally:
        root.setLevel(level)


def check_all_quantized(graph: onnx.GraphProto, linears: Mapping[str, int]) -> int:
    """Return the number of int8 products in `graph`.

    Raises ExportError unless each of `linears` has as many as it has calls, or parts of calls, and nothing else any.
    """
    products = [node.name.removesuffix(INT8) for node in graph.node if node.op_type in _INT8_PRODUCTS]
    found = Counter(layer_of(name) for name in products)
    fp32 = {layer_of(node.name) for node in graph.node if node.op_type == "MatMul"}
    left = [name for name, calls in linears.items() if found[name] < calls or name in fp32]
    if not left and set(found) <= set(linears):
        return found.total()
    raise ExportError(
        f"{found.total()} linear layers were quantized, {sum(linears.values())} expected; "
        f"left in fp32: {', '.join(left) or 'none of them, so the head was quantized too'}; "
        "export with --scheme fp32"
    )


def layer_of(node_name: str) -> str:
    """Return a layer's name in the model from a node's, such as /bert/encoder/layer/0/…/query/MatMul_quant."""
    return ".".join(part for part in node_name.split("/")[:-1] if part)
