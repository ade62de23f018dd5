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
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from inferer.encoding import Encoding
from inferer.scoring import Prediction

METHOD = "occlusion"
# By default a text of up to so many words is divided into its words, a longer one into so many parts: either costs at
# most about twelve predictions of the text (benchmarks/results/explanations.json).
MOST_WORDS, PARTS = 20, 10

# What stands between white space; of Chinese and Japanese, which are written without it, each character.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_MOST_UNITS = 128  # asked alone; of a text of more words, neighbours are asked together
_TINY = 1e-12

Reading = Sequence[Encoding]
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


_READ = ("num_tokens", "truncated", "windows")


@dataclass(frozen=True, slots=True)
class _Unit:
    """Neighbouring words, by number, `first` up to but not `last`."""

    first: int
    last: int


def occlude(
    text: str, reading: Reading, run: Callable[[Sequence[Reading]], list[Scores]], place: int, max_parts: int | None
) -> list[Part]:
    """Return what the parts of `text`, at most `max_parts`, contribute to the score at `place`.

    reading: how the text is read, with spans. run: the scores [labels] of each of several readings.
    """
    words = _words(text)
    owners = [_owners(text, words, encoding) for encoding in reading]
    read = sorted({int(word) for owner in owners for word in owner if word >= 0})
    units = _units(read)
    if max_parts is None:
        max_parts = MOST_WORDS if len(units) <= MOST_WORDS else PARTS
    if len(units) > max_parts:
        alone = run([_alone(reading, owners, unit) for unit in (_Unit(0, 0), *units)])
        odds = np.array([_log_odds(scores[place]) for scores in alone])
        units = _parts(units, np.abs(odds[1:] - odds[0]), max_parts)
    whole, *others = run([reading, *(_without(reading, owners, unit) for unit in units)])
    return [
        _part(text, words, read, unit, float(whole[place] - scores[place]))
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


def _owners(text: str, words: Sequence[tuple[int, int]], encoding: Encoding) -> NDArray[np.int64]:
    """Return the word that each token is of, [tokens]; -1 for special tokens and white space."""
    assert encoding.spans is not None  # noqa: S101 - asked for by whoever explains
    starts = np.array([start for start, _ in words])
    owners = np.full(len(encoding.spans), -1, dtype=np.int64)
    for place, (start, end) in enumerate(encoding.spans.tolist()):
        said = text[start:end]
        if said.strip():  # a token may begin with the blank before its word
            owners[place] = np.searchsorted(starts, start + len(said) - len(said.lstrip()), side="right") - 1
    return owners


def _units(read: Sequence[int]) -> list[_Unit]:
    """Return the words that were read, each for itself, or so many neighbours together that there are not too many."""
    size = -(-len(read) // _MOST_UNITS)
    units: list[_Unit] = []
    for word in read:
        if units and units[-1].last == word and units[-1].last - units[-1].first < size:
            units[-1] = _Unit(units[-1].first, word + 1)
        else:
            units.append(_Unit(word, word + 1))
    return units


def _parts(units: Sequence[_Unit], telling: NDArray[np.float64], most: int) -> list[_Unit]:
    """Return at most `most` parts: the most `telling` units each for itself, as many as can be, the rest joined."""
    parts = [_Unit(units[0].first, units[-1].last)]
    chosen: set[int] = set()
    for place in np.argsort(-telling, kind="stable").tolist():
        chosen.add(place)
        more: list[_Unit] = []
        for number, unit in enumerate(units):
            joins = number > 0 and number not in chosen and number - 1 not in chosen
            if joins:
                more[-1] = _Unit(more[-1].first, unit.last)
            else:
                more.append(unit)
        if len(more) > most:
            chosen.remove(place)
        else:
            parts = more
    return parts


def _places(owners: NDArray[np.int64], unit: _Unit) -> NDArray[np.bool_]:
    places: NDArray[np.bool_] = (owners >= unit.first) & (owners < unit.last)
    return places


def _without(reading: Reading, owners: Sequence[NDArray[np.int64]], unit: _Unit) -> Reading:
    """Return `reading` less the tokens of `unit`; a window that has none of them stays the same object."""
    places = [_places(owner, unit) for owner in owners]
    left = [one.without(gone) if gone.any() else one for one, gone in zip(reading, places, strict=True)]
    return [one for one in left if one.own_tokens] or left[:1]


def _alone(reading: Reading, owners: Sequence[NDArray[np.int64]], unit: _Unit) -> Reading:
    """Return `unit` alone between the special tokens, as the first window that has it reads it."""
    for encoding, owner in zip(reading, owners, strict=True):
        if _places(owner, unit).any():
            return [encoding.without((owner >= 0) & ~_places(owner, unit))]
    return [reading[0].without(owners[0] >= 0)]


def _log_odds(score: float) -> float:
    clipped = min(max(float(score), _TINY), 1 - _TINY)
    return float(np.log(clipped / (1 - clipped)))


def _part(text: str, words: Sequence[tuple[int, int]], read: Sequence[int], unit: _Unit, contribution: float) -> Part:
    start, end = words[unit.first][0], words[unit.last - 1][1]
    count = sum(unit.first <= word < unit.last for word in read)
    return Part(text[start:end], start, end, count, contribution)
