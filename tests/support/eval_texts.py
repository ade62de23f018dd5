"""CSVs of texts to measure int8 on, and checkpoints with a chosen layer that int8 ruins."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support import architectures
from tests.support.architectures import LABELS

_WORDS = (
    "the quick brown fox jumps over lazy dog not worth money sadly best purchase ever parcel came two days late box"
)


def texts(count: int, seed: int = 0) -> list[str]:
    """Return `count` different texts of 2 to 9 known words."""
    chooser = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(chooser.choices(_WORDS.split(), k=chooser.randint(2, 9)))] = None
    return list(found)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def labelled_by_torch(path: Path, checkpoint: Path, count: int) -> Path:
    """Write `count` texts with the labels that the checkpoint itself gives: its accuracy there is 100 %."""
    listed = texts(count)
    best = architectures.torch_logits(checkpoint, listed).argmax(axis=1)
    return write_rows(path, ("text", "label"), [(text, LABELS[i]) for text, i in zip(listed, best, strict=True)])


def with_outlier(checkpoint: Path, target: Path, *layers: str) -> Path:
    """Copy `checkpoint` with one huge activation before each of `layers`, which that layer ignores.

    layers: pairs "first>second", the layers around a GELU. The first's bias makes unit 0 huge, the second's
    weights for it are zero: fp32 answers alike whatever its size, int8's activation scale is spent on it.
    """
    folder = architectures.copy_of(checkpoint, target)
    file = folder / "model.safetensors"
    weights = load_file(file)
    for pair in layers:
        first, second = pair.split(">")
        weights[f"{first}.bias"][0] = 3000.0
        weights[f"{second}.weight"][:, 0] = 0.0
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def with_outlier_embedding(checkpoint: Path, target: Path, token: int, size: float = 3000.0) -> Path:
    """Copy `checkpoint` with a huge embedding for `token`, which no text has: int8-tensor's embeddings drown in it.

    size: of the embedding, where those of other tokens are about 1.
    """
    folder = architectures.copy_of(checkpoint, target)
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][token] = torch.full_like(weights[name][token], size)
    save_file(weights, file, metadata={"format": "pt"})
    return folder
