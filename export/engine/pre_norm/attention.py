"""Attention of pre-norm encoders: rotary positions, all tokens or a window of them, in bounded memory.

Activations are [tokens, texts, heads, head width]. A text's bits must not depend on the tokens of its neighbours, which
decide between the ways below. onnxruntime's products add up 256 values in their order before they start anew, and zeros
change nothing; so

- up to 256 tokens, attention in a window is that over all tokens with a mask;
- above, blocks of 64 queries see 192 keys from a multiple of 64 on, which are the same sums without the zeros;
- attention over all tokens runs in chunks of 256 queries above 512 tokens, so memory grows with the tokens alone.

The mask is added only where there is padding, or where the window ends before the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from export.engine.graph import MICROSOFT, Graph
from export.engine.pre_norm.branch import Branch
from export.engine.pre_norm.layers import WIDEST_WINDOW

_BLOCK = 64
_KEYS = _BLOCK + 2 * WIDEST_WINDOW
_PLAIN = 256  # tokens up to which a window is a mask
_WHOLE = 512  # tokens up to which all queries run at once
_CHUNK = 256
_NEGATIVE = 1e9  # exp(score - 1e9) is 0 in fp32 for any score
_LANES = 16  # numbers in the widest vector


@dataclass(frozen=True)
class Sizes:
    """Names of the tensors that depend on the input's shape and mask.

    tokens, texts: int64 [1]. rows, first_rows: [tokens, texts, 1] of all tokens, and of the first two. padded: bool.
    padding: float32 [texts, 1, 1, tokens], added to scores.
    """

    tokens: str
    texts: str
    rows: str
    first: str
    first_rows: str
    padded: str
    padding: str


def sizes(graph: Graph) -> Sizes:
    """Emit the sizes."""
    shape = graph.add("Shape", "attention_mask")
    zero, one, two = (ints(graph, i) for i in range(3))
    texts = graph.add("Slice", shape, zero, one)
    tokens = graph.add("Slice", shape, one, two)
    first = graph.add("Min", tokens, two)
    padded = graph.add("Cast", graph.add("ReduceMin", "attention_mask", keepdims=0), to=TensorProto.BOOL)
    real = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    padding = graph.add("Mul", graph.add("Sub", real, number(graph, 1)), number(graph, _NEGATIVE))
    return Sizes(
        tokens=tokens,
        texts=texts,
        rows=graph.add("Concat", tokens, texts, one, axis=0),
        first=first,
        first_rows=graph.add("Concat", first, texts, one, axis=0),
        padded=graph.add("Not", padded),
        padding=graph.add("Unsqueeze", padding, ints(graph, 1, 2)),
    )


class Rotary:
    """Turns queries and keys by their position (RoPE, Su et al., arXiv 2104.09864) with onnxruntime's own kernel."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self._graph = graph
        self._caches: dict[str, tuple[str, str]] = {}
        # The kernel wants a row per text too. Whole vectors alone: the last numbers of an odd count round otherwise.
        most = graph.add("Max", sizes.tokens, sizes.texts)
        lanes = ints(graph, _LANES)
        whole = graph.add("Mul", graph.add("Div", graph.add("Add", most, ints(graph, _LANES - 1)), lanes), lanes)
        self._positions = _range(graph, whole)
        shape = graph.add("Concat", sizes.tokens, sizes.texts, axis=0)
        row = graph.add("Unsqueeze", _range(graph, sizes.tokens), ints(graph, 1))
        self.all = graph.add("Expand", row, shape)
        self.first = graph.add("Slice", self.all, ints(graph, 0), sizes.first, ints(graph, 0))

    def __call__(self, x: str, heads: int, frequencies: str, positions: str) -> str:
        """Return x, [tokens, texts, width], turned. positions: [tokens, texts]."""
        graph = self._graph
        if frequencies not in self._caches:
            column = graph.add("Cast", graph.add("Unsqueeze", self._positions, ints(graph, 1)), to=TensorProto.FLOAT)
            angles = graph.add("Mul", column, frequencies)
            self._caches[frequencies] = graph.add("Cos", angles), graph.add("Sin", angles)
        cos, sin = self._caches[frequencies]
        return graph.add("RotaryEmbedding", x, positions, cos, sin, domain=MICROSOFT, num_heads=heads)


