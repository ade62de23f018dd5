"""Token ids of texts: special tokens, truncation, and texts that are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferer.errors import BundleError, ConfigError, EmptyTextError, TextError, TextTooLongError
from inferer.tokens.encoding import Encoder
from tests.support import tiny


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    """The tiny bundle's encoder: words are tokens, 8 tokens at most."""
    return Encoder(tiny_bundle / "tokenizer.json", tiny.MAX_LENGTH)


def test_a_text_gets_its_special_tokens_and_counts_them(encoder: Encoder) -> None:
    """The ids of a short text are [CLS] words [SEP], and all of them are counted."""
    encoding = encoder.encode_one("good unknown")
    assert encoding.input_ids.tolist() == [2, 4, 1, 3]
    assert encoding.attention_mask.tolist() == [1, 1, 1, 1]
    assert encoding.token_type_ids.tolist() == [0, 0, 0, 0]
    assert (encoding.num_tokens, encoding.truncated) == (4, False)


def test_head_keeps_the_first_tokens_and_reports_the_cut(encoder: Encoder) -> None:
    """A long text loses its end, keeps [SEP], and reports its length and its truncation."""
    encoding = encoder.encode_one("good bad odd plain good bad odd")
    assert encoding.input_ids.tolist() == [2, 4, 5, 6, 7, 4, 5, 3]
    assert (encoding.num_tokens, encoding.truncated) == (9, True)


def test_a_text_of_exactly_the_limit_is_not_cut(encoder: Encoder) -> None:
    """A text of max_length tokens is not truncated."""
    (encoding,) = encoder.encode("good bad odd plain good bad", "error")
    assert (encoding.num_tokens, encoding.truncated) == (8, False)


def test_error_refuses_a_long_text_with_both_numbers(encoder: Encoder) -> None:
    """Truncation "error" refuses a long text, with its length and the limit."""
    with pytest.raises(TextTooLongError, match="has 9 tokens, at most 8"):
        encoder.encode("good bad odd plain good bad odd", "error")


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003\u00a0"])
def test_white_space_alone_is_refused(encoder: Encoder, text: str) -> None:
    """An empty text, or one of white space of any kind, is refused."""
    with pytest.raises(EmptyTextError, match="the text is empty"):
        encoder.encode_one(text)


def test_a_lone_surrogate_is_refused_by_place(encoder: Encoder) -> None:
    """A lone surrogate is refused, with its code and its place."""
    with pytest.raises(TextError, match=r"lone surrogate \(U\+D83D\) at character 5"):
        encoder.encode_one("good \ud83d")


@pytest.mark.parametrize("text", ["\x00", "\u200b", "\ufeff", "\u0301", "\ufe0f\u00ad"])
def test_a_text_of_dropped_characters_is_empty(demo_bundle: Path, text: str) -> None:
    """A text of characters that the tokenizer drops is refused as empty."""
    demo = Encoder(demo_bundle / "tokenizer.json", 64)
    with pytest.raises(EmptyTextError, match="keeps none of its characters"):
        demo.encode_one(text)
    assert demo.encode_one(f"a{text}").num_tokens >= 3


@pytest.mark.parametrize("value", [None, 3, b"good", ["good"]])
def test_a_value_other_than_str_is_refused_by_type(encoder: Encoder, value: object) -> None:
    """A value other than a str is refused with a TextError that names its type."""
    with pytest.raises(TextError, match=f"must be a str, not {type(value).__name__}"):
        encoder.encode_one(value)  # type: ignore[arg-type]


@given(st.text())
def test_any_text_is_refused_or_fits(encoder: Encoder, text: str) -> None:
    """Any text is encoded within the limit with its special tokens, or refused as empty or a lone surrogate."""
    try:
        encoding = encoder.encode_one(text)
    except TextError:
        lost = any("\ud800" <= c <= "\udfff" for c in text)
        assert lost or not tiny.tokenizer().encode(text, add_special_tokens=False).ids
        return
    ids = encoding.input_ids.tolist()
    assert (ids[0], ids[-1]) == (2, 3)
    assert len(ids) == min(encoding.num_tokens, tiny.MAX_LENGTH)
    assert encoding.truncated == (encoding.num_tokens > tiny.MAX_LENGTH)


def test_padding_and_truncation_left_in_the_file_are_not_applied(tmp_path: Path) -> None:
    """A tokenizer saved with padding and truncation neither pads nor cuts."""
    tokenizer = tiny.tokenizer()
    tokenizer.enable_padding(length=6)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoding = Encoder(tmp_path / "tokenizer.json", 8).encode_one("good bad")
    assert encoding.input_ids.tolist() == [2, 4, 5, 3]


def test_many_threads_share_one_encoder(encoder: Encoder) -> None:
    """Encoding from many threads, cut and uncut in turn, gives each text the ids that it gets alone."""
    texts = [" ".join(["good", "bad", "odd"][i % 3] for i in range(n % 12 + 1)) for n in range(600)]
    alone = [encoder.encode_one(text).input_ids.tolist() for text in texts]
    with ThreadPoolExecutor(16) as pool:
        shared = list(pool.map(lambda text: encoder.encode_one(text).input_ids.tolist(), texts))
    assert shared == alone


def test_a_limit_without_room_for_text_is_refused(tiny_bundle: Path) -> None:
    """A max_length of 2 is refused, because the special tokens fill it."""
    with pytest.raises(ConfigError, match="max_length: 2 .* 2 special tokens"):
        Encoder(tiny_bundle / "tokenizer.json", 2)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    """A damaged tokenizer.json ends in a BundleError that names it."""
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BundleError, match="tokenizer.json cannot be read"):
        Encoder(tmp_path / "tokenizer.json", 8)
