"""Texts to token ids, by the bundle's own tokenizer; how a long text is cut, and what was cut.

Knows the tokenizer's file and the number of tokens allowed, nothing of the model behind them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.reader import ERROR, HEAD, HEAD_TAIL, TAIL, WINDOWS
from inferer.errors import BundleError, ConfigError, EmptyTextError, TextError, TextTooLongError

# The library warns and switches itself off after a fork; one text at a time gains nothing from it anyway.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

# Of what a model with 510 tokens for the text reads, 128 are its first and 382 its last: the best cut of long texts in
# Sun et al., How to Fine-Tune BERT for Text Classification? (arXiv 1905.05583), 5.3.1. Kept as a share.
_HEAD_SHARE = 128 / 510


@dataclass(frozen=True, slots=True)
class Encoding:
    """One text, or one window of it, as a model reads it. Arrays are int64 of shape [tokens].

    num_tokens counts the whole text, special tokens included, before any cut; truncated says whether some of it is
    read nowhere. own_tokens: how many of `input_ids` are the text's; those from place `first_own` on. gap: the place
    before which tokens of the text were left out; None where none were. spans: the characters [tokens, 2] that each
    token was made of, from and to, equal for special tokens; None where nobody asked.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    num_tokens: int
    truncated: bool
    own_tokens: int
    first_own: int = 0
    gap: int | None = None
    spans: NDArray[np.int64] | None = None

    def without(self, places: NDArray[np.bool_]) -> Encoding:
        """Return the encoding, to be run, less the tokens of the text where `places`, bool [tokens], is true."""
        kept = ~places
        return Encoding(
            self.input_ids[kept],
            self.attention_mask[kept],
            self.token_type_ids[kept],
            self.num_tokens,
            self.truncated,
            self.own_tokens - int(places.sum()),
            self.first_own,
        )


class Encoder:
    """Encode texts to at most `max_length` tokens, special tokens included. Safe to share between threads.

    overlap: tokens that neighbouring windows share.
    """

    def __init__(self, tokenizer_file: Path, max_length: int, overlap: int = 0) -> None:
        # Set once here and never again: changing padding or truncation under threads raises "Already borrowed"
        # (huggingface/tokenizers#537). Cuts are made here, of the whole text's tokens.
        self._tokenizer = _load(tokenizer_file)
        self._special: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= self._special:
            raise ConfigError("max_length", max_length, f"more than the tokenizer's {self._special} special tokens")
        self.max_length = max_length
        self._room = max_length - self._special
        self.overlap = min(overlap, self._room // 2)  # where a caller's config allows fewer tokens than the bundle

    def highest_id(self) -> tuple[int, str]:
        """Return the highest token id that a text may get, and its token."""
        token, highest = max(self._tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        return highest, token

    def encode_one(self, text: str) -> Encoding:
        """Encode `text`, cut after the first tokens when it is too long. Errors as `encode`."""
        return self.encode(text, HEAD)[0]

    def encode(self, text: str, truncation: str, *, spans: bool = False) -> tuple[Encoding, ...]:
        """Return what is run for `text`: its windows when `truncation` is "windows", else one encoding; in order.

        "head" keeps the first tokens, "tail" the last, "head_tail" the first quarter and the last three, "error"
        raises TextTooLongError. Windows are as long as the model reads, and each shares `overlap` tokens with the one
        before; the last is what is left. Special tokens stay where they are in all of them, and a text that fits is
        whole. spans: whether the encodings say which characters their tokens were made of. Raises EmptyTextError when
        there is nothing but white space and characters that the tokenizer drops, and TextError for what is not Unicode
        text.
        """
        whole = _Whole(self._tokens(text), self._special, spans=spans)
        own, room = whole.own, self._room
        if own <= room:
            return (whole.part((0, own)),)
        if truncation == WINDOWS:
            starts = range(0, own - self.overlap, room - self.overlap)
            return tuple(whole.part((start, min(start + room, own))) for start in starts)
        if truncation == ERROR:
            raise TextTooLongError.of(own + self._special, self.max_length)
        if truncation == TAIL:
            return (whole.part((own - room, own), truncated=True),)
        if truncation == HEAD_TAIL:
            first = round(room * _HEAD_SHARE)
            return (whole.part((0, first), (own - room + first, own), truncated=True),)
        return (whole.part((0, room), truncated=True),)

    def _tokens(self, text: str) -> Tokens:
        """Return the tokens of the whole text; raises TextError where it cannot be read."""
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
        tokens = self._tokenizer.encode(text)
        if len(tokens.ids) <= self._special:  # NUL, zero-width marks: an answer would be about nothing
            raise EmptyTextError("the text is empty: the tokenizer keeps none of its characters")
        return tokens


class _Whole:
    """A text's tokens, of which encodings are cut: the special ones before and after, the text's own between.

    One that stands in the text itself, such as "[SEP]", counts as the text's own.
    """

    def __init__(self, tokens: Tokens, special: int, *, spans: bool) -> None:
        values = [tokens.ids, tokens.attention_mask, tokens.type_ids]
        self._values = [np.array(one, dtype=np.int64) for one in values]
        self._spans = np.array(tokens.offsets, dtype=np.int64) if spans else None
        self._size = len(tokens.ids)
        self._special = special
        self._before = 0
        while self._before < special and tokens.special_tokens_mask[self._before]:
            self._before += 1
        self.own = self._size - special

    def part(self, *ranges: tuple[int, int], truncated: bool = False) -> Encoding:
        """Return the text's own tokens in `ranges` with the special tokens around them."""
        end = self._before + self.own
        slices = [slice(self._before + first, self._before + last) for first, last in ranges]
        slices = [slice(self._before), *slices, slice(end, self._size)]

        def taken(values: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.concatenate([values[one] for one in slices])

        ids, mask, types = map(taken, self._values)
        return Encoding(
            input_ids=ids,
            attention_mask=mask,
            token_type_ids=types,
            num_tokens=self._size,
            truncated=truncated,
            own_tokens=len(ids) - self._special,
            first_own=self._before,
            gap=self._before + ranges[0][1] if len(ranges) > 1 else None,
            spans=None if self._spans is None else taken(self._spans),
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
