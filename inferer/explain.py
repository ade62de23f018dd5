"""Why this label? Occlusion: how far the label's score falls when a part of the text is left out.

Each figure is that of a run of the model on the text without the part; nothing is fitted or estimated. To leave out
each word by itself costs a run of the whole text a word, so a text of many words is divided into fewer parts: the words
that say most when they stand alone, which is cheap to ask, each for itself, and those between them together.

Source: Zeiler and Fergus, arXiv 1311.2901 (occlusion of images); Li, Monroe and Jurafsky, arXiv 1612.08220 (of words).
What it cannot see: of two words that each suffice, leaving out one changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from inferer.encoding import Encoding
from inferer.scoring import Prediction

METHOD = "occlusion"
# By default a text of up to so many words is divided into its words, a longer one into so many parts: either costs at
# most about twelve predictions of the text (benchmarks/results/explanations.json).
MOST_WORDS, PARTS = 20, 9

# What stands between white space; of Chinese and Japanese, which are written without it, each character.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_MOST_UNITS = 128  # about so many are asked alone; of a text of more words, neighbours are asked together
_TINY = 1e-12
_READ = ("num_tokens", "truncated", "windows")  # of the prediction, what says how the text was read

Encodings = Sequence[Encoding]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Words that were left out together. start, end: their characters in the text. contribution: by how much the
    label's score is lower without them; negative where it is higher.
    """

    text: str
    start: int
    end: int
    words: int
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the parts of one text contribute to `label`, in the order of the text; words that went unread are no part.

    prediction: the answer to the whole text. score: the label's in it. runs, tokens: what it cost, the prediction
    included: texts run, and tokens in them.
    """

    prediction: Prediction
    label: str
    score: float
    parts: tuple[Part, ...]
    runs: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain types, in the order of the wire format."""
        read = {name: value for name, value in self.prediction.as_dict().items() if name in _READ}
        return {
            "label": self.label,
            "score": self.score,
            "method": METHOD,
            "parts": [asdict(part) for part in self.parts],
            "cost": {"runs": self.runs, "tokens": self.tokens},
            **read,
        }


class Runs:
    """Run readings, each encoding once: of windows, most are the same without a part as with it.

    run: the logits [labels] of each of several encodings. count, tokens: encodings run so far, and tokens in them.
    """

    def __init__(self, run: Callable[[Sequence[Encoding]], Sequence[NDArray[np.float32]]]) -> None:
        self._run = run
        self._known: dict[int, tuple[Encoding, NDArray[np.float32]]] = {}  # by id, which holds while it is held here
        self.tokens = 0

    @property
    def count(self) -> int:
        """Return how many encodings were run."""
        return len(self._known)

    def rows(self, readings: Sequence[Encodings]) -> list[list[NDArray[np.float32]]]:
        """Return the logits of each reading's encodings."""
        new = list({id(one): one for one in chain.from_iterable(readings) if id(one) not in self._known}.values())
        if new:
            self._known |= {id(one): (one, row) for one, row in zip(new, self._run(new), strict=True)}
        self.tokens += sum(len(one.input_ids) for one in new)
        return [[self._known[id(one)][1] for one in reading] for reading in readings]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Neighbouring pieces of the text, by number, `first` up to but not `last`."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The text in its smallest pieces, numbered as they follow each other: words, or several that share a token.

    Only what was read is a piece. starts, ends: their characters; words: how many each has, [pieces]. owners: of each
    window, the piece of each token, [tokens], -1 for special tokens; lowest, highest: of each window, [windows].
    windows: the first that has each piece. gap: the first piece after a part of the text that was left out; None where
    none was.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    words: NDArray[np.int64]
    owners: tuple[NDArray[np.int64], ...]
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    windows: NDArray[np.int64]
    gap: int | None


