"""Token ids of texts, or of pairs of texts, by the bundle's own tokenizer, and the truncation of long ones.

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
from inferer.bundle.reader import ERROR, HEAD, LONGEST_FIRST, WINDOWS
from inferer.errors import BundleError, ConfigError, EmptyTextError, PairError, TextError, TextTooLongError, shown

# The library warns and switches its parallelism off after a fork; one text at a time gains nothing from it anyway.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

from inferer.tokens.cuts import PIECE_CHARS, Cuts
from inferer.tokens.template import read_template
from inferer.tokens.texts import TextOrPair
from inferer.tokens.truncation import NAMES, Ranges, kept_of_pair, kept_of_text
from inferer.tokens.turns import Turns

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

# A text of more characters is tokenized without the GIL, which costs a short text more than it gives others: the
# slowest text known of this length takes 2 ms.
_SHORT_CHARS = 512
# A thread that waits for its turn to tokenize a longer text asks this often whether to go on.
_TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class Side:
    """One text of an encoding.

    num_tokens: of the whole text, without special tokens. truncated: whether some of them are in no encoding. kept: how
    many are in this encoding, from place `first` on. gap: the place where tokens were cut out of the middle; None
    without a cut.
    """

    num_tokens: int
    truncated: bool
    first: int
    kept: int
    gap: int | None = None

    @property
    def places(self) -> slice:
        """Return the places of the text's tokens."""
        return slice(self.first, self.first + self.kept)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The model's input for one text or pair, or for one window of it. Arrays are of shape [tokens].

    input_ids: int32, half the memory of a text in many windows. attention_mask, token_type_ids: int64, read-only and
    shared between encodings.

    num_tokens: tokens before truncation, special tokens included. sides: the text, or both texts of a pair. spans: the
    half-open range of characters [tokens, 2] behind each token, empty for special tokens; None unless requested.
    """

    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    num_tokens: int
    sides: tuple[Side, ...]
    spans: NDArray[np.int32] | None = None

    @property
    def truncated(self) -> bool:
        """Return whether some tokens are in no encoding."""
        return any(side.truncated for side in self.sides)

    @property
    def own_tokens(self) -> int:
        """Return the tokens of the text, or of the second text of a pair: windows are of that one."""
        return self.sides[-1].kept

    def without(self, places: NDArray[np.bool_]) -> Encoding:
        """Return the input without the texts' tokens at `places`, bool [tokens]; spans, gaps and places are lost."""
        inputs = {name: getattr(self, name)[~places] for name in INPUTS}
        sides = (replace(side, kept=side.kept - int(places[side.places].sum()), gap=None) for side in self.sides)
        return replace(self, **inputs, sides=tuple(sides), spans=None)


def _go_on(_tokens: int) -> None:
    """Let a call go on to its end."""


