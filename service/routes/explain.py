"""`POST /explain`, our own contract: what each word of one text contributes to a label."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Blueprint, Request, Response, request
from msgspec import UNSET, UnsetType

from inferer.errors import TextError
from inferer.explain import MOST_WORDS
from inferer.options import ExplainOptions
from service.answering import explanation
from service.errors import ServiceError
from service.reply import json_response
from service.state import State, current_state
from service.wire import check_length, parse_json, read_body

blueprint = Blueprint("explain", __name__)


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /explain`: a text, and the options of the call."""

    text: str
    label: str | UnsetType = UNSET
    truncation: str | UnsetType = UNSET
    max_parts: Annotated[int, msgspec.Meta(ge=1)] | UnsetType = UNSET


@blueprint.post("/explain")
def explain() -> Response:
    """Answer with the parts of the text, and by how much the label's score falls without each."""
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of `request` itself costs
    data = read_body(asked)
    state = current_state()
    with state.admitted():  # only now: a slow sender holds no place
        body = parse_json(data, ExplainRequest)
        check_length(body.text, "text", state.settings.max_text_chars)
        try:
            explained = explanation(state, asked, body.text, _options(body, state))
        except TextError as error:
            raise ServiceError("Validation", f"field 'text': {error.problem}") from error
        return json_response(explained.as_dict())


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
