"""Batch invariance: int8-token gives a text the same bits alone, in any batch and with any number of threads."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export.checks.built_in_texts import built_in_texts
from inferer.bundle.reader import INT8_MODEL, TOKENIZER
from inferer.tokens.encoding import Encoder, Encoding
from tests.support import architectures
from tests.support.architectures import POSITIONS

pytestmark = pytest.mark.slow

BATCHES = (2, 3, 16, 64)
THREADS = (1, 2)
# The column of the texts, and of how many rows one is taken; benchmarks/engine.py takes all of the held-out ones.
DATA = {"conference/title_conference.csv": ("Title", 4), "rotten_tomatoes/reviews.csv": ("text", 16)}


def session(model: Path, threads: int) -> ort.InferenceSession:
    """Return the model at `model` on `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def logits(model: ort.InferenceSession, encodings: list[Encoding], size: int, pad: int) -> np.ndarray:
    """Return the logits of all, in their order, run in batches of `size` with random neighbours."""
    order = list(range(len(encodings)))
    random.Random(size).shuffle(order)
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        width = max(len(encodings[row].input_ids) for row in rows)
        feeds = {
            i.name: np.stack([padded(getattr(encodings[r], i.name).astype(np.int64), width, i.name, pad) for r in rows])
            for i in model.get_inputs()
        }
        found.update(zip(rows, model.run(["logits"], feeds)[0], strict=True))
    return np.stack([found[row] for row in range(len(encodings))])


def padded(array: np.ndarray, width: int, name: str, pad: int) -> np.ndarray:
    """Return `array` filled up to `width`: ids with the tokenizer's padding, the rest with 0."""
    return np.pad(array, (0, width - len(array)), constant_values=pad if name == "input_ids" else 0)


def differing(model: Path, texts: list[str], pad: int) -> dict[str, int]:
    """Return how many texts got other bits than alone on one thread, where any did."""
    encoder = Encoder(model.parent / TOKENIZER, POSITIONS)
    encodings = [encoder.encode_one(text) for text in texts]
    alone = logits(session(model, 1), encodings, 1, pad)
    found = {}
    for threads in THREADS:
        running = session(model, threads)
        for size in (1, *BATCHES):
            other = (logits(running, encodings, size, pad) != alone).any(axis=1).sum()
            if other:
                found[f"{threads} threads, batches of {size}"] = int(other)
    return found


def made_texts(encoder: Encoder) -> list[str]:
    """Return 150 texts, of one word up to more than is read."""
    words = " ".join(built_in_texts(encoder)).split()
    chooser = random.Random(0)
    return [" ".join(chooser.choices(words, k=chooser.randint(1, 40))) for _ in range(150)]


def pad_id(architecture: str) -> int:
    """Return the id that the architecture's tokenizer pads with; RoBERTa and its kin count positions by it."""
    return 1 if architecture in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0


@pytest.mark.parametrize("architecture", architectures.TESTED)
def test_a_texts_bits_do_not_depend_on_its_neighbours(
    architecture: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In batches of 2, 3, 16 and 64 and with 1 and 2 threads, no text gets another bit than alone."""
    bundle = architectures.bundle(tmp_path_factory, architecture)
    texts = made_texts(Encoder(bundle / TOKENIZER, POSITIONS))
    assert differing(bundle / INT8_MODEL, texts, pad_id(architecture)) == {}


@pytest.mark.parametrize("file", DATA)
@pytest.mark.parametrize("architecture", architectures.TESTED)
def test_real_texts_bits_do_not_depend_on_their_neighbours(
    architecture: str, file: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of hundreds of titles of papers, and of sentences of film reviews, none gets another bit than alone."""
    if not os.environ.get("TEST_DATA_DIR"):
        pytest.skip("TEST_DATA_DIR is not set: the folder with the real data sets")
    with (Path(os.environ["TEST_DATA_DIR"]) / file).open(encoding="utf-8", newline="") as lines:
        column, step = DATA[file]
        texts = [row[column] for row in csv.DictReader(lines)][::step]
    assert len(texts) > 500
    bundle = architectures.bundle(tmp_path_factory, architecture)
    assert differing(bundle / INT8_MODEL, texts, pad_id(architecture)) == {}


def test_int8_tensor_does_depend_on_the_batch(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The scheme of onnxruntime gives most texts other bits in a batch, so this test can fail."""
    checkpoint = architectures.checkpoint(tmp_path_factory, "bert")
    assert architectures.run_export(checkpoint, tmp_path / "bundle", "--scheme", "int8-tensor") == 0
    texts = made_texts(Encoder(tmp_path / "bundle" / TOKENIZER, POSITIONS))
    found = differing(tmp_path / "bundle" / INT8_MODEL, texts, pad_id("bert"))
    assert set(found) == {f"{threads} threads, batches of {size}" for threads in THREADS for size in BATCHES}
    assert min(found.values()) > 75
