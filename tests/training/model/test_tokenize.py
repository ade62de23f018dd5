"""Training and serving encode a text alike: the same tokens, cut at the same places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from inferer.tokens.encoding import Encoder
from tests.support.architectures import LONG_TEXT, TESTED, TEXTS, checkpoint
from training.model.tokenize import TextEncoder

# Texts of many lengths around the cut, and some that tokenizers treat specially.
MANY = (
    *TEXTS,
    LONG_TEXT,
    *(" ".join(LONG_TEXT.split()[:n]) for n in range(1, 60, 7)),
    "[SEP] inside <s> a text ",
    "a\nb",
)


@pytest.mark.parametrize("truncation", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("max_length", [5, 12, 33, 64])
@pytest.mark.parametrize("architecture", TESTED)
def test_training_and_serving_encode_a_text_alike(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, architecture: str, max_length: int, truncation: str
) -> None:
    """Token ids, mask and types are those of inferer's encoder, for every architecture, length and cut."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(tmp_path_factory, architecture))
    tokenizer.save_pretrained(tmp_path)
    served = Encoder(tmp_path / "tokenizer.json", max_length)
    cut = 0
    encoded = TextEncoder(tokenizer, max_length, truncation).encode(MANY)
    for text, row, length in zip(MANY, encoded.rows, encoded.lengths, strict=True):
        (expected,) = served.encode(text, truncation)
        assert length == expected.num_tokens
        assert row["input_ids"] == expected.input_ids.tolist()
        assert row["attention_mask"] == expected.attention_mask.tolist()
        if "token_type_ids" in row:
            assert row["token_type_ids"] == expected.token_type_ids.tolist()
        cut += expected.truncated
    assert 0 < cut < len(MANY)


def test_the_padding_and_truncation_of_a_tokenizer_s_file_have_no_effect(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A tokenizer.json with padding and truncation of its own changes neither tokens nor lengths."""
    plain = AutoTokenizer.from_pretrained(checkpoint(tmp_path_factory, "bert"))
    expected = TextEncoder(plain, 64, "head").encode(TEXTS)
    plain.backend_tokenizer.enable_padding(length=40)
    plain.backend_tokenizer.enable_truncation(4)
    plain.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]
    assert TextEncoder(AutoTokenizer.from_pretrained(tmp_path), 64, "head").encode(TEXTS) == expected
    assert TextEncoder(plain, 64, "head").encode(()).rows == []
