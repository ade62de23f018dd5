"""The threads and the runs side by side that fit a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inferer import ConfigError, ModelInferer
from inferer.bundle.reader import INT8_MODEL, INT8_TOKEN, read_bundle
from inferer.session import parallelism

MB = 1_000_000


@pytest.mark.parametrize(
    ("model", "file_mb", "embeddings", "found"),
    [
        ("MiniLM-L6", 24, (30_522, 384), {1: (1, 1), 2: (1, 2), 16: (1, 16)}),
        ("MiniLM-L12, many languages", 118, (250_037, 384), {2: (1, 2)}),
        ("DistilBERT", 67, (30_522, 768), {1: (1, 1), 2: (2, 1), 4: (4, 2), 16: (4, 8)}),
        ("XLM-RoBERTa", 278, (250_002, 768), {2: (2, 1)}),
        ("a model whose width is unknown", 67, (30_522, 0), {2: (2, 1)}),
    ],
)
def test_the_size_of_the_products_decides(
    tiny_bundle: Path,
    tmp_path: Path,
    model: str,
    file_mb: int,
    embeddings: tuple[int, int],
    found: dict[int, tuple[int, int]],
) -> None:
    """A model with few weights beside its embeddings has one thread per run; a large one shares threads."""
    with (tmp_path / INT8_MODEL).open("wb") as file:
        file.truncate(file_mb * MB)
    rows, width = embeddings
    bundle = replace(read_bundle(tiny_bundle), path=tmp_path, vocab_size=rows, embedding_width=width, scheme=INT8_TOKEN)
    assert {cpus: parallelism(bundle, cpus) for cpus in found} == found, model


def test_a_callers_choice_counts(tiny_bundle: Path) -> None:
    """Chosen threads mean one run at a time, unless the caller chooses runs too."""
    bundle = read_bundle(tiny_bundle)
    assert parallelism(bundle, 4, threads=3) == (3, 1)
    assert parallelism(bundle, 4, threads=1, runs=2) == (1, 2)
    assert parallelism(bundle, 4, runs=7) == (1, 7)


@pytest.mark.parametrize("name", ["intra_op_threads", "parallel_runs", "cpus"])
def test_a_wrong_count_is_refused(tiny_bundle: Path, name: str) -> None:
    """The error names the option, its value and the allowed ones."""
    with pytest.raises(ConfigError, match=f"{name}.*0.*whole number from 1 to 1024"):
        ModelInferer(tiny_bundle, **{name: 0})


def test_predictions_keep_their_bits_whatever_runs_beside_them(tiny_bundle: Path) -> None:
    """One run at a time or three side by side: the same scores for each of many texts."""
    texts = [f"good {'odd ' * (i % 40)}plain" for i in range(120)]
    one = ModelInferer(tiny_bundle, intra_op_threads=1).predict_batch(texts)
    assert ModelInferer(tiny_bundle, intra_op_threads=1, parallel_runs=3).predict_batch(texts) == one
