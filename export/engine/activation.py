"""The activation between the linear layers of a feed-forward branch, emitted anew."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import helper
from onnx.onnx_ml_pb2 import NodeProto

from export.engine.graph import MICROSOFT, Graph

# The minimum of GELU is -0.16997 (erf) or -0.17004 (tanh).
_GELU_FLOOR = 0.171


def emit_activation(graph: Graph, nodes: Sequence[NodeProto], start: str, x: str) -> tuple[str, float | None]:
    """Emit the activation of `nodes`, which read `start`, on x: one node for GELU, else copies.

    Return its output, and a bound f where no element is below -f.
    """
    kinds = {node.op_type for node in nodes}
    if "Erf" in kinds or {"Tanh", "Pow"} <= kinds:
        # Not BiasGelu: its kernel takes 1.8 times as long as Add and Gelu.
        return graph.add("Gelu" if "Erf" in kinds else "FastGelu", x, domain=MICROSOFT), _GELU_FLOOR
    renamed = {start: x}
    for node in nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [renamed.get(name, name) for name in node.input]
        renamed[node.output[0]] = graph.add(node.op_type, *inputs, domain=node.domain, **attributes)
    return renamed[nodes[-1].output[0]], 0.0 if kinds == {"Relu"} else None