def occlude(
    text: str, reading: Encodings, run: Callable[[Sequence[Encodings]], list[Scores]], place: int, max_parts: int | None
) -> list[Part]:
    """Return what the parts of `text` contribute to the score at `place`.

    reading: how the text is read, with spans. run: the scores [labels] of each of several readings. max_parts: the
    most parts, though never one over a gap; None for the default.
    """
    pieces = _pieces(text, reading)
    count = len(pieces.starts)
    if max_parts is None:
        max_parts = MOST_WORDS if count <= MOST_WORDS else PARTS
    units = _units(count, -(-count // max(_MOST_UNITS, max_parts)), pieces.gap)
    if len(units) > max_parts:
        alone = run([_alone(reading, pieces, unit) for unit in (_Unit(0, 0), *units)])
        odds = np.array([_log_odds(scores[place]) for scores in alone])
        units = _parts(units, np.abs(odds[1:] - odds[0]), max_parts, pieces.gap)
    whole, *others = run([reading, *(_without(reading, pieces, unit) for unit in units)])
    return [
        _part(text, pieces, unit, float(whole[place] - scores[place]))
        for unit, scores in zip(units, others, strict=True)
    ]


def _words(text: str) -> list[tuple[int, int]]:
    """Return the characters of each word, from and to; punctuation that stands alone goes with the word before."""
    words: list[tuple[int, int]] = []
    for match in _WORD.finditer(text):
        if words and all(category(c).startswith("P") for c in match[0]):
            words[-1] = (words[-1][0], match.end())
        else:
            words.append(match.span())
    return words


def _pieces(text: str, reading: Encodings) -> _Pieces:
    words = np.array(_words(text), dtype=np.int64)
    solid = np.flatnonzero([not c.isspace() for c in text])  # the characters that can belong to a word
    word_of = np.searchsorted(words[:, 0], solid, side="right") - 1
    firsts, lasts = [], []  # for each window, the first and the last word that each token is of
    for encoding in reading:
        first, last = _words_of(encoding, solid, word_of)
        firsts.append(first)
        lasts.append(last)
    joined = np.zeros(len(words), dtype=bool)  # to the word before, by a token that is of both
    for first, last in zip(firsts, lasts, strict=True):
        for token in np.flatnonzero(last > first):
            joined[first[token] + 1 : last[token] + 1] = True
    group = np.cumsum(~joined) - 1
    groups = [np.where(first < 0, -1, group[first]) for first in firsts]
    read = np.unique(np.concatenate(groups))
    read = read[read >= 0]
    owners = tuple(np.where(one < 0, -1, np.searchsorted(read, one)) for one in groups)
    windows = np.zeros(len(read), dtype=np.int64)
    for number in reversed(range(len(owners))):
        windows[owners[number][owners[number] >= 0]] = number
    begin, end = np.searchsorted(group, read), np.searchsorted(group, read, side="right")
    gap = None
    if reading[0].gap is not None:
        after = owners[0][reading[0].gap :]
        gap = next((int(owner) for owner in after if owner >= 0), None)
    lowest = np.array([np.min(owner, initial=len(read), where=owner >= 0) for owner in owners])
    highest = np.array([owner.max() for owner in owners])
    return _Pieces(words[begin, 0], words[end - 1, 1], end - begin, owners, lowest, highest, windows, gap)


def _words_of(
    encoding: Encoding, solid: NDArray[np.int64], word_of: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last word of each token, [tokens]; -1 for special tokens.

    solid: the characters of the text that are not white space; word_of: the word of each. A token of white space
    alone goes with the token after it, or else with the one before, as it would if its word were not there.
    """
    assert encoding.spans is not None  # noqa: S101 - asked for by whoever explains
    own = slice(encoding.first_own, encoding.first_own + encoding.own_tokens)
    starts, ends = encoding.spans[own].T
    begin, end = np.searchsorted(solid, starts), np.searchsorted(solid, ends)
    said = np.flatnonzero(end > begin)
    near = said[np.minimum(np.searchsorted(said, np.arange(len(starts))), len(said) - 1)] if len(said) else None
    first = np.full(len(encoding.spans), -1, dtype=np.int64)
    last = first.copy()
    if near is not None:
        first[own], last[own] = word_of[begin[near]], word_of[end[near] - 1]
    return first, last


def _units(count: int, size: int, gap: int | None) -> list[_Unit]:
    """Return `count` pieces in units of `size` neighbours each; none reaches over the gap."""
    ends = (0, count) if gap in (None, 0) else (0, gap, count)
    return [_Unit(first, min(first + size, end)) for start, end in pairwise(ends) for first in range(start, end, size)]


def _parts(units: Sequence[_Unit], telling: NDArray[np.float64], most: int, gap: int | None) -> list[_Unit]:
    """Return at most `most` parts: the most `telling` units each for itself, as many as can be, the rest joined."""
    alone = np.zeros(len(units), dtype=bool)
    begins = [number == 0 or unit.first == gap for number, unit in enumerate(units)] + [True]
    count = sum(begins[:-1])
    for place in np.argsort(-telling, kind="stable").tolist():
        before = not begins[place] and not alone[place - 1]
        after = not begins[place + 1] and not alone[place + 1]
        if count + before + after <= most:  # what a part breaks into
            alone[place] = True
            count += before + after
    parts: list[_Unit] = []
    for number, unit in enumerate(units):
        if begins[number] or alone[number] or alone[number - 1]:
            parts.append(unit)
        else:
            parts[-1] = _Unit(parts[-1].first, unit.last)
    return parts


def _without(reading: Encodings, pieces: _Pieces, unit: _Unit) -> Encodings:
    """Return `reading` less the tokens of `unit`; a window that has none of them stays the same object."""
    left = list(reading)
    for window in np.flatnonzero((pieces.lowest < unit.last) & (pieces.highest >= unit.first)).tolist():
        owner = pieces.owners[window]
        left[window] = reading[window].without((owner >= unit.first) & (owner < unit.last))
    return [one for one in left if one.own_tokens] or left[:1]


def _alone(reading: Encodings, pieces: _Pieces, unit: _Unit) -> Encodings:
    """Return `unit` alone between the special tokens, as the first window that has it reads it."""
    window = int(pieces.windows[unit.first]) if unit.last > unit.first else 0
    owner = pieces.owners[window]
    return [reading[window].without((owner >= 0) & ~((owner >= unit.first) & (owner < unit.last)))]


def _log_odds(score: float) -> float:
    clipped = min(max(float(score), _TINY), 1 - _TINY)
    return float(np.log(clipped / (1 - clipped)))


def _part(text: str, pieces: _Pieces, unit: _Unit, contribution: float) -> Part:
    start, end = int(pieces.starts[unit.first]), int(pieces.ends[unit.last - 1])
    return Part(text[start:end], start, end, int(pieces.words[unit.first : unit.last].sum()), contribution)
