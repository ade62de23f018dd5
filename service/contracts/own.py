"""The service's own contract: one text or several, and the options of the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, Threshold, TopK, Truncation, given, limited
from service.contracts.texts import Items, field_of, text_of
from service.errors import ServiceError, wrong_field
from service.state import State


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of text and texts, and the options of the call."""

    schema_extra: ClassVar = {"oneOf": [{"required": ["text"]}, {"required": ["texts"]}]}
    pair_schema_extra: ClassVar = {
        "oneOf": [
            {"required": ["text", "text_pair"], "not": {"required": ["texts"]}},
            {"required": ["texts"], "not": {"anyOf": [{"required": ["text"]}, {"required": ["text_pair"]}]}},
        ]
    }

    text: Text | UnsetType = UNSET
    text_pair: Annotated[Text, limited("text_pair", "the second text of a pair")] | UnsetType = UNSET
    texts: Items | UnsetType = UNSET
    top_k: TopK | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    threshold: Threshold | UnsetType = UNSET


class SideReply(msgspec.Struct):
    """The tokens of one text of a pair, without special tokens, and whether the model skipped some."""

    num_tokens: int
    truncated: bool


class PredictionReply(msgspec.Struct):
    """The prediction for one text."""

    label: Annotated[str, Meta(description="the best label, whatever its threshold")]
    score: Annotated[float, limited("score", "the best label's score, or a regression's number; not rounded")]
    labels: Annotated[
        list[str], Meta(description="the best label; for a multi-label model all labels that reach their threshold")
    ]
    scores: Annotated[dict[str, float], Meta(description="all labels in the model's order, or the best top_k")]
    num_tokens: Annotated[int, Meta(description="tokens of the whole text, special tokens included", ge=0)]
    truncated: Annotated[bool, Meta(description="whether the model skipped a part of the text")]
    windows: Annotated[int, Meta(description="number of windows, with truncation 'windows'", ge=1)] | UnsetType = UNSET
    sides: Annotated[dict[str, SideReply], limited("text_pair", "the tokens of each text of a pair")] | UnsetType = (
        UNSET
    )
    abstained: Annotated[bool, Meta(description="whether the best score was too low for any label")] | UnsetType = UNSET


class PredictionsReply(msgspec.Struct):
    """The predictions for several texts, in order."""

    predictions: list[PredictionReply]


def prediction_reply(prediction: Prediction) -> PredictionReply:
    """Return a prediction in the service's own format."""
    values = prediction.as_dict()
    if prediction.sides is not None:
        values["sides"] = {name: SideReply(**side) for name, side in values["sides"].items()}
    return PredictionReply(**values)


def _read(body: PredictRequest) -> PredictCall:
    if isinstance(body.text, UnsetType) == isinstance(body.texts, UnsetType):
        found = "neither" if body.text is UNSET else "both"
        raise ServiceError("Validation", f"give exactly one of the fields 'text' and 'texts', not {found}")
    options = CallOptions(given(body.top_k), given(body.truncation), given(body.threshold))
    if not isinstance(body.text, UnsetType):
        if isinstance(body.text_pair, UnsetType):
            return PredictCall([body.text], ["text"], options)
        return PredictCall([(body.text, body.text_pair)], [("text", "text_pair")], options)
    if body.text_pair is not UNSET:
        raise wrong_field("text_pair", "goes with 'text'; in 'texts' a pair is a list of two texts")
    items = body.texts or []
    fields = [field_of(item, f"texts[{index}]") for index, item in enumerate(items)]
    return PredictCall(list(map(text_of, items)), fields, options)


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
    pair_examples={
        "one pair": {"text": "I like you", "text_pair": "not for me"},
        "several pairs": {"texts": [["I like you", "not for me"], {"text": "a", "text_pair": "b"}], "top_k": 1},
        "the end of a long second text": {"text": "I like you", "text_pair": "b", "truncation": "head_tail"},
    },
    wrong_pair_examples={"one text": {"text": "I like you"}},
)
