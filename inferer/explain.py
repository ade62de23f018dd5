"""Explanations by occlusion: how much the label's score falls when a part of the text is left out.

The model runs on the text without the part. A long text is divided into fewer parts than words: words with the
largest effect when they stand alone, which is cheap to measure, become parts, and the words between them go together.
Source: Zeiler and Fergus, arXiv 1311.2901 (occlusion of images); Li, Monroe and Jurafsky, arXiv 1612.08220 (of words).
Limit: when each of two words suffices for the label, leaving out either one changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeAlias
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from inferer.scoring import Logits, Prediction, Scores
from inferer.tokens.encoding import Encoding
from inferer.tokens.texts import SIDES

METHOD = "occlusion"
# By default a text of up to MOST_WORDS words is divided into words, a longer one into PARTS parts: either costs at
# most about twelve predictions of the text (benchmarks/results/explanations.json).
MOST_WORDS, PARTS = 20, 9

# A run of non-space characters; in Chinese and Japanese, which are written without spaces, one character.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # by code; none beyond the last is
_MOST_UNITS = 128  # about how many are run alone; in a text of more words, neighbours are run together
_TINY = 1e-12
_TOKEN_FIELDS = ("num_tokens", "truncated", "windows", "sides")  # of a prediction's wire format

# One text: a single encoding, or one per window.
Encodings = Sequence[Encoding]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Words that were left out together, at the characters from `start` up to `end` of the text.

    contribution: the label's score less its score without them; negative when the words speak against the label.
    side: of a pair, "text" or "text_pair"; None for one text.
    """

    text: str
    start: int
    end: int
    words: int
    contribution: float
    side: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the part as plain types; the side only of a pair."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The contributions of the parts of a text or pair to `label`, in order; words cut by truncation are left out.

    prediction: for the whole text. score: the label's score in it. runs, tokens: the cost, prediction included.
    """

    prediction: Prediction
    label: str
    score: float
    parts: tuple[Part, ...]
    runs: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain types, in the order of the wire format."""
        return {
            "label": self.label,
            "score": self.score,
            "method": METHOD,
            "parts": [part.as_dict() for part in self.parts],
            "cost": {"runs": self.runs, "tokens": self.tokens},
            **{name: value for name, value in self.prediction.as_dict().items() if name in _TOKEN_FIELDS},
        }


class Runs:
    """Run texts, each distinct encoding once: leaving out a part changes few of a text's windows.

    run: returns the logits [labels] of each of several encodings. count, tokens: encodings run so far and their tokens.
    """

    def __init__(self, run: Callable[[Sequence[Encoding]], Sequence[Logits]]) -> None:
        self._run = run
        self._known: dict[int, tuple[Encoding, Logits]] = {}  # by id, valid while the encoding is kept
        self.count = self.tokens = 0

    def rows(self, texts: Sequence[Encodings]) -> list[list[Logits]]:
        """Return the logits of each text's encodings."""
        new = list({id(one): one for one in chain.from_iterable(texts) if id(one) not in self._known}.values())
        if new:
            self._known |= {id(one): (one, row) for one, row in zip(new, self._run(new), strict=True)}
        self.count += len(new)
        self.tokens += sum(len(one.input_ids) for one in new)
        return [[self._known[id(one)][1] for one in encodings] for encodings in texts]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The smallest parts of a text that can be left out: a word, or the words that share a token.

    side: which text of a pair, 0 or 1; 0 without a pair. starts, ends, words: the characters of each piece and its
    number of words, [pieces]. owners: per window, the piece of each token, [tokens], -1 for special tokens. lowest,
    highest: per window, the range of its owners, [windows]. gap: the first piece after a cut in the text's middle, or
    None.
    """

    side: int
    starts: Ints
    ends: Ints
    words: Ints
    owners: tuple[Ints, ...]
    lowest: Ints
    highest: Ints
    gap: int | None

    def inside(self, unit: range) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield each window with tokens of `unit`, by number, with their places, bool [tokens]."""
        for window in np.flatnonzero((self.lowest < unit.stop) & (self.highest >= unit.start)).tolist():
            owner = self.owners[window]
            places = (owner >= unit.start) & (owner < unit.stop)
            if places.any():
                yield window, places


class _Unit(NamedTuple):
    """Neighbouring pieces of one text. begins: whether nothing before them may join them."""

    pieces: _Pieces
    places: range
    begins: bool


