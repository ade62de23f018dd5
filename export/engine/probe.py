"""Run fp32 graphs on made-up token ids: what their activations look like, and whether a rewriting kept the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import GraphProto, ModelProto

from export.engine.graph import Graph
from export.errors import ExportError

_TEXTS, _TOKENS = 16, 24
_SEED = 20260107
# Measured 3e-6 to 3e-5 of the largest logit on trained models of 6 and 12 layers: the order of sums differs.
_MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Channels:
    """What the channels of a tensor hold: their mean, and the farthest from it; both float64, [width]."""

    mean: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Probe:
    """What a graph gave. feeds: its inputs, [texts, tokens]; logits: [texts, labels]; channels: by tensor."""

    feeds: dict[str, np.ndarray]
    logits: np.ndarray
    channels: dict[str, Channels]


def probe(fp32: Path, graph: Graph, tensors: Sequence[str]) -> Probe:
    """Run the model `fp32`, whose graph is `graph`, on padded texts; report on the channels of `tensors`.

    Over the tokens that are not padding.
    """
    feeds = _made_up(graph)
    model = onnx.load(fp32)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    logits, *found = _run(model.SerializeToString(), ["logits", *tensors], feeds)
    real = feeds["attention_mask"].astype(bool)
    channels = {name: _channels(array[real].astype(np.float64)) for name, array in zip(tensors, found, strict=True)}
    return Probe(feeds, logits, channels)


def _channels(rows: np.ndarray) -> Channels:
    mean = rows.mean(axis=0)
    return Channels(mean, np.abs(rows - mean).max(axis=0))


def check_same(model: ModelProto, seen: Probe) -> None:
    """Raise ExportError unless `model` answers as the one that was probed.

    What was not finite there says nothing here; the comparison with torch will refuse it.
    """
    if not np.isfinite(seen.logits).all():
        return
    (logits,) = _run(model.SerializeToString(), ["logits"], seen.feeds)
    difference = float(np.abs(logits - seen.logits).max() / max(1.0, np.abs(seen.logits).max()))
    if not difference <= _MAX_DIFFERENCE:  # also when it is not a number
        raise ExportError(
            f"the encoder was rewritten to one that answers differently: logits differ by {difference:.3g} of the "
            f"largest, at most {_MAX_DIFFERENCE:g} allowed; export with --scheme int8-tensor or fp32"
        )


def _run(model: bytes, outputs: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs), feeds))


def _made_up(graph: Graph) -> dict[str, np.ndarray]:
    """Return inputs: ids drawn evenly from the vocabulary, texts of many lengths."""
    vocabulary = _vocabulary(graph.proto, graph)
    rng = np.random.default_rng(_SEED)
    ids = rng.integers(min(10, vocabulary - 1), vocabulary, (_TEXTS, _TOKENS))
    mask = np.ones_like(ids)
    for row, length in enumerate(rng.integers(3, _TOKENS + 1, _TEXTS)):
        mask[row, length:] = 0
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {i.name: given[i.name] for i in graph.proto.input}


def _vocabulary(proto: GraphProto, graph: Graph) -> int:
    """Return the number of rows of the table that input_ids are looked up in."""
    tables = [node.input[0] for node in proto.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    return graph.shape(tables[0])[0]
