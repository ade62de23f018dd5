"""Look-ups and edits on an ONNX graph: producers and readers of tensors, constants, new nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import GraphProto, ModelProto, NodeProto

MICROSOFT = "com.microsoft"


class Graph:
    """A model's main graph, edited in place. Call `prune` at the end."""

    def __init__(self, model: ModelProto) -> None:
        self.proto: GraphProto = model.graph
        self._opsets, self._ir_version = list(model.opset_import), model.ir_version
        self.serial = 0
        self._index()

    def _index(self) -> None:
        self.producer = {name: node for node in self.proto.node for name in node.output}
        self._readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in self.proto.node:
            self._count_in(node)
        self._weights = {tensor.name: tensor for tensor in self.proto.initializer}

    def readers(self, tensor: str) -> list[NodeProto]:
        """Return the nodes that read `tensor`, once each, Shape nodes left out."""
        return [node for node in self._readers[tensor] if node.op_type != "Shape"]

    def constant(self, tensor: str) -> np.ndarray | None:
        """Return the value of `tensor` where it is constant, else None."""
        if tensor in self._weights:
            return numpy_helper.to_array(self._weights[tensor])
        node = self.producer.get(tensor)
        if node is None or node.op_type != "Constant":
            return None
        return numpy_helper.to_array(node.attribute[0].t) if node.attribute[0].name == "value" else None

    def value(self, tensor: str) -> np.ndarray:
        """Return the value of a constant in float64. Raises KeyError for other tensors."""
        array = self.constant(tensor)
        if array is None:
            raise KeyError(tensor)
        return array.astype(np.float64)

    def is_constant(self, tensor: str) -> bool:
        """Return whether `tensor` is constant."""
        return tensor in self._weights or (tensor in self.producer and self.producer[tensor].op_type == "Constant")

    def weight(self, array: np.ndarray, name: str | None = None) -> str:
        """Add a constant, unless there is one called `name`; return its name."""
        if name is None:
            self.serial += 1
            name = f"inferer.constant_{self.serial}"
        if name not in self._weights:
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
            self.proto.initializer.append(tensor)
            self._weights[name] = self.proto.initializer[-1]
        return name

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a constant."""
        if tensor in self._weights:
            return tuple(self._weights[tensor].dims)
        array = self.constant(tensor)
        return () if array is None else array.shape

    def add(self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        self.serial += 1
        name = name or f"inferer/{op}_{self.serial}"
        return self.append([helper.make_node(op, inputs, [f"{name}:0"], name=name, domain=domain, **attributes)])

    def halve(self, x: str) -> tuple[str, str]:
        """Add a Split of the last axis, of an even width; return the names of the halves."""
        self.serial += 1
        name = f"inferer/Split_{self.serial}"
        halves = f"{name}:0", f"{name}:1"
        self.append([helper.make_node("Split", [x], halves, name=name, axis=-1, num_outputs=2)])
        return halves

    def append(self, nodes: Iterable[NodeProto]) -> str:
        """Add nodes; return the first output of the last."""
        for made in nodes:
            self.proto.node.append(made)
            node = self.proto.node[-1]
            self.producer.update(dict.fromkeys(node.output, node))
            self._count_in(node)
        first: str = node.output[0]
        return first

    def replace(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`."""
        for node in list(self._readers[old]):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
            self._readers[new].append(node)
        self._readers[old].clear()

    def prune(self, *wanted: str) -> None:
        """Drop nodes and constants that neither the outputs nor the tensors `wanted` need; sort nodes by dependency."""
        needed = self._needed(*(output.name for output in self.proto.output), *wanted)
        order = [deepcopy(node) for node in needed]
        del self.proto.node[:]
        self.proto.node.extend(order)
        read = {name for node in order for name in _reads(node)}
        weights = [deepcopy(tensor) for tensor in self.proto.initializer if tensor.name in read]
        del self.proto.initializer[:]
        self.proto.initializer.extend(weights)
        del self.proto.value_info[:]
        self._index()

    def evaluate(self, tensor: str, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return `tensor` as onnxruntime computes it from `feeds`, the inputs that it needs."""
        nodes = self._needed(tensor)
        read = {name for node in nodes for name in _reads(node)}
        weights = [self._weights[name] for name in read & self._weights.keys()]
        inputs = [value for value in self.proto.input if value.name in read]
        graph = helper.make_graph(nodes, "part", inputs, [onnx.ValueInfoProto(name=tensor)], weights)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (found,) = session.run([tensor], {value.name: feeds[value.name] for value in inputs})
        return np.asarray(found)

    def _needed(self, *wanted: str) -> list[NodeProto]:
        """Return the nodes that the tensors `wanted` need, sorted by dependency."""
        needed: list[NodeProto] = []
        done: set[str] = set()
        stack = [(name, False) for name in wanted]
        while stack:
            tensor, ready = stack.pop()
            node = self.producer.get(tensor)
            if node is None or (tensor in done and not ready):
                continue
            if ready:
                needed.append(node)
                continue
            done.update(node.output)
            stack.append((tensor, True))
            stack.extend((name, False) for name in _reads(node) if name not in done)
        return needed

    def _count_in(self, node: NodeProto) -> None:
        for name in dict.fromkeys(node.input):
            self._readers[name].append(node)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or `default`."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _reads(node: NodeProto) -> list[str]:
    """Return the tensors that `node` reads, with those that its subgraphs read from the outer graph."""
    names = [name for name in node.input if name]
    for a in node.attribute:
        if a.type == onnx.AttributeProto.GRAPH:
            inner = {output for inside in a.g.node for output in inside.output}
            names += [name for inside in a.g.node for name in _reads(inside) if name not in inner]
    return names


def fold_constants(model: ModelProto) -> None:
    """Replace what depends on constants alone by its value, such as DeBERTa's projected embeddings of distances."""
    graph = Graph(model)
    folded: set[str] = set()  # outputs of such nodes
    for node in graph.proto.node:
        constant = node.op_type != "Constant" and all(
            graph.is_constant(name) or name in folded for name in _reads(node)
        )
        if constant and _reads(node):
            folded.update(node.output)
    outputs = {output.name for output in graph.proto.output}
    for tensor in sorted(folded):
        readers = graph._readers[tensor]
        if tensor in outputs or any(name not in folded for node in readers for name in node.output):
            graph.replace(tensor, graph.weight(graph.evaluate(tensor, {}), f"{tensor}/value"))
    graph.prune()