def occlude(
    texts: Sequence[str],
    encodings: Encodings,
    run: Callable[[Sequence[Encodings]], list[Scores]],
    place: int,
    max_parts: int | None,
    go_on: Callable[[], None] = lambda: None,
    *,
    unbounded: bool = False,
) -> list[Part]:
    """Return the contributions of the parts of a text, or of both texts of a pair, to the score at `place`.

    encodings: of the text or pair, with spans. run: returns the scores [labels] of each of several. max_parts: the most
    parts, one more where a cut in the middle divides them; None for the default. go_on: called before each step of the
    work between runs; may raise to end it. unbounded: whether the score is any number, and not one from 0 to 1.
    """
    go_on()
    pieces = [_pieces(text, encodings, side) for side, text in enumerate(texts)]

    def left_out(change: Callable[[Encodings, _Pieces, range], Encodings], unit: _Unit) -> Encodings:
        go_on()
        return change(encodings, unit.pieces, unit.places)

    count = sum(len(one.starts) for one in pieces)
    if not count:  # the tokens are white space alone
        return []
    if max_parts is None:
        max_parts = MOST_WORDS if count <= MOST_WORDS else PARTS
    size = -(-count // max(_MOST_UNITS, max_parts))
    units = [unit for one in pieces for unit in _units(one, size)]
    if len(units) > max_parts:
        # Compared with the text that has no word left, beside which the other text of a pair is whole.
        nothing = [_Unit(one, range(0), True) for one in pieces]
        found = run([left_out(_alone, unit) for unit in (*nothing, *units)])
        values = np.array([scores[place] for scores in found])
        if not unbounded:
            clipped = np.clip(values, _TINY, 1 - _TINY)
            values = np.log(clipped / (1 - clipped))
        bases = [values[unit.pieces.side] for unit in units]
        units = _parts(units, np.abs(values[len(nothing) :] - bases), max_parts)
    whole, *others = run([encodings, *(left_out(_without, unit) for unit in units)])
    parts = []
    for (one, unit, _), scores in zip(units, others, strict=True):
        start, end = int(one.starts[unit.start]), int(one.ends[unit.stop - 1])
        words = int(one.words[unit.start : unit.stop].sum())
        side = SIDES[one.side] if len(texts) > 1 else None
        text = texts[one.side][start:end]
        parts.append(Part(text, start, end, words, float(whole[place] - scores[place]), side))
    return parts


def _words(text: str, shown: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the half-open range of characters of each word in `shown`, ranges of characters in order.

    Punctuation that stands alone joins the word before it. The rest of a long text is not read: it costs time.
    """
    words: list[tuple[int, int]] = []
    for first, last in shown:
        for match in _WORD.finditer(text, max(_word_start(text, first), words[-1][1] if words else 0)):
            stands_alone = words and _is_punctuation(match[0])
            if match.start() >= last and not stands_alone:
                break
            if stands_alone:
                words[-1] = (words[-1][0], match.end())
            else:
                words.append(match.span())
    return words


def _is_punctuation(word: str) -> bool:
    return category(word[0])[0] == "P" and all(category(c)[0] == "P" for c in word)


def _word_start(text: str, place: int) -> int:
    """Return the start of a word at `place` or before it that does not join the word before."""
    back = 256
    while back < place:
        for match in _WORD.finditer(text, place - back, place + 1):
            if match.start() > place - back and not _is_punctuation(match[0]):
                return match.start()
        back *= 4
    return 0


def _shown(encodings: Encodings, side: int) -> list[tuple[int, int]]:
    """Return the ranges of characters of a text's tokens: one, or two around a cut in its middle."""
    spans = [one.spans[one.sides[side].places] for one in encodings if one.spans is not None]
    own = encodings[0].sides[side]
    parts = [spans]
    if own.gap is not None:
        cut = own.gap - own.first
        parts = [[spans[0][:cut]], [spans[0][cut:]]]
    seen = [part[part[:, 1] > part[:, 0]] for part in map(np.concatenate, parts)]
    return [(int(part[:, 0].min()), int(part[:, 1].max())) for part in seen if len(part)]


def _pieces(text: str, encodings: Encodings, side: int) -> _Pieces:
    words = np.array(_words(text, _shown(encodings, side)), dtype=np.int64).reshape(-1, 2)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    solid = np.flatnonzero(~_IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)])
    ranges = [_words_of_tokens(encoding, side, solid, words[:, 0]) for encoding in encodings]
    joined = np.zeros(len(words), dtype=bool)  # words that share a token with the word before
    for first, last in ranges:
        for token in np.flatnonzero(last > first):
            joined[first[token] + 1 : last[token] + 1] = True
    group = np.cumsum(~joined) - 1
    groups = [np.append(group, -1)[first] for first, _ in ranges]  # -1 stays -1
    kept = np.unique(np.concatenate(groups))
    kept = kept[kept >= 0]
    owners = tuple(np.where(one < 0, -1, np.searchsorted(kept, one)) for one in groups)
    begin, end = np.searchsorted(group, kept), np.searchsorted(group, kept, side="right")
    cut = encodings[0].sides[side].gap
    gap = None if cut is None else next((int(owner) for owner in owners[0][cut:] if owner >= 0), None)
    known = [one[one >= 0] for one in owners]
    lowest = np.array([one.min(initial=len(kept)) for one in known])
    highest = np.array([one.max(initial=-1) for one in known])
    return _Pieces(side, words[begin, 0], words[end - 1, 1], end - begin, owners, lowest, highest, gap)


