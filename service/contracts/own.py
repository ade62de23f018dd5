"""`POST /predict`: our own contract, and those that come to the same path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from flask import Blueprint, Response
from msgspec import UNSET, Meta, UnsetType

from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, Example, PredictCall, as_json, by_keys, respond
from service.contracts.fields import Text, Texts, Threshold, TopK, Truncation
from service.errors import ServiceError
from service.openapi.view_metadata import contract_metadata
from service.settings import Settings
from service.state import State

blueprint = Blueprint("predict", __name__)


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of text and texts, and the options of the call."""

    schema_extra: ClassVar = {"oneOf": [{"required": ["text"]}, {"required": ["texts"]}]}

    text: Text | UnsetType = UNSET
    texts: Texts | UnsetType = UNSET
    top_k: TopK | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    threshold: Threshold | UnsetType = UNSET


class PredictionReply(msgspec.Struct):
    """The answer to one text."""

    label: Annotated[str, Meta(description="the best label, whatever the threshold")]
    score: Annotated[float, Meta(description="its score, not rounded", ge=0, le=1)]
    labels: Annotated[
        list[str],
        Meta(description="the best label alone, or with several labels a text those at or above their threshold"),
    ]
    scores: Annotated[dict[str, float], Meta(description="all labels in the model's order, or the best top_k")]
    num_tokens: Annotated[int, Meta(description="of the whole text, special tokens included", ge=0)]
    truncated: Annotated[bool, Meta(description="whether some of the text went unread")]
    windows: (
        Annotated[int, Meta(description="in how many the text was read, where it was read so", ge=1)] | UnsetType
    ) = UNSET
    abstained: (
        Annotated[bool, Meta(description="whether the best score was too low for a label to be named")] | UnsetType
    ) = UNSET


class PredictionsReply(msgspec.Struct):
    """The answers to several texts, in order."""

    predictions: list[PredictionReply]


def prediction_reply(prediction: Prediction) -> PredictionReply:
    """Return a prediction as our wire format has it."""
    return PredictionReply(**prediction.as_dict())


def _read(body: PredictRequest, _: Settings) -> PredictCall:
    if isinstance(body.text, UnsetType) == isinstance(body.texts, UnsetType):
        given = "neither" if body.text is UNSET else "both"
        raise ServiceError("Validation", f"give exactly one of the fields 'text' and 'texts', not {given}")
    options = CallOptions(_given(body.top_k), _given(body.truncation), _given(body.threshold))
    if not isinstance(body.text, UnsetType):
        return PredictCall([body.text], ["text"], options)
    texts = body.texts or []
    return PredictCall(texts, [f"texts[{index}]" for index in range(len(texts))], options)


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _render(body: PredictRequest, predictions: Sequence[Prediction], _: State) -> PredictionReply | PredictionsReply:
    answers = [prediction_reply(prediction) for prediction in predictions]
    return answers[0] if body.texts is UNSET else PredictionsReply(answers)


CONTRACT = Contract(
    "Our own",
    PredictRequest,
    (PredictionReply, PredictionsReply),
    _read,
    _render,
    keys=("text", "texts"),
    examples={
        "one text": Example({"text": "I like you"}),
        "several texts": Example({"texts": ["I like you", "not for me"], "top_k": 1}),
        "an unknown field": Example({"text": "I like you", "topk": 1}),
    },
)


def any_contract(body: object, state: State) -> Contract[Any]:
    """Return the contract that a body on a path of several is written in: ours where nothing tells another."""
    return by_keys(body, state.contracts, CONTRACT)


ANY = as_json(any_contract)


@blueprint.post("/predict")
@contract_metadata(CONTRACT, ANY, several=True)
def predict() -> Response:
    """Answer one text with an object, several with a list of them in order.

    A body with `inputs` is read as text-embeddings-inference's, with `parameters` beside it as Hugging Face's, and with
    `instances` as KServe's v1.
    """
    return respond(ANY)
