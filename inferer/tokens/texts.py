"""A text, or a pair of texts: the input of one prediction. Free of numpy and tokenizers, as the server's master is."""

from __future__ import annotations

from typing import TypeAlias

TextOrPair: TypeAlias = str | tuple[str, str]

# The names of both texts of a pair, in requests and replies.
SIDES = ("text", "text_pair")


def sides_of(text: TextOrPair) -> tuple[str, ...]:
    """Return the one text, or both texts of a pair."""
    return (text,) if isinstance(text, str) else text


def characters_of(text: TextOrPair) -> int:
    """Return the number of characters, of both texts of a pair together."""
    return sum(map(len, sides_of(text)))