def _words_of_tokens(encoding: Encoding, side: int, solid: Ints, word_starts: Ints) -> tuple[Ints, Ints]:
    """Return the first and the last word of each token, [tokens]; -1 for tokens outside the text.

    solid: the characters of the text that are not white space. word_starts: the first character of each word. A token
    of white space joins the token after it, or the one before where none follows.
    """
    assert encoding.spans is not None  # noqa: S101 - the explaining caller requests spans
    own = encoding.sides[side].places
    starts, ends = encoding.spans[own].T
    begin, end = np.searchsorted(solid, starts), np.searchsorted(solid, ends)
    visible = np.flatnonzero(end > begin)
    first = np.full(len(encoding.spans), -1, dtype=np.int64)
    last = first.copy()
    if len(visible):
        near = visible[np.minimum(np.searchsorted(visible, np.arange(len(starts))), len(visible) - 1)]
        for words, characters in ((first, begin[near]), (last, end[near] - 1)):
            words[own] = np.searchsorted(word_starts, solid[characters], side="right") - 1
    return first, last


def _units(pieces: _Pieces, size: int) -> list[_Unit]:
    """Return the pieces in units of `size` neighbours; no unit spans the gap."""
    count, gap = len(pieces.starts), pieces.gap
    ends = (0, count) if gap in (None, 0) else (0, gap, count)
    return [
        _Unit(pieces, range(first, min(first + size, end)), first == start)
        for start, end in pairwise(ends)
        for first in range(start, end, size)
    ]


def _parts(units: Sequence[_Unit], effects: NDArray[np.float64], most: int) -> list[_Unit]:
    """Return at most `most` parts: as many units as possible alone, those of the largest effects, the others joined."""
    alone = np.zeros(len(units), dtype=bool)
    begins = [*(unit.begins for unit in units), True]
    count = sum(begins[:-1])
    for place in np.argsort(-effects, kind="stable").tolist():
        before = not begins[place] and not alone[place - 1]
        after = not begins[place + 1] and not alone[place + 1]
        if count + before + after <= most:  # taking a unit out splits the part around it
            alone[place] = True
            count += before + after
    parts: list[_Unit] = []
    for number, unit in enumerate(units):
        if begins[number] or alone[number] or alone[number - 1]:
            parts.append(unit)
        else:
            parts[-1] = parts[-1]._replace(places=range(parts[-1].places.start, unit.places.stop))
    return parts


def _without(encodings: Encodings, pieces: _Pieces, unit: range) -> Encodings:
    """Return `encodings` without the tokens of `unit`; a window with none of them stays the same object."""
    left = list(encodings)
    for window, places in pieces.inside(unit):
        left[window] = left[window].without(places)
    return [one for one in left if one.own_tokens] or left[:1]  # own_tokens: of the text that windows divide


def _alone(encodings: Encodings, pieces: _Pieces, unit: range) -> Encodings:
    """Return the tokens of `unit`, in its first window, alone between the special tokens."""
    window = next((window for window, _ in pieces.inside(range(unit.start, unit.start + 1))), 0)
    owner = pieces.owners[window]
    return [encodings[window].without((owner >= 0) & ~((owner >= unit.start) & (owner < unit.stop)))]
