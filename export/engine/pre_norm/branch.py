"""Subgraphs of If and Loop nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import GraphProto, NodeProto

from export.engine.graph import Graph


@dataclass
class Branch:
    """A subgraph in the making. Its nodes read its own tensors, and any of the graphs around it."""

    graph: Graph
    nodes: list[NodeProto] = field(default_factory=list)

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        self.graph.serial += 1
        name = f"inferer/{op}_{self.graph.serial}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name=name, domain=domain, **attributes))
        return f"{name}:0"

    def nested(self) -> Branch:
        """Return a new subgraph for a node of this one."""
        return Branch(self.graph)

    def choose(self, condition: str, then: tuple[Branch, str], otherwise: tuple[Branch, str]) -> str:
        """Add an If between two subgraphs, each with its result; return the output's name."""
        return self.add("If", condition, then_branch=_closed(*then), else_branch=_closed(*otherwise))

    def loop(self, count: str, turn: str, body: Branch, result: str) -> str:
        """Add a Loop of `count` turns, int64 [1]; return each turn's result, stacked.

        turn: the name by which `body` reads the turn's number.
        """
        going = self.graph.serial
        made = helper.make_graph(
            [*body.nodes, helper.make_node("Identity", [f"going_in_{going}"], [f"going_out_{going}"])],
            f"loop_{going}",
            [
                helper.make_tensor_value_info(turn, TensorProto.INT64, []),
                helper.make_tensor_value_info(f"going_in_{going}", TensorProto.BOOL, []),
            ],
            [
                helper.make_tensor_value_info(f"going_out_{going}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(result, TensorProto.FLOAT, None),
            ],
        )
        return self.add("Loop", count, "", body=made)


def _closed(branch: Branch, result: str) -> GraphProto:
    outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
    return helper.make_graph(branch.nodes, f"branch_{result}", [], outputs)
