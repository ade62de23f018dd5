"""Built-in sentences of many lengths, for the checks that need no data of the user's."""

from __future__ import annotations

from inferer.tokens.encoding import Encoder
from inferer.tokens.texts import TextOrPair

# Of the longest texts that run in fp32 and in torch, in batches: their attention takes memory by the square of the
# tokens, for ModernBERT-base at its 8,192 tokens several times 3 GB.
MOST_TOKENS = 1024

_SENTENCES = (
    "ok",
    "Huggies",
    "hand bags",
    "Not worth the money, sadly.",
    "The parcel came two days late and the box was open.",
    "¿Dónde está la estación? Wir wissen es nicht; 我不知道 🤷",
    "I have read this novel three times, and each time the ending surprised me more than before.",
    "An efficient index structure for similarity search over large collections of time series",
    "Their support answered within the hour, sent a new charger without any questions, and even called "
    "a week later to ask whether everything was working as it should. That is how it is done.",
    "WOW!!! best. purchase. ever!!! 10/10 would buy again :-) http://example.com/offer?id=42&ref=mail",
)


def built_in_texts(encoder: Encoder) -> list[TextOrPair]:
    """Return sentences from one word up to, and beyond, the encoder's most tokens, or pairs of them.

    For an encoder of more than MOST_TOKENS, up to about these.
    """
    longest = min(encoder.max_length, MOST_TOKENS)
    if encoder.pair:
        return _pairs(encoder, longest)
    texts: list[TextOrPair] = list(_SENTENCES)
    paragraph = " ".join(_SENTENCES)
    pieces = [paragraph]
    for share in (4, 2, 1):
        while encoder.encode_one(" ".join(pieces)).num_tokens < longest // share:
            pieces.append(paragraph)
        texts.append(" ".join(pieces))
    return texts


def _pairs(encoder: Encoder, longest: int) -> list[TextOrPair]:
    """Return each sentence with another, and pairs of a long first, a long second, and two long texts."""
    count = len(_SENTENCES)
    pairs: list[TextOrPair] = [(text, _SENTENCES[(place + 3) % count]) for place, text in enumerate(_SENTENCES)]
    long = " ".join(_SENTENCES)
    while encoder.encode_one((long, long)).num_tokens < 2 * longest:
        long += " " + " ".join(_SENTENCES)
    return [*pairs, (_SENTENCES[6], long), (long, _SENTENCES[6]), (long, long)]
