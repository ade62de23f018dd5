"""Recognition of the scores of attention: the product of queries and keys, and terms by position.

MPNet adds a bias by distance, the same in all layers (as T5; Raffel et al., arXiv 1910.10683). DeBERTa adds products of
queries and keys with projected embeddings of distances (disentangled attention, arXiv 2006.03654).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from export.engine.graph import Graph, attribute
from export.engine.walk import SCALING, GraphLinear, demand, linear, producer

_VIEWS = ("Reshape", "Transpose", "Expand", "Tile", "Squeeze", "Unsqueeze")
_MOST_NUMBERS = 8  # of a constant that may be a scale, an axis or a shape
FARTHEST = 1024  # tokens; each of the known models treats all larger distances alike


@dataclass(frozen=True)
class Relative:
    """A product of queries, or of keys, with embeddings of distances.

    by_key: of keys. table: the name of the constant, [heads, embeddings, head width]. rows: the embedding of each
    distance, the query's place less the key's, from 1 - FARTHEST to FARTHEST - 1; int64, never falling.
    """

    by_key: bool
    table: str
    rows: np.ndarray


@dataclass(frozen=True)
class Scores:
    """The scores before the softmax, without the mask. biases: tensors [1, heads, tokens, tokens]."""

    query: GraphLinear
    key: GraphLinear
    biases: tuple[str, ...]
    relative: tuple[Relative, ...]


def find_scores(graph: Graph, tensor: str) -> Scores:
    """Return the parts of the scores `tensor`; raises NotALayerError for other ones."""
    parts = list(_summands(graph, tensor))
    products = [name for name in parts if producer(graph, name).op_type == "MatMul"]
    demand(len(products) == 1)
    query, key = (linear(graph, name) for name in producer(graph, products[0]).input)
    biases, relative = [], []
    for name in parts:
        if name in products:
            continue
        if _is_bias(graph, name):
            biases.append(_unexpanded(graph, name))
        else:
            relative.append(_relative(graph, name, query, key))
    return Scores(query, key, tuple(biases), tuple(relative))


def _summands(graph: Graph, tensor: str, depth: int = 8) -> Iterator[str]:
    """Yield the tensors that add up to the scores, without scaling, layout and mask."""
    node = producer(graph, tensor)
    demand(depth > 0)
    if node.op_type == "Where":  # DeBERTa's mask: the condition, and a constant for what it hides
        demand(_is_mask(graph, node.input[0]))
        names = [name for name in node.input[1:] if not graph.is_constant(name)]
    elif node.op_type == "Add":
        names = [name for name in node.input if not _is_mask(graph, name)]
    elif node.op_type in SCALING:
        names = [name for name in node.input if not _is_number(graph, name)]
    elif node.op_type == "Reshape":
        names = [node.input[0]]
    else:
        yield tensor
        return
    demand(len(names) == 1 or (node.op_type == "Add" and len(names) == 2))
    for name in names:
        if _is_bias(graph, name):
            yield name
        else:
            yield from _summands(graph, name, depth - 1)


def _is_number(graph: Graph, tensor: str) -> bool:
    return graph.is_constant(tensor) and int(np.prod(graph.shape(tensor))) == 1


def _is_mask(graph: Graph, tensor: str) -> bool:
    """Return whether `tensor` is computed from the attention mask and small constants alone."""
    read, constants = _sources(graph, tensor)
    return read == {"attention_mask"} and all(np.prod(graph.shape(name)) <= _MOST_NUMBERS for name in constants)


def _is_bias(graph: Graph, tensor: str) -> bool:
    """Return whether `tensor` depends on the number of tokens alone."""
    read, constants = _sources(graph, tensor)
    return not read and bool(constants - {tensor})


def _sources(graph: Graph, tensor: str) -> tuple[set[str], set[str]]:
    """Return the inputs that `tensor` is computed from, those read for their shape left out, and the constants."""
    inputs: set[str] = set()
    constants: set[str] = set()
    seen: set[str] = set()
    stack = [tensor]
    while stack:
        name = stack.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        node = graph.producer.get(name)
        if graph.is_constant(name):
            constants.add(name)
        elif node is None:
            inputs.add(name)
        elif node.op_type != "Shape":
            stack.extend(node.input)
    return inputs, constants


def _unexpanded(graph: Graph, tensor: str) -> str:
    node = graph.producer[tensor]
    return node.input[0] if node.op_type == "Expand" else tensor


def _relative(graph: Graph, tensor: str, query: GraphLinear, key: GraphLinear) -> Relative:
    """Return the term `tensor`: elements gathered by distance from a product with a table.

    Gathered for keys, it is [keys, queries], so it is transposed.
    """
    node = producer(graph, tensor)
    by_key = node.op_type == "Transpose"
    if by_key:
        node = producer(graph, node.input[0])
    demand(node.op_type == "GatherElements" and attribute(node, "axis", 0) in (-1, 2))
    side, table = producer(graph, node.input[0], "MatMul").input
    demand(linear(graph, side) == (key if by_key else query))
    name = _constant_behind(graph, table)
    demand(len(graph.shape(name)) == 3)
    rows = _row_of_distance(graph, node.input[1])
    rows = rows if by_key else rows[::-1]  # the place of a column less that of its row; keys are rows here
    demand(bool((np.diff(rows) >= 0).all()))
    return Relative(by_key, name, rows)


def _constant_behind(graph: Graph, tensor: str) -> str:
    while not graph.is_constant(tensor):
        node = producer(graph, tensor)
        demand(node.op_type in _VIEWS)
        tensor = node.input[0]
    return tensor


def _row_of_distance(graph: Graph, tensor: str) -> np.ndarray:
    """Return the index that `tensor`, [..., tokens, tokens], has by column less row, for FARTHEST tokens."""
    demand(_is_bias(graph, tensor))
    of_shape = np.ones((1, FARTHEST), np.int64)  # of any input: no value is read
    index = graph.evaluate(_squeezed(graph, tensor), {value.name: of_shape for value in graph.proto.input})
    index = index.reshape(index.shape[-2:])
    rows = np.concatenate([index[:0:-1, 0], index[0]])
    i, j = np.indices(index.shape)
    demand(bool((index == rows[j - i + FARTHEST - 1]).all()))
    demand(rows[0] == rows[1] and rows[-1] == rows[-2])
    return rows.astype(np.int64)


def _squeezed(graph: Graph, tensor: str) -> str:
    """Return the tensor behind the copies of `tensor` for texts and heads."""
    while (node := producer(graph, tensor)).op_type in ("Expand", "Tile"):
        tensor = node.input[0]
    return tensor
