"""Which layers int8 hurts most: each is quantized alone, and what that changes is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.guard.compare import divergence
from export.logits import TextReader, compute_logits

# Enough to tell a layer that matters from one that does not; each layer costs a quantization and these runs.
SAMPLE = 64

# Writes the int8 model with these layers left in fp32; returns how many matrix products are int8.
Quantizer = Callable[[Path, Collection[str]], int]


@dataclass(frozen=True)
class Sensitivity:
    """One layer, and the mean KL(fp32||int8) in nats over `n` texts when only that layer is int8."""

    layer: str
    kl: float
    n: int


def sample_of(n: int) -> np.ndarray:
    """Return the places of at most SAMPLE of `n` texts, evenly spread, for files are often sorted by label."""
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).round().astype(int))


def rank_layers(
    layers: Sequence[str],
    quantizer: Quantizer,
    scratch: Path,
    reader: TextReader,
    sample: tuple[Sequence[str], np.ndarray, str],
) -> list[Sensitivity]:
    """Return every layer with its sensitivity, the most sensitive first; equal ones in the model's order.

    scratch: a folder for the trial models. sample: texts, their fp32 logits and the problem type.
    What a scheme quantizes beside the layers (int8-tensor: the embeddings) is in every measurement
    alike. Source: layer-wise sensitivity by KL divergence, as in ZeroQ (Cai et al., arXiv 2001.00281).
    """
    texts, fp32_logits, problem_type = sample
    found = []
    bar = tqdm(layers, desc="measuring each layer", unit="layer", leave=False, file=sys.stderr, position=1)
    trial = scratch / "one_layer.onnx"
    for layer in bar:
        quantizer(trial, [other for other in layers if other != layer])
        logits = compute_logits(trial, reader, texts, None)
        found.append(Sensitivity(layer, float(divergence(fp32_logits, logits, problem_type).mean()), len(texts)))
    trial.unlink(missing_ok=True)
    return sorted(found, key=lambda one: -one.kl)
