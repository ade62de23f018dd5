"""The Hugging Face Inference API, as `huggingface_hub.InferenceClient.text_classification` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from inferer.bundle.manifest import ACTIVATIONS, SOFTMAX
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall, ranked
from service.contracts.fields import Text, TopK, limited
from service.contracts.texts import PairList, TextObject, field_of, text_of
from service.errors import wrong_field
from service.json_body import check_one_of
from service.state import State, current_state


class HuggingFaceParameters(msgspec.Struct):
    """The number of labels, and the function that turns logits into scores."""

    top_k: TopK | None = None
    function_to_apply: Annotated[str, limited("activation", "by default the model's own")] | None = None


class HuggingFaceRequest(msgspec.Struct):
    """One text or pair or several, and parameters. Unknown fields are ignored."""

    inputs: Annotated[Text | TextObject | list[Text | PairList | TextObject], limited("hugging_face")]
    parameters: HuggingFaceParameters | None = None


class LabelScore(msgspec.Struct):
    """A label and its score, or its logit on request."""

    label: str
    score: float


def _read(body: HuggingFaceRequest) -> PredictCall:
    function = None if body.parameters is None else body.parameters.function_to_apply
    if function is not None:
        check_one_of(function, "parameters.function_to_apply", ACTIVATIONS)
    if function == SOFTMAX and len(current_state().inferer.labels) == 1:
        raise wrong_field("parameters.function_to_apply", "'softmax' over the one logit of this model is always 1")
    options = CallOptions(activation=function)
    inputs = body.inputs
    if not isinstance(inputs, list):
        return PredictCall([text_of(inputs)], [field_of(inputs, "inputs")], options)
    fields = [field_of(one, f"inputs[{index}]") for index, one in enumerate(inputs)]
    return PredictCall(list(map(text_of, inputs)), fields, options, texts_field="inputs")


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
    pair_examples={
        "one pair": {"inputs": {"text": "I like you", "text_pair": "not for me"}, "parameters": {}},
        "several pairs": {
            "inputs": [{"text": "I like you", "text_pair": "b"}, ["a", "not for me"]],
            "parameters": {"top_k": 1},
        },
        "logits": {"inputs": [["I like you", "b"]], "parameters": {"function_to_apply": "none"}},
    },
    wrong_pair_examples={"one text": {"inputs": "I like you", "parameters": {}}},
    wrong_examples={"a wrong parameter": {"inputs": "I like you", "parameters": {"top_k": 0}}},
)
