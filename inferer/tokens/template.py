"""The special tokens that a tokenizer puts around one text, or around and between two, and the types of all tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

_MOST_PROBES = 1000


@dataclass(frozen=True, slots=True)
class Template:
    """special: the ids before the first text, between two texts, and after the last, int32, in order.

    types: the types of the same tokens. text_types: the type of each text's tokens.
    """

    special: tuple[NDArray[np.int32], ...]
    types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def special_tokens(self) -> int:
        """Return the number of special tokens."""
        return sum(map(len, self.special))

    def ids(self, texts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
        """Return the ids of the texts with the special tokens around them, a copy."""
        return np.concatenate([*chain.from_iterable(zip(self.special, texts, strict=False)), self.special[-1]])

    def starts(self, lengths: Sequence[int]) -> Iterator[int]:
        """Yield the place of the first token of each text, for texts of these lengths."""
        place = 0
        for special, length in zip(self.special, lengths, strict=False):
            place += len(special)
            yield place
            place += length

    def token_types(self, lengths: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the type of each token, for texts of these lengths; None where all are 0."""
        if not any(self.text_types) and not any(map(any, self.types)):
            return None
        types: list[int] = []
        for special, kind, length in zip(self.types, self.text_types, lengths, strict=False):
            types += [*special, *[kind] * length]
        return np.array([*types, *self.types[-1]], dtype=np.int64)


def read_template(tokenizer: Tokenizer, *, pair: bool) -> Template:
    """Return the template of one text or, with `pair`, of two, as the tokenizer applies it to a short text.

    Raises ValueError for a tokenizer that does not put whole texts between its special tokens.
    """
    probe, own = _probe(tokenizer)
    count = 2 if pair else 1
    found = tokenizer.encode(probe, probe) if pair else tokenizer.encode(probe)
    places = [place for place, special in enumerate(found.special_tokens_mask) if not special]
    starts = places[:: len(own)]
    if [found.ids[place] for place in places] != own * count or len(starts) != count:
        texts = "two texts" if pair else "a text"
        raise ValueError(f"its template for {texts} makes {found.tokens} of {probe!r}")
    bounds = [0, *(bound for start in starts for bound in (start, start + len(own))), len(found.ids)]
    outside = list(islice(pairwise(bounds), 0, None, 2))
    return Template(
        special=tuple(np.array(found.ids[start:end], dtype=np.int32) for start, end in outside),
        types=tuple(tuple(found.type_ids[start:end]) for start, end in outside),
        text_types=tuple(found.type_ids[start] for start in starts),
    )


def _probe(tokenizer: Tokenizer) -> tuple[str, list[int]]:
    """Return a text that has tokens, and their ids."""
    for text in islice(chain(("a",), tokenizer.get_vocab()), _MOST_PROBES):
        try:
            if ids := tokenizer.encode(text, add_special_tokens=False).ids:
                return text, ids
        except Exception:  # noqa: BLE001, S112 - a vocabulary without the letter, and without an unknown token
            continue
    raise ValueError("it makes no tokens of any text")