class Attention:
    """The emitter of softmax(q·k)·v, with 1/sqrt(head width) in q already."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self._graph = graph
        self._sizes = sizes
        self._windows: dict[int, _Window] = {}

    def __call__(self, query: str, key: str, value: str, window: int | None, merged: str, *, trim: bool) -> str:
        """Return the heads' output, [tokens, texts, width]. merged: the shape [-1, texts, width].

        trim: the queries are the first two tokens of each text, in bounded memory as they are.
        """
        root = Branch(self._graph)
        if window is None:
            self._whole(root, query, key, value, merged, trim=trim)
        else:
            if window not in self._windows:
                self._windows[window] = _window(self._graph, self._sizes, window)
            self._local(root, query, key, value, self._windows[window], merged, trim=trim)
        return self._graph.append(root.nodes)

    def _whole(self, to: Branch, query: str, key: str, value: str, merged: str, *, trim: bool) -> str:
        if trim:
            return self._plain(to, query, key, value, self._sizes.padding, self._sizes.padded, merged)
        plain, chunked = to.nested(), to.nested()
        short = self._plain(plain, query, key, value, self._sizes.padding, self._sizes.padded, merged)
        return to.choose(
            _above(self._graph, self._sizes.tokens, _WHOLE),
            (chunked, self._chunks(chunked, query, key, value, merged)),
            (plain, short),
        )

    def _chunks(self, to: Branch, query: str, key: str, value: str, merged: str) -> str:
        graph = self._graph
        body = to.nested()
        turn = f"turn_{graph.serial}"
        start = body.add("Mul", turn, ints(graph, _CHUNK))
        # The last chunk repeats the last token.
        rows = body.add("Add", start, graph.weight(np.arange(_CHUNK), "inferer.chunk"))
        rows = body.add("Min", rows, _less(graph, self._sizes.tokens))
        some = body.add("Gather", query, rows, axis=0)
        context = self._context(body, some, key, value, self._sizes.padding, self._sizes.padded)
        count = to.add("Div", to.add("Add", self._sizes.tokens, ints(graph, _CHUNK - 1)), ints(graph, _CHUNK))
        stacked = to.loop(count, turn, body, body.add("Transpose", context, perm=[2, 0, 1, 3]))
        return to.add("Slice", to.add("Reshape", stacked, merged), ints(graph, 0), self._sizes.tokens, ints(graph, 0))

    def _local(self, to: Branch, query: str, key: str, value: str, window: _Window, merged: str, *, trim: bool) -> str:
        if trim:
            return self._plain(to, query, key, value, window.first_mask, window.masked, merged)
        plain, blocks = to.nested(), to.nested()
        short = self._plain(plain, query, key, value, window.mask, window.masked, merged)
        long = self._blocks(blocks, query, key, value, window, merged)
        return to.choose(_above(self._graph, self._sizes.tokens, _PLAIN), (blocks, long), (plain, short))

    def _blocks(self, to: Branch, query: str, key: str, value: str, window: _Window, merged: str) -> str:
        some = to.add("Gather", query, window.queries, axis=0)
        keys, values = (to.add("Gather", x, window.keys, axis=0) for x in (key, value))
        scores = _scores(to, some, keys)
        shares = to.add("Softmax", to.add("Add", scores, window.mask), axis=-1)
        context = to.add("FusedMatMul", shares, values, domain=MICROSOFT, transBatchB=1)
        rows = to.add("Reshape", to.add("Transpose", context, perm=[0, 3, 1, 2, 4]), merged)
        return to.add("Slice", rows, ints(self._graph, 0), self._sizes.tokens, ints(self._graph, 0))

    def _plain(self, to: Branch, query: str, key: str, value: str, mask: str, masked: str, merged: str) -> str:
        context = self._context(to, query, key, value, mask, masked)
        return to.add("Reshape", to.add("Transpose", context, perm=[2, 0, 1, 3]), merged)

    def _context(self, to: Branch, query: str, key: str, value: str, mask: str, masked: str) -> str:
        """Return the heads' output, [texts, heads, queries, head width]."""
        scores = _scores(to, query, key)
        with_mask, without = to.nested(), to.nested()
        shares = to.choose(
            masked,
            (with_mask, with_mask.add("Softmax", with_mask.add("Add", scores, mask), axis=-1)),
            (without, without.add("Softmax", scores, axis=-1)),
        )
        return to.add("FusedMatMul", shares, value, domain=MICROSOFT, transBatchB=1)


