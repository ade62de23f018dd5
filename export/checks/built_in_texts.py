"""Built-in sentences of many lengths, for the checks that need no data of the user's."""

from __future__ import annotations

from inferer.tokens.encoding import Encoder

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


def built_in_texts(encoder: Encoder) -> list[str]:
    """Return sentences from one word up to, and beyond, the encoder's most tokens."""
    texts = list(_SENTENCES)
    paragraph = " ".join(_SENTENCES)
    pieces = [paragraph]
    for share in (4, 2, 1):
        while encoder.encode_one(" ".join(pieces)).num_tokens < encoder.max_length // share:
            pieces.append(paragraph)
        texts.append(" ".join(pieces))
    return texts
