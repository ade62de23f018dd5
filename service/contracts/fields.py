"""Fields that contracts share: their types, and the limits that model and deployment add to their schemas."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta

from inferer.bundle.manifest import ACTIVATIONS, NONE, SOFTMAX
from service.state import State

# The key of a limit's name in a field's schema: msgspec copies it, and service/openapi/document.py fills in the limit.
LIMIT = "x-inferer-limit"

# A character for which Python's str.isspace is false; `\s` differs between languages.
NOT_BLANK = r"[^\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def documented(description: str | None = None, **schema: Any) -> Meta:
    """Return the metadata of a field: its description, and a part of its schema that msgspec does not check."""
    return Meta(description=description, extra_json_schema=schema)


def limited(limit: str, description: str | None = None, **schema: Any) -> Meta:
    """Return the metadata of a field with the limit of this name; otherwise as `documented`."""
    return documented(description, **{LIMIT: limit}, **schema)


def given(value: Any) -> Any:
    """Return the value of a field, None for a missing one."""
    return None if value is UNSET else value


def limits(state: State) -> dict[str, dict[str, Any] | None]:
    """Return by name the additions to a schema, or None for a field that the model does not take."""
    text = {"maxLength": state.settings.max_text_chars}
    texts = {"maxItems": state.settings.max_texts}
    label = {"enum": list(state.inferer.labels)}
    number = {"type": "number", "minimum": 0, "maximum": 1}
    per_label = {"type": "object", "additionalProperties": number, "propertyNames": label}
    single = {"type": "string", "minLength": 1, "pattern": NOT_BLANK, **text}
    in_list = {"type": "array", "items": single, "minItems": 1, "maxItems": 1}
    pair = state.inferer.text_pair
    pair_list = {"type": "array", "items": single, "minItems": 2, "maxItems": 2}
    named = {"text": single, "text_pair": single}
    pair_object = {"type": "object", "properties": named, "required": list(named), "additionalProperties": False}
    one = [pair_list] if pair else [single, in_list]
    properties = named if pair else {"text": single}
    open_object = {"type": "object", "properties": properties, "required": list(properties)}
    instances = [pair_list if pair else single, open_object]
    listed = {"type": "array", "items": {"anyOf": instances}, "minItems": 1, **texts}
    batch = {"type": "array", "items": pair_list if pair else in_list, "minItems": 1, **texts}
    return {
        "text": text,
        "text_pair": text if pair else None,
        "item": {"anyOf": [pair_list, pair_object] if pair else [single]},
        "texts": texts,
        "label": label,
        "threshold": None if state.inferer.thresholds is None else {"anyOf": [number, per_label]},
        "max_tokens": {"minimum": state.inferer.max_length},
        "parts": {"maximum": state.settings.max_texts},
        # text-embeddings-inference: a text, a list of one text or of the two of a pair, or a batch of such lists.
        "input": {"anyOf": [single, {"type": "array", "items": single, "minItems": 1, **texts}]},
        "inputs": {"anyOf": [*one, batch]},
        "hugging_face": {"anyOf": [*(one for one in instances if one is not pair_list), listed]},
        "instance": {"anyOf": instances},
        "infer_inputs": {"minItems": 2 if pair else 1, "maxItems": 2 if pair else 1},
        "truncation": {"enum": [*state.inferer.bundle.truncations]},
        "activation": {"enum": [one for one in ACTIVATIONS if one != SOFTMAX or len(state.inferer.labels) > 1]},
        "score": {"minimum": 0, "maximum": 1} if state.inferer.activation != NONE else {},
    }


Text = Annotated[str, limited("text", "a text, not blank", minLength=1, pattern=NOT_BLANK)]
Texts = Annotated[list[Text], limited("texts", "texts", minItems=1)]
TopK = Annotated[int, Meta(ge=1, description="the number of scores to return, best first")]
Truncation = Annotated[
    str,
    limited("truncation", "the treatment of a text that is too long for the model; by default the bundle's"),
]
Label = Annotated[str, limited("label", "a label of the model; by default the best one")]
Threshold = Annotated[
    float | dict[str, float], limited("threshold", "for multi-label models: one for all labels, or one per label")
]
