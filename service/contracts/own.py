"""The service's own contract: one text or several, and the options of the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, Texts, Threshold, TopK, Truncation, given
from service.errors import ServiceError
from service.state import State


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of text and texts, and the options of the call."""

    schema_extra: ClassVar = {"oneOf": [{"required": ["text"]}, {"required": ["texts"]}]}

    text: Text | UnsetType = UNSET
    texts: Texts | UnsetType = UNSET
    top_k: TopK | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    threshold: Threshold | UnsetType = UNSET


class PredictionReply(msgspec.Struct):
    """The prediction for one text."""

    label: Annotated[str, Meta(description="the best label, whatever its threshold")]
    score: Annotated[float, Meta(description="the best label's score, not rounded", ge=0, le=1)]
    labels: Annotated[
        list[str], Meta(description="the best label; for a multi-label model all labels that reach their threshold")
    ]
    scores: Annotated[dict[str, float], Meta(description="all labels in the model's order, or the best top_k")]
    num_tokens: Annotated[int, Meta(description="tokens of the whole text, special tokens included", ge=0)]
    truncated: Annotated[bool, Meta(description="whether the model skipped a part of the text")]
    windows: Annotated[int, Meta(description="number of windows, with truncation 'windows'", ge=1)] | UnsetType = UNSET
    abstained: Annotated[bool, Meta(description="whether the best score was too low for any label")] | UnsetType = UNSET


class PredictionsReply(msgspec.Struct):
    """The predictions for several texts, in order."""

    predictions: list[PredictionReply]


def prediction_reply(prediction: Prediction) -> PredictionReply:
    """Return a prediction in the service's own format."""
    return PredictionReply(**prediction.as_dict())


def _read(body: PredictRequest) -> PredictCall:
    if isinstance(body.text, UnsetType) == isinstance(body.texts, UnsetType):
        found = "neither" if body.text is UNSET else "both"
        raise ServiceError("Validation", f"give exactly one of the fields 'text' and 'texts', not {found}")
    options = CallOptions(given(body.top_k), given(body.truncation), given(body.threshold))
    if not isinstance(body.text, UnsetType):
        return PredictCall([body.text], ["text"], options)
    texts = body.texts or []
    return PredictCall(texts, [f"texts[{index}]" for index in range(len(texts))], options)


def _render(body: PredictRequest, predictions: Sequence[Prediction], _: State) -> PredictionReply | PredictionsReply:
    replies = [prediction_reply(prediction) for prediction in predictions]
    return replies[0] if body.texts is UNSET else PredictionsReply(replies)


CONTRACT = Contract(
    "Native API",
    PredictRequest,
    (PredictionReply, PredictionsReply),
    _read,
    _render,
    keys=("text", "texts"),
    examples={
        "one text": {"text": "I like you"},
        "several texts": {"texts": ["I like you", "not for me"], "top_k": 1},
        "the end of a long text": {"text": "I like you", "truncation": "tail"},
    },
    wrong_examples={"an unknown field": {"text": "I like you", "topk": 1}},
)
