"""The fields that contracts share: their types, and for the description what the model and this deployment allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from inferer.bundle.reader import TRUNCATIONS
from service.state import State

# The key of a limit's name in a field's schema: msgspec copies it, service/openapi/schemas.py fills the limit in.
LIMIT = "x-inferer-limit"

# From the state to what a limit adds to a schema; None where the model takes no such field.
Limit = Callable[[State], dict[str, Any] | None]
LIMITS: dict[str, Limit] = {}

# A character that is no white space as Python's str.isspace sees it; `\s` is another set in each language.
SOME = r"[^\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def limited(limit: Limit, description: str | None = None, **schema: Any) -> Meta:
    """Return a field's description with a limit that is the model's or the deployment's, and more of its schema."""
    name = f"{limit.__module__}.{limit.__qualname__}"
    LIMITS[name] = limit
    return Meta(description=description, extra_json_schema={LIMIT: name, **schema})


def text_limit(state: State) -> dict[str, Any]:
    """Return how long a text may be."""
    return {"maxLength": state.settings.max_text_chars}


def texts_limit(state: State) -> dict[str, Any]:
    """Return how many texts a request may have."""
    return {"maxItems": state.settings.max_texts}


def _labels(state: State) -> dict[str, Any]:
    return {"enum": list(state.inferer.labels)}


def _threshold(state: State) -> dict[str, Any] | None:
    if state.inferer.thresholds is None:
        return None
    number = {"type": "number", "minimum": 0, "maximum": 1}
    return {"anyOf": [number, {"type": "object", "additionalProperties": number, "propertyNames": _labels(state)}]}


Text = Annotated[str, limited(text_limit, "a text, more than white space", minLength=1, pattern=SOME)]
Texts = Annotated[list[Text], limited(texts_limit, "texts", minItems=1)]
TopK = Annotated[int, Meta(ge=1, description="how many scores, best first")]
Truncation = Annotated[
    str,
    Meta(
        description="how a long text is read; by default as the bundle says", extra_json_schema={"enum": [*TRUNCATIONS]}
    ),
]
Label = Annotated[str, limited(_labels, "a label of the model; by default the best one")]
Threshold = Annotated[
    float | dict[str, float], limited(_threshold, "for several labels a text: of every label, or a label's own")
]
