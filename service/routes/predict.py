"""`POST /predict`, our own contract: one text or several, with options."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from flask import Blueprint, Request, Response, request
from msgspec import UNSET, UnsetType

from inferer.errors import TextError
from inferer.options import CallOptions
from service.answering import answer
from service.errors import ServiceError
from service.reply import json_response
from service.state import State, current_state
from service.wire import check_length, parse_json, read_body

blueprint = Blueprint("predict", __name__)


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /predict`: exactly one of text and texts, and the options of the call."""

    text: str | UnsetType = UNSET
    texts: list[str] | UnsetType = UNSET
    top_k: Annotated[int, msgspec.Meta(ge=1)] | UnsetType = UNSET
    truncation: str | UnsetType = UNSET
    threshold: float | dict[str, float] | UnsetType = UNSET


@blueprint.post("/predict")
def predict() -> Response:
    """Answer one text with an object, several with a list of them in order."""
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of `request` itself costs
    data = read_body(asked)
    state = current_state()
    with state.admitted():  # only now: a slow sender holds no place
        body = parse_json(data, PredictRequest)
        try:
            predictions = answer(state, asked, _texts(body, state), _options(body))
        except TextError as error:
            raise ServiceError("Validation", f"field '{_place(body, error.index)}': {error.problem}") from error
        answers = [prediction.as_dict() for prediction in predictions]
        return json_response(answers[0] if body.texts is UNSET else {"predictions": answers})


def _texts(body: PredictRequest, state: State) -> list[str]:
    """Return the texts asked about, within the deployment's limits."""
    if isinstance(body.text, UnsetType) == isinstance(body.texts, UnsetType):
        given = "neither" if body.text is UNSET else "both"
        raise ServiceError("Validation", f"give exactly one of the fields 'text' and 'texts', not {given}")
    texts = [body.text] if isinstance(body.text, str) else list(body.texts or ())
    limits = state.settings
    if not 1 <= len(texts) <= limits.max_texts:
        raise ServiceError("Validation", f"field 'texts': has {len(texts)} texts, allowed are 1 to {limits.max_texts}")
    for index, text in enumerate(texts):
        check_length(text, _place(body, index), limits.max_text_chars)
    return texts


def _place(body: PredictRequest, index: int | None) -> str:
    """Return the field that the text at `index` came in."""
    return "text" if body.texts is UNSET else f"texts[{index}]"


def _options(body: PredictRequest) -> CallOptions:
    def given(value: Any) -> Any:
        return None if value is UNSET else value

    return CallOptions(given(body.top_k), given(body.truncation), given(body.threshold))
