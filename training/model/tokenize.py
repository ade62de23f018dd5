"""Texts to token ids, cut as the served model will cut them. No torch.

A test holds this against inferer/encoding.py, which it must not import: a text must be read alike on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.recipe.recipe import HEAD_TAIL, TAIL

# Of what a model with 510 tokens for the text reads, 128 are its first: the best cut of long texts in Sun et al.,
# How to Fine-Tune BERT for Text Classification? (arXiv 1905.05583), 5.3.1. Kept as a share, as when serving.
_HEAD_SHARE = 128 / 510


def encode(tokenizer: Any, texts: Sequence[str], max_length: int, truncation: str) -> list[dict[str, list[int]]]:
    """Return what a model reads of each text: input_ids, attention_mask and, where it has them, token_type_ids.

    tokenizer: a fast one of transformers. max_length: in tokens, special ones included. truncation: "head" keeps the
    first tokens of a longer text, "tail" the last, "head_tail" the first quarter and the last three.
    """
    if not texts:
        return []
    special = tokenizer.num_special_tokens_to_add(pair=False)
    rows = tokenizer(list(texts), truncation=False, padding=False, verbose=False, return_special_tokens_mask=True)
    masks = rows.pop("special_tokens_mask")
    encoded = []
    for i, mask in enumerate(masks):
        kept = _kept(mask, special, max_length - special, truncation)
        encoded.append({name: [part for piece in kept for part in column[i][piece]] for name, column in rows.items()})
    return encoded


def lengths_of(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Return how many tokens each text has, special ones included, before any cut."""
    return [len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]] if texts else []


def _kept(mask: list[int], special: int, room: int, truncation: str) -> tuple[slice, ...]:
    """Return which of a text's tokens are kept; `mask` says which are special."""
    own = len(mask) - special
    if own <= room:
        return (slice(None),)
    before = 0
    while before < special and mask[before]:
        before += 1
    first = {TAIL: 0, HEAD_TAIL: round(room * _HEAD_SHARE)}.get(truncation, room)
    end = before + own
    return slice(before + first), slice(end - room + first, None)
