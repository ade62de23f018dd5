"""Fields that contracts share: their types, and the limits that model and deployment add to their schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from inferer.bundle.reader import TRUNCATIONS
from service.state import State

# The key of a limit's name in a field's schema: msgspec copies it, and service/openapi/schemas.py fills in the limit.
LIMIT = "x-inferer-limit"

# Returns the additions to a schema, or None if the model does not take the field.
Limit = Callable[[State], dict[str, Any] | None]
LIMITS: dict[str, Limit] = {}

# A character for which Python's str.isspace is false; `\s` differs between languages.
NOT_BLANK = r"[^\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def limited(limit: Limit, description: str | None = None, **schema: Any) -> Meta:
    """Return the metadata of a field: its description, a limit, and more of its schema."""
    name = f"{limit.__module__}.{limit.__qualname__}"
    LIMITS[name] = limit
    return Meta(description=description, extra_json_schema={LIMIT: name, **schema})


def text_limit(state: State) -> dict[str, Any]:
    """Return the limit of a text's length."""
    return {"maxLength": state.settings.max_text_chars}


def texts_limit(state: State) -> dict[str, Any]:
    """Return the limit of the number of texts per request."""
    return {"maxItems": state.settings.max_texts}


def _labels(state: State) -> dict[str, Any]:
    return {"enum": list(state.inferer.labels)}


def _threshold(state: State) -> dict[str, Any] | None:
    if state.inferer.thresholds is None:
        return None
    number = {"type": "number", "minimum": 0, "maximum": 1}
    return {"anyOf": [number, {"type": "object", "additionalProperties": number, "propertyNames": _labels(state)}]}


Text = Annotated[str, limited(text_limit, "a text, not blank", minLength=1, pattern=NOT_BLANK)]
Texts = Annotated[list[Text], limited(texts_limit, "texts", minItems=1)]
TopK = Annotated[int, Meta(ge=1, description="the number of scores to return, best first")]
Truncation = Annotated[
    str,
    Meta(
        description="the treatment of a text that is too long for the model; by default the bundle's",
        extra_json_schema={"enum": [*TRUNCATIONS]},
    ),
]
Label = Annotated[str, limited(_labels, "a label of the model; by default the best one")]
Threshold = Annotated[
    float | dict[str, float], limited(_threshold, "for multi-label models: one for all labels, or one per label")
]
