"""ModernBERT: variants are recognized and keep their logits; the bits of a text do not depend on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import ModernBertConfig, ModernBertForSequenceClassification

from export.checks.built_in_texts import MOST_TOKENS, built_in_texts
from export.engine.graph import Graph
from export.engine.onnx_model import to_onnx, token_linears
from export.engine.pre_norm.layers import find_pre_norm_layers
from export.engine.quantize import Quantizer
from inferer import ModelInferer
from inferer.bundle.reader import INT8_TOKEN, TOKENIZER, read_bundle
from inferer.tokens.encoding import Encoder
from tests.support.architectures import TEXTS, run_export, torch_logits, write_checkpoint

pytestmark = pytest.mark.slow

VOCABULARY = 200
VARIANTS: dict[str, dict[str, Any]] = {
    "first token": {},
    "mean": {"classifier_pooling": "mean"},
    "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
    "silu": {"hidden_activation": "silu", "layer_types": ["sliding_attention"] * 3},
    "window of 128": {"local_attention": 128, "classifier_pooling": "mean"},
}
# Shorter and longer than a window, a block and a chunk of queries, with the lengths at which attention changes its way.
LENGTHS = (1, 2, 3, 9, 17, 64, 65, 66, 100, 255, 256, 257, 300, 511, 512, 513, 600)


def converted(folder: Path, **changes: Any) -> tuple[Path, dict[str, int]]:
    """Write a random ModernBERT as fp32 ONNX; return the file and the calls of its linear layers."""
    torch.manual_seed(0)
    config = ModernBertConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "local_attention": 8,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "num_labels": 3,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 0),
            **changes,
        }
    )
    model = ModernBertForSequenceClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.1)
    to_onnx(model, folder / "fp32.onnx")
    return folder / "fp32.onnx", token_linears(model)


def texts() -> list[np.ndarray]:
    """Return token ids of texts of LENGTHS."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCABULARY, length) for length in LENGTHS]


def loaded(model: Path, threads: int = 1) -> ort.InferenceSession:
    """Return the model on `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answers(session: ort.InferenceSession, batch: list[np.ndarray]) -> np.ndarray:
    """Return the logits of a batch."""
    width = max(map(len, batch))
    feeds = {
        "input_ids": np.stack([np.pad(ids, (0, width - len(ids))) for ids in batch]),
        "attention_mask": np.stack([(np.arange(width) < len(ids)).astype(np.int64) for ids in batch]),
    }
    logits: np.ndarray = session.run(["logits"], feeds)[0]
    return logits


def batches(size: int) -> Iterator[list[int]]:
    """Yield the texts in batches of `size`, long beside short."""
    order = np.random.default_rng(size).permutation(len(LENGTHS))
    for start in range(0, len(order), size):
        yield list(order[start : start + size])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_recognized_and_answers_alike_in_any_batch(variant: str, tmp_path: Path) -> None:
    """Every layer is int8 and in six products, near fp32, and a text's bits are the same beside any other."""
    fp32, linears = converted(tmp_path, **VARIANTS[variant])
    assert len(find_pre_norm_layers(Graph(onnx.load(fp32)))) == 3
    int8 = tmp_path / "int8.onnx"
    # The quantizer itself demands that the rewritten encoder gives the logits of the exported one.
    assert Quantizer(fp32, linears, INT8_TOKEN)(int8) == 6 * 3
    made = texts()
    sessions = {threads: loaded(int8, threads) for threads in (1, 2)}
    exported = loaded(fp32)
    alone = np.concatenate([answers(sessions[1], [ids]) for ids in made])
    expected = np.concatenate([answers(exported, [ids]) for ids in made])
    assert np.ptp(expected) > 0.2
    assert np.abs(alone - expected).max() < 0.1 * np.ptp(expected)
    for size, threads in ((2, 1), (3, 2), (16, 1), (len(made), 2)):
        for rows in batches(size):
            np.testing.assert_array_equal(answers(sessions[threads], [made[row] for row in rows]), alone[rows])


def test_a_wider_window_stays_as_exported(tmp_path: Path) -> None:
    """A window too wide for blocks is left alone: all int8, near fp32."""
    fp32, linears = converted(tmp_path, local_attention=140)
    assert Quantizer(fp32, linears, INT8_TOKEN)(tmp_path / "int8.onnx") == 4 * 3
    long = texts()[-1:]
    assert np.abs(answers(loaded(tmp_path / "int8.onnx"), long) - answers(loaded(fp32), long)).max() < 0.1


def test_a_checkpoint_of_long_texts_is_checked_on_shorter_ones(tmp_path: Path) -> None:
    """Attention in fp32 takes memory by the square of the tokens; the bundle reads its longest text all the same."""
    longest = 4096
    folder = write_checkpoint(tmp_path / "long", "modernbert", max_position_embeddings=longest)
    assert run_export(folder, tmp_path / "bundle", "--max-length", longest) == 0
    encoder = Encoder(tmp_path / "bundle" / TOKENIZER, longest)
    golden = [encoder.encode_one(one["text"]).num_tokens for one in read_bundle(tmp_path / "bundle").manifest["golden"]]
    built_in = [encoder.encode_one(text).num_tokens for text in built_in_texts(encoder)]
    for tokens in (golden, built_in):
        assert MOST_TOKENS // 2 < max(tokens) < 2 * MOST_TOKENS
    text = " ".join(TEXTS * 100)
    assert encoder.encode_one(text).num_tokens > longest
    expected = torch_logits(folder, (text, *TEXTS), longest)
    found = ModelInferer(tmp_path / "bundle", intra_op_threads=1).logits(text)
    assert np.abs(found - expected[0]).max() < 0.1 * np.ptp(expected)