class Encoder:
    """Encode texts to at most `max_length` tokens, special tokens included. Safe to share between threads.

    tokenizer: its file, or the tokenizer itself. overlap: tokens that neighbouring windows share. pair: whether the
    model reads pairs of texts. token_types: whether the model gets the types of the tokenizer's template; else all are
    0. turns: how many threads may tokenize longer texts at a time. sha256: the SHA-256 that the file must have, in hex;
    None: any.
    """

    def __init__(
        self,
        tokenizer: Path | Tokenizer,
        max_length: int,
        overlap: int = 0,
        *,
        pair: bool = False,
        token_types: bool = True,
        turns: int = 1,
        sha256: object = None,
    ) -> None:
        self._tokenizer = _read(tokenizer, sha256) if isinstance(tokenizer, Path) else tokenizer
        # Configured once: changing padding or truncation under threads raises "Already borrowed"
        # (huggingface/tokenizers#537). The library encodes the whole text, and this class truncates.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        try:
            self._template = read_template(self._tokenizer, pair=pair)
        except ValueError as error:
            place = (tokenizer.parent, tokenizer.name) if isinstance(tokenizer, Path) else ("", "the tokenizer")
            raise BundleError(place[0], f"{place[1]} cannot be served: {error}") from error
        self.pair = pair
        self._token_types = token_types
        self._special = self._template.special_tokens
        least = self._special + len(self._template.text_types)
        if max_length < least:
            raise ConfigError("max_length", max_length, f"more than the tokenizer's {least - 1} special tokens")
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

    def encode_one(self, text: TextOrPair) -> Encoding:
        """Encode `text`, truncated at its end, a pair by the longest first. Errors as `encode`."""
        return self.encode(text, LONGEST_FIRST if self.pair else HEAD)[0]

    def encode(
        self,
        text: TextOrPair,
        truncation: str,
        *,
        spans: bool = False,
        before: int = 0,
        known: dict[str, TextTokens] | None = None,
        go_on: Callable[[int], None] = _go_on,
    ) -> tuple[Encoding, ...]:
        """Encode `text`: into its windows, in order, with truncation "windows", else into one encoding.

        "head" keeps the first tokens of a long text, "tail" the last, "head_tail" a quarter from the start and three
        from the end; "error" raises TextTooLongError. Windows are as long as the model allows, each shares `overlap`
        tokens with the one before, and the last has the rest. All keep special tokens.
        Of a pair, "longest_first" cuts the end of the longer text until both are equally long, and "tail" likewise the
        start; "only_first" and "only_second" cut the end of that text alone; "head_tail" and "windows" keep the first
        text whole. A text that leaves the other too little room raises TextTooLongError.
        spans: whether to fill `spans`. before: characters of the texts that the same call has tokenized before; many
        short texts are like a long one. known: the tokens of first texts that the call has met, filled here: a query
        comes with each of its documents. go_on: called with the tokens so far after each piece of a text that is not
        short, and while the text waits for its turn; may raise to end the call.
        Raises EmptyTextError for a text without tokens of its own, PairError for a pair where the model reads one text
        and the reverse, and TextError for a value that is not Unicode text.
        """
        texts = self._checked(text)
        found: list[TextTokens] = []
        for number, one in enumerate(texts):
            name, side = (NAMES[number], number) if self.pair else ("the text", None)
            first = known if self.pair and number == 0 else None
            tokens = None if first is None else first.get(one)
            if tokens is None:
                _check(one, name, side)
                tokens = self._tokens(one, spans, before, lambda own: go_on(own + sum(map(len, found))))
                if not len(tokens):  # NUL, zero-width marks: a prediction would be about nothing
                    raise EmptyTextError(f"{name} is empty: the tokenizer keeps none of its characters", side=side)
                if first is not None:
                    first[one] = tokens
            before += len(one)
            found.append(tokens)
        lengths = [len(tokens) for tokens in found]
        if sum(lengths) <= self._room:
            return (self._part(found, [[(0, length)] for length in lengths]),)
        if truncation == ERROR:
            name = "the pair" if self.pair else "the text"
            problem = f"{name} has {sum(lengths) + self._special} tokens, at most {self.max_length} are allowed"
            raise TextTooLongError(f"{problem} with truncation 'error'")
        kept = kept_of_pair if self.pair else kept_of_text
        return tuple(
            self._part(found, ranges, truncation) for ranges in kept(lengths, self._room, self.overlap, truncation)
        )

    def _checked(self, text: TextOrPair) -> tuple[str, ...]:
        """Return the one text, or the two of a pair."""
        if isinstance(text, tuple | list) and len(text) == 2:
            if not self.pair:
                raise PairError("the model reads one text, not a pair of texts")
            return tuple(text)
        if self.pair and isinstance(text, str):
            raise PairError("the model reads pairs of texts, and the second text is missing")
        if self.pair:
            raise TextError(f"a pair must be a tuple of two texts, not {shown(text)}")
        return (text,)

    def _tokens(self, text: str, spans: bool, before: int, go_on: Callable[[int], None]) -> TextTokens:
        """Return the tokens of a text, put together from its pieces."""
        ids: list[NDArray[np.int32]] = []
        ranges: list[NDArray[np.int32]] = []
        for start, tokens in self._tokenized(text, spans, before, lambda: go_on(sum(map(len, ids)))):
            ids.append(np.array(tokens.ids, dtype=np.int32))
            if spans:
                ranges.append(np.array(tokens.offsets, dtype=np.int32).reshape(-1, 2) + start)
        return TextTokens(_joined(ids), _joined(ranges) if spans else None)

    def _tokenized(
        self, text: str, spans: bool, before: int, go_on: Callable[[], None]
    ) -> Iterator[tuple[int, Tokens]]:
        """Yield the tokens of a text's pieces with the place where the piece starts."""
        if before + len(text) <= _SHORT_CHARS:
            yield 0, self._tokenizer.encode(text, add_special_tokens=False)
            return
        # Both release the GIL; the latter knows no spans.
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        if len(text) <= _SHORT_CHARS:
            yield 0, encode([text], add_special_tokens=False)[0]
            return
        pieces = self._cuts.pieces(text) if len(text) > 2 * PIECE_CHARS else [(0, len(text))]
        for start, end in pieces:
            with self._turns.turn(len(text), go_on, _TURN_S):
                (tokens,) = encode([text[start:end]], add_special_tokens=False)
            yield start, tokens
            go_on()

    @cached_property
    def _cuts(self) -> Cuts:
        return Cuts(self._tokenizer)

    def _part(self, texts: Sequence[TextTokens], kept: Sequence[Ranges], truncation: str = HEAD) -> Encoding:
        """Return the tokens of each text in its ranges of `kept`, with the special tokens around them."""
        counts = [sum(end - start for start, end in ranges) for ranges in kept]
        ids = self._template.ids([_ranged(text.ids, ranges) for text, ranges in zip(texts, kept, strict=True)])
        size = len(ids)
        types = self._template.token_types(counts) if self._token_types else None
        windows = truncation == WINDOWS
        sides = []
        for text, ranges, count, first in zip(texts, kept, counts, self._template.starts(counts), strict=True):
            gap = first + ranges[0][1] - ranges[0][0] if len(ranges) > 1 else None
            sides.append(Side(len(text), count < len(text) and not windows, first, count, gap))
        spans = None
        if texts[0].spans is not None:
            spans = np.zeros((size, 2), dtype=np.int32)
            for text, ranges, side in zip(texts, kept, sides, strict=True):
                spans[side.places] = _ranged(text.spans, ranges)
        return Encoding(
            ids,
            self._ones[:size],
            self._zeros[:size] if types is None else types,
            num_tokens=sum(map(len, texts)) + self._special,
            sides=tuple(sides),
            spans=spans,
        )


