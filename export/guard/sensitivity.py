"""Sensitivity of layers to int8: each is quantized alone and its effect measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.engine.quantize import Quantizer
from export.guard.compare import divergence
from export.logits import TextReader, compute_logits

SAMPLE = 64  # texts: enough to find the layers that matter; each layer costs a quantization and these runs


@dataclass(frozen=True)
class Sensitivity:
    """One layer, and the mean KL(fp32||int8) in nats over `n` texts when only that layer is int8."""

    layer: str
    kl: float
    n: int


def sample_of(n: int) -> np.ndarray:
    """Return the places of at most SAMPLE of `n` texts, spread evenly because files are often sorted by label."""
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).round().astype(int))


def rank_layers(
    quantizer: Quantizer, scratch: Path, reader: TextReader, texts: Sequence[str], fp32: np.ndarray, problem_type: str
) -> list[Sensitivity]:
    """Return every layer with its sensitivity, most sensitive first; equal ones in the model's order.

    scratch: a folder for the trial models. fp32: that model's logits of `texts`. Tensors that a scheme quantizes beside
    the layers (int8-tensor: the embeddings) affect every measurement alike. Source: layer-wise sensitivity by KL
    divergence, as in ZeroQ (Cai et al., arXiv 2001.00281).
    """
    found = []
    layers = quantizer.layers
    bar = tqdm(layers, desc="measuring each layer", unit="layer", leave=False, file=sys.stderr, position=1)
    trial = scratch / "one_layer.onnx"
    for layer in bar:
        quantizer(trial, [other for other in layers if other != layer])
        logits = compute_logits(trial, reader, texts, None)
        found.append(Sensitivity(layer, float(divergence(fp32, logits, problem_type).mean()), len(texts)))
    trial.unlink(missing_ok=True)
    return sorted(found, key=lambda one: -one.kl)
