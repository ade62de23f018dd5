"""Token ids of texts, truncated as the served model will truncate them. No torch.

A test holds this against inferer/tokens/encoding.py: training and serving must see the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from inferer.errors import TextError
from inferer.tokens.encoding import INPUTS, Encoder
from inferer.tokens.texts import TextOrPair
from inferer.tokens.truncation import kept_from_start
from training.errors import TrainingError


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
    "head_tail" a quarter from its start and three from its end. pair: whether it encodes pairs, cut as the truncations
    of a served pair say.
    """

    tokenizer: Any
    max_length: int
    truncation: str
    pair: bool = False

    def encode(self, texts: Sequence[TextOrPair]) -> EncodedTexts:
        """Encode `texts`, in order, whatever padding and truncation the tokenizer's file asks for."""
        if not texts:
            return EncodedTexts([], [])
        if self.pair:
            return self._encode_pairs(texts)
        whole = {"truncation": False, "padding": False, "verbose": False, "return_special_tokens_mask": True}
        columns = self.tokenizer(list(texts), **whole)
        masks = columns.pop("special_tokens_mask")
        special = self.tokenizer.num_special_tokens_to_add(pair=False)
        rows = []
        for i, mask in enumerate(masks):
            kept = self._kept(mask, special)
            rows.append({name: [one for part in kept for one in ids[i][part]] for name, ids in columns.items()})
        return EncodedTexts(rows, [len(mask) for mask in masks])

    def _encode_pairs(self, pairs: Sequence[TextOrPair]) -> EncodedTexts:
        """Encode pairs as a served bundle does."""
        encoder = Encoder(Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str()), self.max_length, pair=True)
        names = [name for name in self.tokenizer.model_input_names if name in INPUTS]
        rows, lengths = [], []
        for number, pair in enumerate(pairs, start=1):
            try:
                (one,) = encoder.encode(pair, self.truncation)
            except TextError as error:
                raise TrainingError(f"pair {number}: {error}") from error
            rows.append({name: getattr(one, name).tolist() for name in names})
            lengths.append(one.num_tokens)
        return EncodedTexts(rows, lengths)

    def _kept(self, mask: Sequence[int], special: int) -> tuple[slice, ...]:
        """Return the places that truncation keeps; `mask` marks the special tokens, of which a text gets `special`."""
        own, room = len(mask) - special, self.max_length - special
        if own <= room:
            return (slice(None),)
        before = next((place for place, marked in enumerate(mask[:special]) if not marked), special)
        first = before + kept_from_start(room, self.truncation)
        return slice(first), slice(first + own - room, None)
