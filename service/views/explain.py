"""`POST /explain`: the contribution of each word of one text to a label."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from flask import Blueprint, Request, Response, request
from msgspec import UNSET, Meta, UnsetType

from inferer.explain import MOST_WORDS, Part
from inferer.options import ExplainOptions
from inferer.tokens.texts import TextOrPair
from service.contracts import own
from service.contracts.fields import Label, Text, Truncation, given, limited
from service.errors import wrong_field
from service.inference import explain
from service.json_body import JSON, check_length, decode, json_response, read_body, validate
from service.openapi.view_metadata import OF_PREDICTIONS, WITH_BODY, ViewMetadata
from service.state import current_state

blueprint = Blueprint("explain", __name__)


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A text or a pair, and the options of the call."""

    schema_extra: ClassVar[dict[str, object]] = {}
    pair_schema_extra: ClassVar = {"required": ["text", "text_pair"]}

    text: Text
    text_pair: Annotated[Text, limited("text_pair", "the second text of a pair")] | UnsetType = UNSET
    label: Label | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    max_parts: Annotated[int, Meta(ge=1), limited("parts", "the number of parts at most")] | UnsetType = UNSET


class Cost(msgspec.Struct):
    """The cost of an explanation."""

    runs: Annotated[int, Meta(description="texts run, the whole text included", ge=1)]
    tokens: Annotated[int, Meta(description="tokens in these texts", ge=1)]


class ExplainReply(msgspec.Struct):
    """The parts of a text, and the points that the label's score loses without each."""

    label: str
    score: Annotated[float, limited("score")]
    method: str
    parts: list[Part]
    cost: Cost
    num_tokens: Annotated[int, Meta(ge=0)]
    truncated: bool
    windows: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    sides: Annotated[dict[str, own.SideReply], limited("text_pair")] | UnsetType = UNSET


@blueprint.post("/explain")
@ViewMetadata(
    own.CONTRACT.name,
    {JSON: ExplainReply},
    body=ExplainRequest,
    examples={
        "one text": {"text": "I like you"},
        "three parts at most": {"text": "I like you very much", "max_parts": 3},
        "the end of a long text": {"text": "I like you", "truncation": "tail"},
    },
    pair_examples={
        "one pair": {"text": "I like you", "text_pair": "not for me"},
        "three parts at most": {"text": "I like you very much", "text_pair": "b", "max_parts": 3},
        "the end of long texts": {"text": "I like you", "text_pair": "b", "truncation": "tail"},
    },
    errors=WITH_BODY,
    headers=OF_PREDICTIONS,
)
def explanation() -> Response:
    """Return the parts of the text, and the points that the label's score loses without each."""
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of the proxy costs time
    data, _ = read_body(current, (JSON,))
    state = current_state()
    with state.capacity.memory(len(data)):
        body: ExplainRequest = validate(ExplainRequest, decode(data))
        check_length(body.text, "text", state.settings.max_text_chars)
        text: TextOrPair = body.text
        if not isinstance(body.text_pair, UnsetType):
            check_length(body.text_pair, "text_pair", state.settings.max_text_chars)
            text = (body.text, body.text_pair)
        explained = explain(state, current, text, _options(body, state.settings.max_texts))
        return json_response(explained.as_dict())


def _options(body: ExplainRequest, most: int) -> ExplainOptions:
    """Return the call's options. A part costs as much as a text, so `most`, the texts per request, limits the parts."""
    parts = None if most >= MOST_WORDS else most
    if not isinstance(body.max_parts, UnsetType):
        parts = body.max_parts
        if parts > most:
            raise wrong_field("max_parts", f"{parts} is not allowed; expected at most {most}")
    return ExplainOptions(given(body.label), given(body.truncation), parts)
