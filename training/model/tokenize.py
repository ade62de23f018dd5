"""Token ids of texts, truncated as the served model will truncate them. No torch.

A test holds this against inferer/tokens/encoding.py: training and serving must see the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inferer.tokens.encoding import kept_from_start


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as model inputs: per text its input_ids, attention_mask and, for some models, token_type_ids.

    lengths: tokens of each text before truncation, special ones included.
    """

    rows: list[dict[str, list[int]]]
    lengths: list[int]


@dataclass(frozen=True)
class TextEncoder:
    """Encode texts to at most `max_length` tokens, special ones included.

    tokenizer: a fast one of transformers. truncation: "head" keeps the first tokens of a longer text, "tail" the last,
    "head_tail" a quarter from its start and three from its end.
    """

    tokenizer: Any
    max_length: int
    truncation: str

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Encode `texts`, in order, whatever padding and truncation the tokenizer's file asks for."""
        if not texts:
            return EncodedTexts([], [])
        whole = {"truncation": False, "padding": False, "verbose": False, "return_special_tokens_mask": True}
        columns = self.tokenizer(list(texts), **whole)
        masks = columns.pop("special_tokens_mask")
        special = self.tokenizer.num_special_tokens_to_add(pair=False)
        rows = []
        for i, mask in enumerate(masks):
            kept = self._kept(mask, special)
            rows.append({name: [one for part in kept for one in ids[i][part]] for name, ids in columns.items()})
        return EncodedTexts(rows, [len(mask) for mask in masks])

    def _kept(self, mask: Sequence[int], special: int) -> tuple[slice, ...]:
        """Return the places that truncation keeps; `mask` marks the special tokens, of which a text gets `special`."""
        own, room = len(mask) - special, self.max_length - special
        if own <= room:
            return (slice(None),)
        before = next((place for place, marked in enumerate(mask[:special]) if not marked), special)
        first = before + kept_from_start(room, self.truncation)
        return slice(first), slice(first + own - room, None)
