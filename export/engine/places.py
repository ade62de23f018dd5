"""Terms of the scores by the places of query and key, with exact algebra, in as few elements as the texts need.

A DeBERTa scores each query and key by the embedding of their distance. The embeddings are constants; a run takes those
of the distances between its tokens alone, 31 of 512 for 16 tokens, and one gather puts the products into place. Both
depend on no text, so batches change no bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from export.engine.graph import MICROSOFT, Graph
from export.engine.scores import FARTHEST, Relative


@dataclass(frozen=True)
class _Reach:
    """Tensors of one map from distances to embeddings.

    start, end: [1], the embeddings in reach. index: int32 [texts, heads, queries, keys], from `start` on; first_index:
    of the first two queries.
    """

    start: str
    end: str
    index: str
    first_index: str


@dataclass
class Places:
    """The emitter of these terms into `graph`. texts, tokens: the names of their numbers, [1]."""

    graph: Graph
    texts: str
    tokens: str
    _reaches: dict[tuple[bytes, int], _Reach] = field(default_factory=dict)

    def first_rows(self, scores: str) -> str:
        """Return `scores`, [1, heads, queries, keys], of the first two queries."""
        return self.graph.add("Slice", scores, self._ints(0), self._ints(2), self._ints(-2))

    def product(self, term: Relative, x: str, scale: float, *, trim: bool) -> str:
        """Return the term, [texts, heads, queries, keys], for x: queries that have `scale`, or keys without it.

        x: [tokens, texts, heads, head width]. trim: `x` holds two queries per text, or the result is for two.
        """
        graph = self.graph
        table = graph.value(term.table) * (scale if term.by_key else 1)
        heads = table.shape[0]
        reach = self._reach(term.rows, heads)
        # [embeddings, 1, heads, head width]: those in reach lie together.
        laid_out = graph.weight(table.transpose(1, 0, 2)[:, np.newaxis].astype(np.float32), f"{term.table}/by distance")
        near = graph.add("Slice", laid_out, reach.start, reach.end, self._ints(0))
        index = reach.first_index if trim else reach.index
        pair, axis = ((near, x), 2) if term.by_key else ((x, near), 3)
        products = graph.add("FusedMatMul", *pair, domain=MICROSOFT, transBatchA=1, transBatchB=1, transB=1)
        return graph.add("GatherElements", products, index, axis=axis)

    def _reach(self, rows: np.ndarray, heads: int) -> _Reach:
        key = rows.tobytes(), heads
        if key not in self._reaches:
            self._reaches[key] = self._new_reach(rows, heads)
        return self._reaches[key]

    def _new_reach(self, rows: np.ndarray, heads: int) -> _Reach:
        graph = self.graph
        by_distance = graph.weight(rows)
        zero, one = self._ints(0), self._ints(1)
        # Distances of FARTHEST tokens and more have the embedding of the last one.
        most = graph.add("Min", graph.add("Sub", self.tokens, one), self._ints(FARTHEST - 1))
        middle = self._ints(FARTHEST - 1)
        start = graph.add("Gather", by_distance, graph.add("Sub", middle, most))
        end = graph.add("Add", graph.add("Gather", by_distance, graph.add("Add", middle, most)), one)
        scalar = graph.add("Squeeze", self.tokens, zero)
        place = graph.add("Range", self._int(0), scalar, self._int(1))
        distance = graph.add("Sub", graph.add("Unsqueeze", place, one), graph.add("Unsqueeze", place, zero))
        known = graph.add("Clip", distance, self._int(1 - FARTHEST), self._int(FARTHEST - 1))
        index = graph.add("Sub", graph.add("Gather", by_distance, graph.add("Add", known, middle)), start)
        small = graph.add("Cast", index, to=TensorProto.INT32)
        shape = graph.add("Concat", self.texts, self._ints(heads), self.tokens, self.tokens, axis=0)
        whole = graph.add("Expand", small, shape)
        return _Reach(start, end, whole, graph.add("Slice", whole, zero, self._ints(2), self._ints(2)))

    def _ints(self, *values: int) -> str:
        return self.graph.weight(np.array(values, np.int64), f"inferer.{list(values)}")

    def _int(self, value: int) -> str:
        return self.graph.weight(np.array(value, np.int64), f"inferer.int_{value}")
