"""The tokens that are kept of a text or a pair that is too long, as ranges per text; one entry per encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from inferer.bundle.reader import HEAD, HEAD_TAIL, LONGEST_FIRST, ONLY_FIRST, TAIL, WINDOWS
from inferer.errors import TextTooLongError

Ranges: TypeAlias = Sequence[tuple[int, int]]

NAMES = ("the first text", "the second text")
# Windows over the second text of a pair need this share of a run: fewer tokens each would multiply the runs.
_LEAST_WINDOW = 0.25


def kept_from_start(room: int, truncation: str) -> int:
    """Return how many of the `room` tokens kept of a long text come from its start; the others come from its end.

    "head_tail" takes 128 of 510: the best cut of long texts in Sun et al., How to Fine-Tune BERT for Text
    Classification? (arXiv 1905.05583), 5.3.1, kept as a share.
    """
    return {TAIL: 0, HEAD_TAIL: round(room * 128 / 510)}.get(truncation, room)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens are kept of two texts of these lengths, `room` together: the longer one loses first.

    As the tokenizers library does it: two long texts get half each, the longer one the odd token.
    """
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (long, short) if first > second else (short, long)


def kept_of_text(lengths: Sequence[int], room: int, overlap: int, truncation: str) -> Iterator[Sequence[Ranges]]:
    """Yield the ranges of tokens of a long text, for each encoding."""
    (own,) = lengths
    if truncation == WINDOWS:
        yield from ([[one]] for one in _windows(own, room, overlap))
    else:
        yield [_cut(own, room, truncation)]


def kept_of_pair(lengths: Sequence[int], room: int, overlap: int, truncation: str) -> Iterator[Sequence[Ranges]]:
    """Yield the ranges of tokens of the two texts of a long pair, for each encoding. Raises TextTooLongError."""
    first, second = lengths
    if truncation in (LONGEST_FIRST, TAIL):
        counts = longest_first(first, second, room)
        yield [_cut(own, kept, truncation) for own, kept in zip(lengths, counts, strict=True)]
        return
    cut, whole = (0, second) if truncation == ONLY_FIRST else (1, first)
    least = round(room * _LEAST_WINDOW) if truncation == WINDOWS else 1
    left = room - whole
    if left < least:
        raise TextTooLongError(
            f"{NAMES[1 - cut]} has {whole} tokens, which leaves {max(left, 0)} of {room} for the other, at least "
            f"{least} are needed with truncation '{truncation}'"
        )
    if truncation == WINDOWS:
        for one in _windows(second, left, min(overlap, left // 2)):
            yield [[(0, first)], [one]]
        return
    how = HEAD_TAIL if truncation == HEAD_TAIL else HEAD
    yield [_cut(first, left, how), [(0, second)]] if cut == 0 else [[(0, first)], _cut(second, left, how)]


def _windows(own: int, room: int, overlap: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + room, own)) for start in range(0, own - overlap, room - overlap))


def _cut(own: int, room: int, truncation: str) -> list[tuple[int, int]]:
    """Return the ranges of tokens that are kept of a text with `own` tokens, `room` of them."""
    if own <= room:
        return [(0, own)]
    first = kept_from_start(room, truncation)
    return [(start, end) for start, end in ((0, first), (own - room + first, own)) if start < end]
