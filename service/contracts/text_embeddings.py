"""The classification contract of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferer.bundle.manifest import NONE
from inferer.bundle.reader import ERROR, TAIL
from inferer.errors import EmptyTextError, PairError, RunError, TextError, TextTooLongError, TooManyTokensError
from inferer.options import CallOptions
from inferer.scoring import Prediction
from inferer.tokens.texts import TextOrPair
from service.contracts.base import Contract, ErrorTypes, Field, PredictCall, ranked
from service.contracts.fields import Text, documented, limited
from service.contracts.texts import from_start
from service.errors import ServiceError, wrong_field
from service.json_body import check_one_of
from service.state import State, current_state

RIGHT = "Right"
DIRECTIONS = (RIGHT, "Left", "right", "left")
Direction = Annotated[str, documented("the end that `truncate` true cuts off", enum=[*DIRECTIONS])]


class TextEmbeddingsRequest(msgspec.Struct):
    """A text or a pair, or a batch of lists of one text or of two. Unknown fields are ignored."""

    inputs: Annotated[
        Text | list[Text | list[Text]],
        limited(
            "inputs",
            'a text, ["a text"], or a batch [["a text"], ["another"]]; ["two", "texts"] is a pair',
        ),
    ]
    truncate: Annotated[bool, Meta(description="false refuses a long text; null follows the bundle")] | None = None
    truncation_direction: Direction = RIGHT
    raw_scores: Annotated[bool, Meta(description="return the model's logits in place of scores")] = False


class ScoreLabel(msgspec.Struct):
    """A label and its score, or its logit on request."""

    score: float
    label: str


def _read(body: TextEmbeddingsRequest) -> PredictCall:
    options = CallOptions(
        truncation=truncation_of(body.truncate, body.truncation_direction),
        activation=NONE if body.raw_scores else None,
    )
    inputs = body.inputs
    if isinstance(inputs, str):
        return PredictCall([inputs], ["inputs"], options)
    if not inputs:
        raise ServiceError("Empty", "field 'inputs': is empty")
    if not _is_batch(inputs):
        text, field = _one(inputs, "inputs")
        return PredictCall([text], [field], options)
    found = [_one(one, f"inputs[{index}]") for index, one in enumerate(inputs)]
    return PredictCall([text for text, _ in found], [field for _, field in found], options, texts_field="inputs")


def truncation_of(truncate: bool | None, direction: str) -> str | None:
    """Return the truncation of a request; None for the bundle's. Raises ServiceError (Validation)."""
    check_one_of(direction, "truncation_direction", DIRECTIONS)
    if truncate is None:
        return None
    if not truncate:
        return ERROR
    return TAIL if direction.lower() == "left" else from_start()


def _is_batch(inputs: Sequence[str | list[str]]) -> bool:
    return not isinstance(inputs[0], str)


def _one(texts: object, field: str) -> tuple[TextOrPair, Field]:
    """Return the text or pair in a list, and its field; raises ServiceError (Validation) for any other value."""
    if not isinstance(texts, list):
        raise wrong_field(field, "a text among lists; a batch is a list of lists of one text")
    if not 1 <= len(texts) <= 2 or not all(isinstance(text, str) for text in texts):
        raise wrong_field(field, f'has {len(texts)} elements, expected one text or two; a batch is [["a"], ["b"]]')
    if len(texts) == 1:
        return texts[0], f"{field}[0]"
    if not current_state().inferer.text_pair:
        wrong = "is a pair, and the model reads one text; two texts are a batch of two lists"
        raise wrong_field(field, f'{wrong}: [["a"], ["b"]]')
    return (texts[0], texts[1]), (f"{field}[0]", f"{field}[1]")


def _render(body: TextEmbeddingsRequest, predictions: Sequence[Prediction], _: State) -> list[Any]:
    rows = [[ScoreLabel(score, label) for label, score in ranked(prediction)] for prediction in predictions]
    return rows[0] if isinstance(body.inputs, str) or not _is_batch(body.inputs) else rows


ERRORS: ErrorTypes = {
    EmptyTextError: "Empty",
    TextTooLongError: "Validation",
    TooManyTokensError: "Validation",
    PairError: "Validation",
    TextError: "Tokenizer",
    RunError: "Backend",
}
CONTRACT = Contract(
    "text-embeddings-inference",
    TextEmbeddingsRequest,
    (list[ScoreLabel], list[list[ScoreLabel]]),
    _read,
    _render,
    keys=("inputs",),
    examples={
        "one text": {"inputs": "I like you"},
        "truncation": {"inputs": "I like you", "truncate": True, "truncation_direction": "Left"},
        "logits of a batch": {"inputs": [["I like you"], ["not for me"]], "raw_scores": True},
    },
    wrong_examples={"a pair": {"inputs": ["I like you", "not for me"]}, "an empty text": {"inputs": ""}},
    pair_examples={
        "one pair": {"inputs": ["I like you", "not for me"]},
        "truncation": {"inputs": ["I like you", "b"], "truncate": True, "truncation_direction": "Left"},
        "logits of a batch": {"inputs": [["I like you", "not for me"], ["a", "b"]], "raw_scores": True},
    },
    wrong_pair_examples={"an empty text": {"inputs": ["", "b"]}},
    errors=ERRORS,
)
