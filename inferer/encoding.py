"""Token ids of texts by the bundle's own tokenizer, and the truncation of long texts.

Needs the tokenizer's file and the number of tokens allowed, and nothing of the model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.files import MOST_JSON_BYTES, contents
from inferer.bundle.reader import ERROR, HEAD, HEAD_TAIL, TAIL, WINDOWS
from inferer.errors import BundleError, ConfigError, EmptyTextError, TextError, TextTooLongError

# The library warns and switches its parallelism off after a fork; one text at a time gains nothing from it anyway.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The model's input for one text or one window of it. Arrays are int64 of shape [tokens].

    num_tokens: tokens of the whole text before truncation, special tokens included. truncated: whether some of them
    are in no encoding. own_tokens: how many of `input_ids` belong to the text, from place `first_own` on. gap: the
    place where tokens were cut out of the middle; None without a cut. spans: the half-open range of characters
    [tokens, 2] behind each token, empty for special tokens; None unless requested.
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
        """Return the input without the text's tokens at `places`, bool [tokens]; spans and gap are lost."""
        inputs = {name: getattr(self, name)[~places] for name in INPUTS}
        return replace(self, **inputs, own_tokens=self.own_tokens - int(places.sum()), gap=None, spans=None)


def kept_from_start(room: int, truncation: str) -> int:
    """Return how many of the `room` tokens kept of a long text come from its start; the others come from its end.

    "head_tail" takes 128 of 510: the best cut of long texts in Sun et al., How to Fine-Tune BERT for Text
    Classification? (arXiv 1905.05583), 5.3.1, kept as a share.
    """
    return {TAIL: 0, HEAD_TAIL: round(room * 128 / 510)}.get(truncation, room)


class Encoder:
    """Encode texts to at most `max_length` tokens, special tokens included. Safe to share between threads.

    overlap: tokens that neighbouring windows share. sha256: the SHA-256 that the file must have, in hex; None: any.
    """

    def __init__(self, tokenizer_file: Path, max_length: int, overlap: int = 0, *, sha256: object = None) -> None:
        data = contents(tokenizer_file, sha256, MOST_JSON_BYTES)
        # Configured once: changing padding or truncation under threads raises "Already borrowed"
        # (huggingface/tokenizers#537). The library encodes the whole text, and this class truncates.
        try:
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:
            raise BundleError(tokenizer_file.parent, f"{tokenizer_file.name} cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= self._special:
            raise ConfigError("max_length", max_length, f"more than the tokenizer's {self._special} special tokens")
        self.max_length = max_length
        self._room = max_length - self._special
        self.overlap = min(overlap, self._room // 2)  # a caller's config may allow fewer tokens than the bundle

    def highest_id(self) -> tuple[int, str]:
        """Return the highest token id that the tokenizer may produce, and its token."""
        token, highest = max(self._tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        return highest, token

    def encode_one(self, text: str) -> Encoding:
        """Encode `text`, truncated at its end. Errors as `encode`."""
        return self.encode(text, HEAD)[0]

    def encode(self, text: str, truncation: str, *, spans: bool = False) -> tuple[Encoding, ...]:
        """Encode `text`: into its windows, in order, with truncation "windows", else into one encoding.

        "head" keeps the first tokens of a long text, "tail" the last, "head_tail" a quarter from the start and three
        from the end; "error" raises TextTooLongError. Windows are as long as the model allows, each shares `overlap`
        tokens with the one before, and the last has the rest. All keep special tokens. spans: whether to fill `spans`.
        Raises EmptyTextError for a text without tokens of its own, and TextError for a value that is not Unicode text.
        """
        whole = _Whole(self._tokens(text), self._special, spans=spans)
        own, room = whole.own, self._room
        if own <= room:
            return (whole.part((0, own)),)
        if truncation == WINDOWS:
            starts = range(0, own - self.overlap, room - self.overlap)
            return tuple(whole.part((start, min(start + room, own))) for start in starts)
        if truncation == ERROR:
            problem = f"the text has {own + self._special} tokens, at most {self.max_length} are allowed"
            raise TextTooLongError(f"{problem} with truncation 'error'")
        first = kept_from_start(room, truncation)
        ranges = [(start, end) for start, end in ((0, first), (own - room + first, own)) if start < end]
        return (whole.part(*ranges, truncated=True),)

    def _tokens(self, text: str) -> Tokens:
        """Return the tokens of the whole text; raises TextError for a text that cannot be encoded."""
        if not isinstance(text, str):
            raise TextError(f"a text must be a str, not {type(text).__name__}")
        if not text or text.isspace():
            raise EmptyTextError
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            at = error.start
            raise TextError(f"the text has a lone surrogate (U+{ord(text[at]):04X}) at character {at}") from None
        tokens = self._tokenizer.encode(text)
        if len(tokens.ids) <= self._special:  # NUL, zero-width marks: a prediction would be about nothing
            raise EmptyTextError("the text is empty: the tokenizer keeps none of its characters")
        return tokens


class _Whole:
    """The tokens of a whole text: special tokens before and after, the text's own tokens between.

    A special token inside the text itself, such as "[SEP]", counts as the text's own.
    """

    def __init__(self, tokens: Tokens, special: int, *, spans: bool) -> None:
        columns = [tokens.ids, tokens.attention_mask, tokens.type_ids, *([tokens.offsets] if spans else [])]
        self._columns = [np.array(column, dtype=np.int64) for column in columns]
        self._size = len(tokens.ids)
        self._before = [*tokens.special_tokens_mask[:special], 0].index(0)
        self.own = self._size - special

    def part(self, *ranges: tuple[int, int], truncated: bool = False) -> Encoding:
        """Return the text's own tokens in `ranges`, with the special tokens around them."""
        first = self._before
        own = [slice(first + start, first + end) for start, end in ranges]
        slices = [slice(first), *own, slice(first + self.own, self._size)]
        ids, mask, types, *spans = (np.concatenate([column[one] for one in slices]) for column in self._columns)
        own_tokens = len(ids) - (self._size - self.own)
        gap = first + ranges[0][1] if len(ranges) > 1 else None
        return Encoding(ids, mask, types, self._size, truncated, own_tokens, first, gap, *spans)
