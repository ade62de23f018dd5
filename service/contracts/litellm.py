"""LiteLLM's generic guardrail API: whether any text has a label that the deployment blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, UnsetType

from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import documented
from service.state import State


class GuardrailRequest(msgspec.Struct):
    """The texts of a request to an LLM, or of its answer. Unknown fields are ignored."""

    texts: Annotated[list[str], documented("texts; blank ones are not read")] | None = None
    input_type: Annotated[str, Meta(description="request or response; both are read alike")] = "request"


class GuardrailReply(msgspec.Struct):
    """The decision. blocked_reason: the label and its score, never the text."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: str | UnsetType = msgspec.UNSET


def _read(body: GuardrailRequest) -> PredictCall:
    found = [(index, text) for index, text in enumerate(body.texts or ()) if text.strip()]
    return PredictCall([text for _, text in found], [f"texts[{index}]" for index, _ in found])


def _render(_: GuardrailRequest, predictions: Sequence[Prediction], state: State) -> GuardrailReply:
    threshold = state.settings.block_threshold
    for prediction in predictions:
        for label in state.settings.blocked_labels:
            if (score := prediction.scores[label]) >= threshold:
                reason = f"{state.settings.name}: {label} ({score:.3f}, blocked from {threshold:g})"
                return GuardrailReply("BLOCKED", reason)
    return GuardrailReply("NONE")


CONTRACT = Contract(
    "LiteLLM guardrail",
    GuardrailRequest,
    GuardrailReply,
    _read,
    _render,
    keys=("texts",),
    examples={
        "a request": {"texts": ["I like you"], "input_type": "request"},
        "an answer": {"texts": ["I like you", "not for me"], "input_type": "response"},
        "no text": {"texts": []},
    },
    may_be_empty=True,
)
