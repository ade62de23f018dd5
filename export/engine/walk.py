"""Steps from node to node of an exported graph, for the recognition of layers.

Each raises NotALayerError where the graph goes on otherwise than asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from export.engine.graph import Graph

SCALING = ("Mul", "Div")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Relu", "Sigmoid", "Gelu", "Softplus", "Max", "Min")
LAYOUT = ("Reshape", "Transpose")


@dataclass(frozen=True)
class GraphLinear:
    """A linear layer x · weight + bias. node: its MatMul; weight, [inputs, outputs], and bias: names of constants."""

    node: str
    x: str
    weight: str
    bias: str | None


class NotALayerError(Exception):
    """The nodes do not form a layer that is known here."""


def demand(holds: bool) -> None:
    """Raise NotALayerError unless `holds`."""
    if not holds:
        raise NotALayerError


def producer(graph: Graph, tensor: str, op: str | None = None) -> NodeProto:
    """Return the node that makes `tensor`, of kind `op` where one is given."""
    demand(tensor in graph.producer)
    node: NodeProto = graph.producer[tensor]
    demand(op is None or node.op_type == op)
    return node


def reader(graph: Graph, tensor: str, op: str) -> NodeProto:
    """Return the one node of kind `op` that reads `tensor`."""
    found = [node for node in graph.readers(tensor) if node.op_type == op]
    demand(len(found) == 1)
    return found[0]


def linear(graph: Graph, tensor: str, depth: int = 6) -> GraphLinear:
    """Return the linear layer behind `tensor`, through the split into heads and the scaling."""
    node, bias = producer(graph, tensor), None
    if node.op_type == "Add":
        biases = [name for name in node.input if graph.is_constant(name)]
        products = [name for name in node.input if not graph.is_constant(name)]
        demand(len(biases) == len(products) == 1)
        node, bias = producer(graph, products[0]), biases[0]
        demand(node.op_type == "MatMul")
    if node.op_type == "MatMul":
        demand(graph.is_constant(node.input[1]))
        return GraphLinear(node.name, node.input[0], node.input[1], bias)
    demand(depth > 0 and node.op_type in (*SCALING, *LAYOUT))
    for name in node.input:
        try:
            return linear(graph, name, depth - 1)
        except NotALayerError:
            continue
    raise NotALayerError


def biased(graph: Graph, product: NodeProto) -> str:
    """Return the output of a linear layer, after its bias if it has one."""
    output: str = product.output[0]
    readers = graph.readers(output)
    if len(readers) == 1 and readers[0].op_type == "Add" and any(map(graph.is_constant, readers[0].input)):
        output = readers[0].output[0]
    return output


def between(graph: Graph, start: str, end: str) -> tuple[NodeProto, ...]:
    """Return the nodes from `start` to `end`, in order; all must be elementwise, with scalar constants."""
    found: dict[str, NodeProto] = {}

    def visit(tensor: str) -> None:
        if tensor == start:
            return
        if graph.is_constant(tensor):
            demand(np.prod(graph.shape(tensor)) == 1)
            return
        node = producer(graph, tensor)
        demand(node.op_type in _ELEMENTWISE and len(node.output) == 1 and len(found) < 32)
        for name in node.input:
            visit(name)
        found[tensor] = node

    visit(end)
    return tuple(found.values())
