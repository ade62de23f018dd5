"""vLLM's classification API, and its list of models."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from inferer.bundle.manifest import NONE
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, limited
from service.errors import wrong_field
from service.state import State, current_state

_Activation = Annotated[bool, Meta(description="false returns the model's logits in place of scores")]


class VllmRequest(msgspec.Struct):
    """A text or a list of texts. Unknown fields are ignored."""

    input: Annotated[Text | list[Text], limited("input", "a text, or a list of texts")]
    model: Annotated[str, Meta(description="the model's name")] | None = None
    truncate_prompt_tokens: Annotated[int, Meta(description="-1, the model's own limit", ge=-1, le=-1)] | None = None
    use_activation: _Activation | None = None
    activation: _Activation | None = None
    softmax: _Activation | None = None


class VllmUsage(msgspec.Struct):
    """The tokens of all texts."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class VllmClass(msgspec.Struct):
    """The best label of a text, and the scores of all labels in the model's order."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class VllmReply(msgspec.Struct):
    """The classes of the texts, in order."""

    id: str
    object: str
    created: int
    model: str
    data: list[VllmClass]
    usage: VllmUsage


class VllmModel(msgspec.Struct):
    """A model."""

    id: str
    object: str
    created: int
    owned_by: str
    root: str
    max_model_len: int
    parent: None = None


class VllmModels(msgspec.Struct):
    """The models of the server: one."""

    object: str
    data: list[VllmModel]


def _read(body: VllmRequest) -> PredictCall:
    if body.model is not None:
        current_state().check_name(body.model)
    if body.truncate_prompt_tokens is not None and body.truncate_prompt_tokens != -1:
        raise wrong_field("truncate_prompt_tokens", f"is {body.truncate_prompt_tokens}, expected -1 or null")
    options = CallOptions(activation=NONE if False in (body.use_activation, body.activation, body.softmax) else None)
    if isinstance(body.input, str):
        return PredictCall([body.input], ["input"], options, texts_field="input")
    return PredictCall(body.input, [f"input[{index}]" for index in range(len(body.input))], options, "input")


def _render(_: VllmRequest, predictions: Sequence[Prediction], state: State) -> VllmReply:
    tokens = sum(prediction.num_tokens for prediction in predictions)
    labels = state.inferer.labels
    data = []
    for index, prediction in enumerate(predictions):
        values = prediction.scores if prediction.activated is None else prediction.activated
        data.append(VllmClass(index, prediction.label, [values[label] for label in labels], len(labels)))
    called = f"classify-{os.urandom(16).hex()}"
    return VllmReply(called, "list", int(time.time()), state.settings.name, data, VllmUsage(tokens, tokens))


CONTRACT = Contract(
    "vLLM",
    VllmRequest,
    VllmReply,
    _read,
    _render,
    keys=("input",),
    examples={
        "one text": {"input": "I like you"},
        "two texts": {"input": ["I like you", "not for me"]},
        "logits": {"input": "I like you", "use_activation": False},
    },
    wrong_examples={"no texts": {"input": []}, "another model": {"model": "another", "input": "I like you"}},
)
