"""`POST /explain`, our own contract: what each word of one text contributes to a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Request, Response, request
from msgspec import UNSET, Meta, UnsetType

from inferer.errors import TextError
from inferer.explain import MOST_WORDS, Explanation, Part
from inferer.options import ExplainOptions
from service.contracts.base import Example
from service.contracts.fields import Label, Text, Truncation, limited
from service.errors import ServiceError
from service.inference import explanation
from service.json_body import JSON, check_length, decode_json, json_response, read_body, validate
from service.openapi.view_metadata import OF_PREDICTIONS, WITH_BODY, ViewMetadata
from service.state import State, current_state

blueprint = Blueprint("explain", __name__)


def _most_parts(state: State) -> dict[str, Any]:
    return {"maximum": state.settings.max_texts}


_Parts = Annotated[int, Meta(ge=1), limited(_most_parts, "in how many parts the text is divided at most")]


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A text, and the options of the call."""

    text: Text
    label: Label | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    max_parts: _Parts | UnsetType = UNSET


class Cost(msgspec.Struct):
    """What the explanation took."""

    runs: Annotated[int, Meta(description="texts run, the whole one included", ge=1)]
    tokens: Annotated[int, Meta(description="in them", ge=1)]


class Explained(msgspec.Struct):
    """What the parts of a text contribute to a label: by how much its score is lower without each."""

    label: str
    score: Annotated[float, Meta(ge=0, le=1)]
    method: str
    parts: list[Part]
    cost: Cost
    num_tokens: Annotated[int, Meta(ge=0)]
    truncated: bool
    windows: Annotated[int, Meta(ge=1)] | UnsetType = UNSET


def _reply(body: object, state: State, explain: Callable[[str, ExplainOptions], Explanation]) -> Explained:
    """Return the reply to `body`, decoded JSON, with what `explain` finds; raises ServiceError."""
    asked = validate(ExplainRequest, body)
    check_length(asked.text, "text", state.settings.max_text_chars)
    try:
        return Explained(**explain(asked.text, _options(asked, state)).as_dict())
    except TextError as error:
        raise ServiceError("Validation", f"field 'text': {error.problem}") from error


def _example(example: Example, state: State) -> Explained:
    return _reply(example.body, state, lambda text, options: state.inferer.explain_timed(text, options)[0])


@blueprint.post("/explain")
@ViewMetadata(
    "Our own",
    {JSON: Explained},
    {JSON: ExplainRequest},
    errors=WITH_BODY,
    examples={"a text": Example({"text": "I like you"})},
    reply_to=_example,
    headers=OF_PREDICTIONS,
)
def explain() -> Response:
    """Answer with the parts of the text, and by how much the label's score falls without each."""
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of `request` itself costs
    data, _ = read_body(asked)
    state = current_state()
    with state.admitted():  # only now: a slow sender holds no place
        body = decode_json(data)
        return json_response(_reply(body, state, lambda text, options: explanation(state, asked, text, options)))


def _options(body: ExplainRequest, state: State) -> ExplainOptions:
    """Return the options asked for; a part costs what a text costs, so there may be as many as texts in a request."""
    most = state.settings.max_texts
    parts = None if most >= MOST_WORDS else most
    if not isinstance(body.max_parts, UnsetType):
        parts = body.max_parts
        if parts > most:
            raise ServiceError("Validation", f"field 'max_parts': {parts} is not allowed; expected at most {most}")
    label = None if isinstance(body.label, UnsetType) else body.label
    truncation = None if isinstance(body.truncation, UnsetType) else body.truncation
    return ExplainOptions(label, truncation, parts)
