"""KServe's v1 protocol, which Vertex AI uses too."""

from __future__ import annotations

from typing import Annotated

import msgspec

from inferer.options import CallOptions
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, Threshold, TopK, Truncation, limited
from service.contracts.own import PredictionReply, prediction_reply


class Instance(msgspec.Struct):
    """A text in an object."""

    text: Text


class KServeParameters(msgspec.Struct):
    """Options of the call, as in the native API."""

    top_k: TopK | None = None
    truncation: Truncation | None = None
    threshold: Threshold | None = None


class KServeRequest(msgspec.Struct):
    """Texts, each a string or an object. Unknown fields are ignored."""

    instances: Annotated[list[Text | Instance], limited("texts", minItems=1)]
    parameters: KServeParameters | None = None


class KServeReply(msgspec.Struct):
    """The predictions, in order."""

    predictions: list[PredictionReply]


def _read(body: KServeRequest) -> PredictCall:
    texts = [one if isinstance(one, str) else one.text for one in body.instances]
    fields = [
        f"instances[{index}]{'' if isinstance(one, str) else '.text'}" for index, one in enumerate(body.instances)
    ]
    given = body.parameters or KServeParameters()
    options = CallOptions(given.top_k, given.truncation, given.threshold)
    return PredictCall(texts, fields, options, texts_field="instances", options_prefix="parameters.")


CONTRACT = Contract(
    "KServe v1 and Vertex AI",
    KServeRequest,
    KServeReply,
    _read,
    lambda _, predictions, __: KServeReply(list(map(prediction_reply, predictions))),
    keys=("instances",),
    examples={
        "one instance": {"instances": ["I like you"]},
        "two instances": {"instances": ["I like you", {"text": "not for me"}]},
        "parameters": {"instances": ["I like you"], "parameters": {"top_k": 1}},
    },
    wrong_examples={"no instances": {"instances": []}},
)
