"""Training reads a text as serving does: the same tokens, cut at the same places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from inferer.encoding import Encoder
from tests.support.architectures import LONG_TEXT, TESTED, TEXTS, checkpoint
from training.model.tokenize import encode, lengths_of

# Texts of many lengths around the cut, and some that tokenizers treat apart.
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
def test_training_and_serving_read_a_text_alike(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, architecture: str, max_length: int, truncation: str
) -> None:
    """Token ids, mask and types are those of inferer's encoder, for every architecture, length and cut."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(tmp_path_factory, architecture))
    tokenizer.save_pretrained(tmp_path)
    served = Encoder(tmp_path / "tokenizer.json", max_length)
    cut = 0
    for text, row in zip(MANY, encode(tokenizer, MANY, max_length, truncation), strict=True):
        expected = served.encode(text, truncation)[0]
        assert row["input_ids"] == expected.input_ids.tolist()
        assert row["attention_mask"] == expected.attention_mask.tolist()
        if "token_type_ids" in row:
            assert row["token_type_ids"] == expected.token_type_ids.tolist()
        cut += expected.truncated
    assert 0 < cut < len(MANY)


def test_what_a_tokenizer_s_file_says_of_padding_and_truncation_is_not_obeyed(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A tokenizer.json that pads and truncates by itself changes neither tokens nor lengths."""
    plain = AutoTokenizer.from_pretrained(checkpoint(tmp_path_factory, "bert"))
    expected = encode(plain, TEXTS, 64, "head")
    plain.backend_tokenizer.enable_padding(length=40)
    plain.backend_tokenizer.enable_truncation(4)
    plain.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]
    odd = AutoTokenizer.from_pretrained(tmp_path)
    assert encode(odd, TEXTS, 64, "head") == expected
    assert lengths_of(odd, TEXTS) == [len(row["input_ids"]) for row in expected]


def test_no_texts_give_no_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing in, nothing out."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(tmp_path_factory, "bert"))
    assert encode(tokenizer, (), 64, "head") == []
    assert lengths_of(tokenizer, ()) == []
