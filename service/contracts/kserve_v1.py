"""KServe's v1 protocol, which Vertex AI uses too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, Threshold, TopK, Truncation, limited
from service.contracts.own import PredictionReply, prediction_reply
from service.contracts.texts import PairList, TextObject, field_of, text_of
from service.settings import SCORES
from service.state import State


class KServeParameters(msgspec.Struct):
    """Options of the call, as in the native API."""

    top_k: TopK | None = None
    truncation: Truncation | None = None
    threshold: Threshold | None = None
    return_probabilities: Annotated[bool, Meta(description="reply with the score of each label alone")] | None = None


class KServeRequest(msgspec.Struct):
    """Texts or pairs, each a string, a list of two, or an object. Unknown fields are ignored."""

    instances: Annotated[
        list[Annotated[Text | PairList | TextObject, limited("instance")]], limited("texts", minItems=1)
    ]
    parameters: KServeParameters | None = None


class KServeReply(msgspec.Struct):
    """The predictions, in order."""

    predictions: list[PredictionReply]


class KServeScores(msgspec.Struct):
    """With `return_probabilities`, or INFERER_KSERVE_V1=scores: the scores by label, in order."""

    predictions: list[dict[str, float]]


def _read(body: KServeRequest) -> PredictCall:
    texts = list(map(text_of, body.instances))
    fields = [field_of(one, f"instances[{index}]") for index, one in enumerate(body.instances)]
    given = body.parameters or KServeParameters()
    options = CallOptions(given.top_k, given.truncation, given.threshold)
    return PredictCall(texts, fields, options, texts_field="instances", options_prefix="parameters.")


def _render(body: KServeRequest, predictions: Sequence[Prediction], state: State) -> KServeReply | KServeScores:
    asked = None if body.parameters is None else body.parameters.return_probabilities
    if state.settings.kserve_v1 == SCORES if asked is None else asked:
        return KServeScores([dict(prediction.scores) for prediction in predictions])
    return KServeReply(list(map(prediction_reply, predictions)))


CONTRACT = Contract(
    "KServe v1 and Vertex AI",
    KServeRequest,
    (KServeReply, KServeScores),
    _read,
    _render,
    keys=("instances",),
    examples={
        "one instance": {"instances": ["I like you"]},
        "two instances": {"instances": ["I like you", {"text": "not for me"}]},
        "parameters": {"instances": ["I like you"], "parameters": {"top_k": 1}},
        "scores alone": {"instances": ["I like you"], "parameters": {"return_probabilities": True}},
    },
    wrong_examples={"no instances": {"instances": []}},
    pair_examples={
        "one pair": {"instances": [["I like you", "not for me"]]},
        "objects": {"instances": [{"text": "I like you", "text_pair": "not for me"}]},
        "parameters": {"instances": [["a", "b"]], "parameters": {"top_k": 1, "truncation": "only_second"}},
    },
    wrong_pair_examples={"no instances": {"instances": []}},
)