@dataclass(frozen=True)
class _Window:
    """Names of the tensors of one window, made once per run.

    mask: added to the scores; [texts, 1, tokens, tokens] up to _PLAIN tokens, else [blocks, texts, 1, _BLOCK, _KEYS].
    first_mask: [texts, 1, 2, tokens]. masked: bool, whether either is needed. queries, keys: the tokens of each block,
    int64 [_BLOCK, blocks] and [_KEYS, blocks].
    """

    mask: str
    first_mask: str
    masked: str
    queries: str
    keys: str


def _window(graph: Graph, sizes: Sizes, window: int) -> _Window:
    last = _less(graph, sizes.tokens)
    blocks = graph.add("Div", graph.add("Add", sizes.tokens, ints(graph, _BLOCK - 1)), ints(graph, _BLOCK))
    starts = graph.add("Mul", _range(graph, blocks), ints(graph, _BLOCK))
    queries = graph.add("Add", starts, graph.weight(np.arange(_BLOCK)[:, np.newaxis]))
    keys = graph.add("Add", starts, graph.weight(np.arange(-WIDEST_WINDOW, _BLOCK + WIDEST_WINDOW)[:, np.newaxis]))
    inside = graph.add("Max", graph.add("Min", keys, last), ints(graph, 0))
    row = _range(graph, sizes.tokens)
    column = graph.add("Unsqueeze", row, ints(graph, 1))
    first = graph.add("Slice", column, ints(graph, 0), sizes.first, ints(graph, 0))
    plain, long = Branch(graph), Branch(graph)
    square = plain.add("Add", _far(plain, column, row, window), sizes.padding)
    root = Branch(graph)
    root.choose(
        _above(graph, sizes.tokens, _PLAIN), (long, _block_mask(long, sizes, keys, inside, window)), (plain, square)
    )
    mask = graph.append(root.nodes)
    trimmed = Branch(graph)
    trimmed.add("Add", _far(trimmed, first, row, window), sizes.padding)
    return _Window(
        mask=mask,
        first_mask=graph.append(trimmed.nodes),
        masked=graph.add("Or", sizes.padded, _above(graph, sizes.tokens, window + 1)),
        queries=graph.add("Min", queries, last),
        keys=inside,
    )


def _block_mask(to: Branch, sizes: Sizes, keys: str, inside: str, window: int) -> str:
    graph = to.graph
    apart = np.abs(np.arange(_BLOCK)[:, np.newaxis] - np.arange(-WIDEST_WINDOW, _BLOCK + WIDEST_WINDOW))
    far = graph.weight(np.where(apart > window, -_NEGATIVE, 0).astype(np.float32))
    zero, negative = number(graph, 0), number(graph, -_NEGATIVE)
    outside = to.add("Where", to.add("Equal", keys, inside), zero, negative)
    outside = to.add("Unsqueeze", to.add("Transpose", outside, perm=[1, 0]), ints(graph, 1, 2, 3))
    # [texts, 1, 1, keys, blocks] -> [blocks, texts, 1, 1, keys]
    padding = to.add("Transpose", to.add("Gather", sizes.padding, inside, axis=3), perm=[4, 0, 1, 2, 3])
    return to.add("Add", to.add("Add", padding, outside), far)


def _far(to: Branch, queries: str, keys: str, window: int) -> str:
    """Return the mask, [queries, keys], of the tokens farther apart than `window`."""
    graph = to.graph
    apart = to.add("Abs", to.add("Sub", queries, keys))
    limit = graph.weight(np.array(window), f"inferer.window_{window}")
    return to.add("Where", to.add("Greater", apart, limit), number(graph, -_NEGATIVE), number(graph, 0))


def _scores(to: Branch, query: str, key: str) -> str:
    return to.add("FusedMatMul", query, key, domain=MICROSOFT, transBatchA=1, transBatchB=1, transB=1)


def _range(graph: Graph, count: str) -> str:
    """Return 0, 1, … up to `count`, int64 [1]."""
    scalar = graph.add("Squeeze", count)
    start, step = (graph.weight(np.array(i), f"inferer.scalar_{i}") for i in (0, 1))
    return graph.add("Range", start, scalar, step)


def _above(graph: Graph, count: str, limit: int) -> str:
    return graph.add("Greater", count, ints(graph, limit))


def _less(graph: Graph, count: str) -> str:
    return graph.add("Sub", count, ints(graph, 1))


def ints(graph: Graph, *values: int) -> str:
    """Return the constant of these integers, [n]."""
    return graph.weight(np.array(values, np.int64), f"inferer.{list(values)}")


def number(graph: Graph, value: float) -> str:
    """Return the constant of a number."""
    return graph.weight(np.array(value, np.float32), f"inferer.{value!r}")
