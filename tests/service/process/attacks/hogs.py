"""The worst requests that the default limits allow, by what makes them slow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_CHARS = 100_000  # the default of INFERER_MAX_TEXT_CHARS
_TOKENS = 500_000  # of INFERER_MAX_TOKENS_PER_REQUEST
_BYTES = 1_990_000  # below the default of INFERER_MAX_BODY_BYTES
_GEORGIAN = "\u10d0"  # WordPiece looks for a prefix of every length in a word of letters outside the vocabulary


@dataclass(frozen=True)
class Hog:
    """A request that takes long. body: JSON in UTF-8."""

    name: str
    path: str
    body: bytes


def _many(unit: str, tokens_per_char: float = 0) -> dict[str, Any]:
    """Return as many texts of `unit` repeated as a body may have, each as long as a text may be."""
    text = (unit * (_CHARS // len(unit) + 1))[:_CHARS]
    count = _BYTES // (len(text.encode()) + 4)
    if tokens_per_char:
        count = min(count, int(_TOKENS / (len(text) * tokens_per_char + 2)))
    return {"texts": [text] * count}


def _hog(name: str, body: dict[str, Any], path: str = "/predict") -> Hog:
    return Hog(name, path, json.dumps(body, ensure_ascii=False).encode())


_SHORT_WORDS = ("a of to in is it on be " * _CHARS)[:_CHARS]

HOGS = {
    hog.name: hog
    for hog in (
        _hog("words", _many(_GEORGIAN * 99 + " ", 0.99)),
        _hog("lines", _many(_GEORGIAN * 99 + "\u10fb\n", 1)),
        _hog("dots", _many(".", 1)),
        _hog("ideographs", _many("\u4e2d", 1)),
        _hog("unknown", {"texts": [((_GEORGIAN * 98 + "\U00010000 ") * 5)[:510]] * 256}),  # seven tokens per text
        _hog("endless_word", _many(_GEORGIAN)),
        _hog("emoji", _many("\U0001f600")),
        _hog("marks", _many("a\u0301")),
        _hog("texts", {"texts": [("where is the nearest station " * 300)[: _BYTES // 256 - 4]] * 256}),
        _hog("windows", {"text": _SHORT_WORDS, "truncation": "windows"}),
        _hog("explain", {"text": _SHORT_WORDS, "truncation": "windows", "max_parts": 256}, "/explain"),
        _hog("explain_head", {"text": _SHORT_WORDS}, "/explain"),
    )
}