@dataclass(frozen=True, slots=True)
class TextTokens:
    """The tokens of one whole text, without special tokens; those inside the text itself, such as "[SEP]", are its own.

    ids: int32 [tokens]. spans: the range of characters [tokens, 2] behind each token; None unless requested.
    """

    ids: NDArray[np.int32]
    spans: NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.ids)


def _read(file: Path, sha256: object) -> Tokenizer:
    data = contents(file, sha256, MOST_JSON_BYTES)
    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:
        raise BundleError(file.parent, f"{file.name} cannot be read: {error}") from error


def _ranged(values: NDArray[np.int32] | None, ranges: Ranges) -> NDArray[np.int32]:
    assert values is not None  # noqa: S101 - spans of one text are requested with those of the other
    parts = [values[start:end] for start, end in ranges]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _check(text: str, name: str, side: int | None) -> None:
    """Raise TextError for a text that cannot be encoded."""
    if not isinstance(text, str):
        raise TextError(f"{name.replace('the text', 'a text')} must be a str, not {type(text).__name__}", side=side)
    if not text or text.isspace():
        raise EmptyTextError(f"{name} is empty", side=side)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
        problem = f"{name} has a lone surrogate (U+{ord(text[at]):04X}) at character {at}"
        raise TextError(problem, side=side) from None


def _constant(value: int, size: int) -> NDArray[np.int64]:
    """Return an array [size] of `value` that encodings share."""
    array = np.full(size, value, dtype=np.int64)
    array.flags.writeable = False
    return array
