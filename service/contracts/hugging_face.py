"""The Hugging Face Inference API, as `huggingface_hub.InferenceClient.text_classification` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from inferer.bundle.manifest import ACTIVATIONS
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall, ranked
from service.contracts.fields import Text, Texts, TopK, documented
from service.json_body import check_one_of
from service.state import State


class HuggingFaceParameters(msgspec.Struct):
    """The number of labels, and the function that turns logits into scores."""

    top_k: TopK | None = None
    function_to_apply: Annotated[str, documented("by default the model's own", enum=[*ACTIVATIONS])] | None = None


class HuggingFaceRequest(msgspec.Struct):
    """One text or several, and parameters. Unknown fields are ignored."""

    inputs: Text | Texts
    parameters: HuggingFaceParameters | None = None


class LabelScore(msgspec.Struct):
    """A label and its score, or its logit on request."""

    label: str
    score: float


def _read(body: HuggingFaceRequest) -> PredictCall:
    function = None if body.parameters is None else body.parameters.function_to_apply
    if function is not None:
        check_one_of(function, "parameters.function_to_apply", ACTIVATIONS)
    options = CallOptions(activation=function)
    if isinstance(body.inputs, str):
        return PredictCall([body.inputs], ["inputs"], options)
    fields = [f"inputs[{index}]" for index in range(len(body.inputs))]
    return PredictCall(body.inputs, fields, options, texts_field="inputs")


def _render(body: HuggingFaceRequest, predictions: Sequence[Prediction], _: State) -> list[list[LabelScore]]:
    top_k = None if body.parameters is None else body.parameters.top_k
    return [[LabelScore(label, score) for label, score in ranked(prediction)[:top_k]] for prediction in predictions]


CONTRACT = Contract(
    "Hugging Face",
    HuggingFaceRequest,
    list[list[LabelScore]],
    _read,
    _render,
    keys=("parameters",),
    examples={
        "one text": {"inputs": "I like you", "parameters": {}},
        "several texts": {"inputs": ["I like you", "not for me"], "parameters": {}},
        "the two largest logits": {"inputs": "I like you", "parameters": {"top_k": 2, "function_to_apply": "none"}},
    },
    wrong_examples={"a wrong parameter": {"inputs": "I like you", "parameters": {"top_k": 0}}},
)
