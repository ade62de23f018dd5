"""Texts to token ids, by the bundle's own tokenizer; how a long text is cut, and what was cut.

Knows the tokenizer's file and the number of tokens allowed, nothing of the model behind them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferer.errors import BundleError, ConfigError, EmptyTextError, TextError, TextTooLongError

# The library warns and switches itself off after a fork; one text at a time gains nothing from it anyway.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Encoding:
    """One text as a model reads it. Arrays are int64 of shape [tokens].

    num_tokens counts the whole text, special tokens included, before any cut.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    num_tokens: int
    truncated: bool


class Encoder:
    """Encode texts to at most `max_length` tokens, special tokens included. Safe to share between threads."""

    def __init__(self, tokenizer_file: Path, max_length: int) -> None:
        # Two instances, each set once here and never again: changing padding or truncation under
        # threads raises "Already borrowed" (huggingface/tokenizers#537).
        self._whole = _load(tokenizer_file)
        self._cut = _load(tokenizer_file)
        self._special: int = self._whole.num_special_tokens_to_add(is_pair=False)
        if max_length <= self._special:
            raise ConfigError("max_length", max_length, f"more than the tokenizer's {self._special} special tokens")
        self._cut.enable_truncation(max_length)
        self.max_length = max_length

    def highest_id(self) -> tuple[int, str]:
        """Return the highest token id that a text may get, and its token."""
        token, highest = max(self._whole.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        return highest, token

    def encode(self, text: str, truncation: str) -> Encoding:
        """Return the encoding of `text`.

        truncation: "head" keeps the first tokens, "error" raises TextTooLongError. Raises
        EmptyTextError when there is nothing but white space and characters that the tokenizer drops, and
        TextError for what is not Unicode text.
        """
        if not isinstance(text, str):
            raise TextError(f"a text must be a str, not {type(text).__name__}")
        if not text or text.isspace():
            raise EmptyTextError
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}"
            ) from None
        encoded = self._whole.encode(text)
        num_tokens = len(encoded.ids)
        if num_tokens <= self._special:  # NUL, zero-width marks: an answer would be about nothing
            raise EmptyTextError("the text is empty: the tokenizer keeps none of its characters")
        truncated = num_tokens > self.max_length
        if truncated:
            if truncation == "error":
                raise TextTooLongError.of(num_tokens, self.max_length)
            encoded = self._cut.encode(text)
        return Encoding(
            input_ids=np.array(encoded.ids, dtype=np.int64),
            attention_mask=np.array(encoded.attention_mask, dtype=np.int64),
            token_type_ids=np.array(encoded.type_ids, dtype=np.int64),
            num_tokens=num_tokens,
            truncated=truncated,
        )


def _load(tokenizer_file: Path) -> Tokenizer:
    """Load a tokenizer without the padding and truncation that a saved file may carry."""
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:
        raise BundleError(tokenizer_file.parent, f"{tokenizer_file.name} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
