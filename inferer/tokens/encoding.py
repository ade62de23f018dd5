"""Token ids of texts by the bundle's own tokenizer, and the truncation of long texts.

Needs the tokenizer's file and the number of tokens allowed, and nothing of the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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

from inferer.tokens.cuts import PIECE_CHARS, Cuts
from inferer.tokens.turns import Turns

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

# A text of more characters is tokenized without the GIL, which costs a short text more than it gives others: the
# slowest text known of this length takes 2 ms.
_SHORT_CHARS = 512
# A thread that waits for its turn to tokenize a longer text asks this often whether to go on.
_TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class Encoding:
    """The model's input for one text or one window of it. Arrays are of shape [tokens].

    input_ids: int32, half the memory of a text in many windows. attention_mask, token_type_ids: int64, read-only and
    shared between encodings.

    num_tokens: tokens of the whole text before truncation, special tokens included. truncated: whether some of them
    are in no encoding. own_tokens: how many of `input_ids` belong to the text, from place `first_own` on. gap: the
    place where tokens were cut out of the middle; None without a cut. spans: the half-open range of characters
    [tokens, 2] behind each token, empty for special tokens; None unless requested.
    """

    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    num_tokens: int
    truncated: bool
    own_tokens: int
    first_own: int = 0
    gap: int | None = None
    spans: NDArray[np.int32] | None = None

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


def _go_on(_tokens: int) -> None:
    """Let a call go on to its end."""


class Encoder:
    """Encode texts to at most `max_length` tokens, special tokens included. Safe to share between threads.

    overlap: tokens that neighbouring windows share. turns: how many threads may tokenize longer texts at a time.
    sha256: the SHA-256 that the file must have, in hex; None: any.
    """

    def __init__(
        self, tokenizer_file: Path, max_length: int, overlap: int = 0, *, turns: int = 1, sha256: object = None
    ) -> None:
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
        self._turns = Turns(turns)
        self._ones = _constant(1, max_length)
        self._zeros = _constant(0, max_length)

    def highest_id(self) -> tuple[int, str]:
        """Return the highest token id that the tokenizer may produce, and its token."""
        token, highest = max(self._tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        return highest, token

    def encode_one(self, text: str) -> Encoding:
        """Encode `text`, truncated at its end. Errors as `encode`."""
        return self.encode(text, HEAD)[0]

    def encode(
        self,
        text: str,
        truncation: str,
        *,
        spans: bool = False,
        before: int = 0,
        go_on: Callable[[int], None] = _go_on,
    ) -> tuple[Encoding, ...]:
        """Encode `text`: into its windows, in order, with truncation "windows", else into one encoding.

        "head" keeps the first tokens of a long text, "tail" the last, "head_tail" a quarter from the start and three
        from the end; "error" raises TextTooLongError. Windows are as long as the model allows, each shares `overlap`
        tokens with the one before, and the last has the rest. All keep special tokens. spans: whether to fill `spans`.
        before: characters of the texts that the same call has tokenized before; many short texts are like a long one.
        go_on: called with the text's tokens so far after each piece of a text that is not short, and while the text
        waits for its turn; may raise to end the call.
        Raises EmptyTextError for a text without tokens of its own, and TextError for a value that is not Unicode text.
        """
        _check(text)
        whole = _Whole(self._special, spans=spans)
        for start, tokens in self._tokenized(text, spans, before, lambda: go_on(whole.own)):
            whole.add(tokens, start)
        if not whole.own:  # NUL, zero-width marks: a prediction would be about nothing
            raise EmptyTextError("the text is empty: the tokenizer keeps none of its characters")
        own, room = whole.own, self._room
        if own <= room:
            return (self._part(whole, (0, own)),)
        if truncation == WINDOWS:
            starts = range(0, own - self.overlap, room - self.overlap)
            return tuple(self._part(whole, (start, min(start + room, own))) for start in starts)
        if truncation == ERROR:
            problem = f"the text has {own + self._special} tokens, at most {self.max_length} are allowed"
            raise TextTooLongError(f"{problem} with truncation 'error'")
        first = kept_from_start(room, truncation)
        ranges = [(start, end) for start, end in ((0, first), (own - room + first, own)) if start < end]
        return (self._part(whole, *ranges, truncated=True),)

    def _tokenized(
        self, text: str, spans: bool, before: int, go_on: Callable[[], None]
    ) -> Iterator[tuple[int, Tokens]]:
        """Yield the tokens of a text's pieces, special tokens around each, with the place where the piece starts."""
        if before + len(text) <= _SHORT_CHARS:
            yield 0, self._tokenizer.encode(text)
            return
        # Both release the GIL; the latter knows no spans.
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        if len(text) <= _SHORT_CHARS:
            yield 0, encode([text])[0]
            return
        pieces = self._cuts.pieces(text) if len(text) > 2 * PIECE_CHARS else [(0, len(text))]
        for start, end in pieces:
            with self._turns.turn(len(text), go_on, _TURN_S):
                (tokens,) = encode([text[start:end]])
            yield start, tokens
            go_on()

    @cached_property
    def _cuts(self) -> Cuts:
        return Cuts(self._tokenizer)

    def _part(self, whole: _Whole, *ranges: tuple[int, int], truncated: bool = False) -> Encoding:
        """Return the text's own tokens in `ranges`, with the special tokens around them."""
        ids, first = whole.ids(ranges), whole.before
        size = len(ids)
        types = whole.types(size)
        return Encoding(
            ids,
            self._ones[:size],
            self._zeros[:size] if types is None else types,
            num_tokens=whole.own + self._special,
            truncated=truncated,
            own_tokens=size - self._special,
            first_own=first,
            gap=first + ranges[0][1] if len(ranges) > 1 else None,
            spans=whole.spans(ranges),
        )


