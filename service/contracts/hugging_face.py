"""`POST /`: the Hugging Face Inference API, as `huggingface_hub.InferenceClient.text_classification` calls it.

It posts to exactly the URL that it is given, so the same body is answered on /predict too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from flask import Blueprint, Response
from msgspec import Meta

from inferer.options import CallOptions
from inferer.scoring import ACTIVATIONS, Prediction
from service.contracts.base import Contract, Example, PredictCall, as_json, ranked, respond
from service.contracts.fields import Text, Texts, TopK
from service.json_body import check_one_of
from service.openapi.view_metadata import contract_metadata
from service.settings import Settings
from service.state import State

blueprint = Blueprint("hugging_face", __name__)


class HuggingFaceParameters(msgspec.Struct):
    """How many labels, and what to make of the logits."""

    top_k: TopK | None = None
    function_to_apply: (
        Annotated[str, Meta(description="by default the model's own", extra_json_schema={"enum": [*ACTIVATIONS]})]
        | None
    ) = None


class HuggingFaceRequest(msgspec.Struct):
    """One text or several, and parameters. Fields that are not known are ignored."""

    inputs: Text | Texts
    parameters: HuggingFaceParameters | None = None


class LabelScore(msgspec.Struct):
    """A label and its score, or its logit where that was asked for."""

    label: str
    score: float


def _read(body: HuggingFaceRequest, _: Settings) -> PredictCall:
    applied = None if body.parameters is None else body.parameters.function_to_apply
    if applied is not None:
        check_one_of(applied, "parameters.function_to_apply", ACTIVATIONS)
    options = CallOptions(activation=applied)
    if isinstance(body.inputs, str):
        return PredictCall([body.inputs], ["inputs"], options)
    return PredictCall(body.inputs, [f"inputs[{index}]" for index in range(len(body.inputs))], options, many="inputs")


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
        "one text": Example({"inputs": "I like you", "parameters": {"top_k": 2, "function_to_apply": "none"}}),
        "several texts": Example({"inputs": ["I like you", "not for me"], "parameters": {}}),
        "a wrong parameter": Example({"inputs": "I like you", "parameters": {"top_k": 0}}),
    },
)


_READERS = as_json(lambda _, __: CONTRACT)


@blueprint.post("/")
@contract_metadata(CONTRACT, _READERS)
def text_classification() -> Response:
    """Answer as the Hugging Face Inference API: for each text a list of labels, best first, in a list.

    `function_to_apply` "none" gives the logits as the model gave them; "softmax" and "sigmoid" are of the calibrated
    ones.
    """
    return respond(_READERS)
