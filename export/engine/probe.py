"""Runs of fp32 graphs on made-up token ids: statistics of activations, and proof that a rewrite kept the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import ModelProto

from export.engine.graph import Graph
from export.errors import ExportError

_TEXTS, _TOKENS = 16, 24
_SEED = 20260107
# Measured on trained models of 6 and 12 layers, by the order of sums: 3e-6 to 3e-5 of the largest logit.
_MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Channels:
    """Each channel's mean and its largest distance from the mean; float64, [width]."""

    mean: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Probe:
    """One run of a graph. feeds: inputs, [texts, tokens]; logits: [texts, labels]; channels: by tensor."""

    feeds: dict[str, np.ndarray]
    logits: np.ndarray
    channels: dict[str, Channels]


def probe(
    fp32: Path, graph: Graph, tensors: Sequence[str] = (), *, texts: int = _TEXTS, tokens: int = _TOKENS
) -> Probe:
    """Run the model `fp32`, with the graph `graph`, on padded texts of up to `tokens` tokens.

    Channels of `tensors` are over the tokens that are not padding.
    """
    feeds = _made_up(graph, texts, tokens)
    model = onnx.load(fp32)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    logits, *found = _run(model.SerializeToString(), ["logits", *tensors], feeds)
    real = feeds["attention_mask"].astype(bool)
    channels = {name: _channels(array[real].astype(np.float64)) for name, array in zip(tensors, found, strict=True)}
    return Probe(feeds, logits, channels)


def _channels(rows: np.ndarray) -> Channels:
    mean = _coarse(rows.mean(axis=0))
    return Channels(mean, _coarse(np.abs(rows - mean).max(axis=0)))


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return `values` to 8 bits, so that bundles do not depend on the rounding of the machine or of the exporter."""
    fraction, exponent = np.frexp(values)
    coarse: np.ndarray = np.ldexp(np.rint(fraction * 256) / 256, exponent)
    return coarse


def check_same(model: ModelProto, seen: Probe) -> None:
    """Raise ExportError unless `model` gives the logits of the probed model."""
    if not np.isfinite(seen.logits).all():
        return  # the comparison with torch refuses the model
    (logits,) = _run(model.SerializeToString(), ["logits"], seen.feeds)
    difference = float(np.abs(logits - seen.logits).max() / max(1.0, np.abs(seen.logits).max()))
    if not difference <= _MAX_DIFFERENCE:  # also when NaN
        raise ExportError(
            f"the rewritten encoder gives other logits: they differ by {difference:.3g} of the largest, at most "
            f"{_MAX_DIFFERENCE:g} allowed; export with --scheme int8-tensor or fp32"
        )


def _run(model: bytes, outputs: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs), feeds))


def _made_up(graph: Graph, texts: int, tokens: int) -> dict[str, np.ndarray]:
    """Return inputs for texts of many lengths, with ids drawn evenly from the vocabulary."""
    tables = [node.input[0] for node in graph.proto.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    vocabulary = graph.shape(tables[0])[0]  # the rows of the embedding table
    rng = np.random.default_rng(_SEED)
    ids = rng.integers(min(10, vocabulary - 1), vocabulary, (texts, tokens))
    mask = np.ones_like(ids)
    for row, length in enumerate(rng.integers(3, tokens + 1, texts)):
        mask[row, length:] = 0
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {i.name: given[i.name] for i in graph.proto.input}