def _check(text: str) -> None:
    """Raise TextError for a text that cannot be encoded."""
    if not isinstance(text, str):
        raise TextError(f"a text must be a str, not {type(text).__name__}")
    if not text or text.isspace():
        raise EmptyTextError
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
        raise TextError(f"the text has a lone surrogate (U+{ord(text[at]):04X}) at character {at}") from None


def _constant(value: int, size: int) -> NDArray[np.int64]:
    """Return an array [size] of `value` that encodings share."""
    array = np.full(size, value, dtype=np.int64)
    array.flags.writeable = False
    return array


class _Whole:
    """The tokens of a whole text, put together from its pieces, and the special tokens before and after.

    A special token inside the text itself, such as "[SEP]", counts as the text's own. before: the number of special
    tokens before the text. own: the number of the text's own tokens so far.
    """

    def __init__(self, special: int, *, spans: bool) -> None:
        self._special = special
        self._ids: list[NDArray[np.int32]] = []
        self._spans: list[NDArray[np.int32]] | None = [] if spans else None
        self._types: list[int] = []
        self.before = self.own = 0

    def add(self, tokens: Tokens, start: int) -> None:
        """Add the tokens of the piece that begins at character `start`."""
        ids = np.array(tokens.ids, dtype=np.int32)
        own = len(ids) - self._special
        if own <= 0:
            return
        if not self._ids:
            self.before = [*tokens.special_tokens_mask[: self._special], 0].index(0)
            self._around = ids[: self.before], ids[self.before + own :]
            self._types = tokens.type_ids
        place = slice(self.before, self.before + own)
        self._ids.append(ids[place])
        if self._spans is not None:
            self._spans.append(np.array(tokens.offsets, dtype=np.int32)[place] + start)
        self.own += own

    def ids(self, ranges: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
        """Return the ids of the own tokens in `ranges`, a copy, with the special tokens around them."""
        if len(self._ids) > 1:
            self._ids = [np.concatenate(self._ids)]
        before, after = self._around
        return np.concatenate([before, *(self._ids[0][start:end] for start, end in ranges), after])

    def spans(self, ranges: Sequence[tuple[int, int]]) -> NDArray[np.int32] | None:
        """Return the spans of the same tokens; None unless requested."""
        if self._spans is None:
            return None
        if len(self._spans) > 1:
            self._spans = [np.concatenate(self._spans)]
        before, after = (np.zeros((len(ids), 2), dtype=np.int32) for ids in self._around)
        return np.concatenate([before, *(self._spans[0][start:end] for start, end in ranges), after])

    def types(self, size: int) -> NDArray[np.int64] | None:
        """Return the types of `size` tokens with the special tokens around them; None where all are 0."""
        if not any(self._types):
            return None
        before, after = (len(ids) for ids in self._around)
        first, own, last = self._types[:before], self._types[before], self._types[len(self._types) - after :]
        return np.array([*first, *[own] * (size - before - after), *last], dtype=np.int64)
