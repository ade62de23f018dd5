"""Texts of a request, each one text or a pair of two, as the bundle's model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from inferer.bundle.reader import HEAD, LONGEST_FIRST
from inferer.tokens.texts import TextOrPair
from service.contracts.base import Field
from service.contracts.fields import Text, limited
from service.state import current_state


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """A pair of texts."""

    text: Text
    text_pair: Text


class TextObject(msgspec.Struct):
    """A text, or a pair of texts, in an object. Unknown fields are ignored."""

    text: Text
    text_pair: Annotated[Text | None, limited("text_pair", "the second text of a pair")] = None


PairList = Annotated[list[Text], Meta(min_length=2, max_length=2)]
Item: TypeAlias = Annotated[Text | PairList | Pair, limited("item", "a text, or a pair as a list or an object")]
Items: TypeAlias = Annotated[list[Item], limited("texts", "texts", minItems=1)]


def text_of(item: str | Sequence[str] | Pair | TextObject) -> TextOrPair:
    """Return the text or the pair of an item."""
    if isinstance(item, str):
        return item
    if isinstance(item, Pair | TextObject):
        return item.text if item.text_pair is None else (item.text, item.text_pair)
    first, second = item
    return first, second


def field_of(item: str | Sequence[str] | Pair | TextObject, field: str) -> Field:
    """Return the name of an item's field, or the names of both texts of a pair. field: the item's own."""
    if isinstance(item, str):
        return field
    if isinstance(item, Pair | TextObject):
        return f"{field}.text" if item.text_pair is None else (f"{field}.text", f"{field}.text_pair")
    return f"{field}[0]", f"{field}[1]"


def from_start() -> str:
    """Return the truncation that cuts the end of a long text, or of the longer text of a pair."""
    return LONGEST_FIRST if current_state().inferer.text_pair else HEAD
