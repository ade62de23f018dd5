"""The classification contract of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferer.bundle.manifest import NONE
from inferer.bundle.reader import ERROR, HEAD, TAIL
from inferer.errors import EmptyTextError, RunError, TextError, TextTooLongError, TooManyTokensError
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall, ranked
from service.contracts.fields import Text, documented, limited
from service.errors import ServiceError, wrong_field
from service.json_body import check_one_of
from service.state import State

_DIRECTIONS = {"Right": HEAD, "Left": TAIL, "right": HEAD, "left": TAIL}
_Direction = Annotated[str, documented("the end that `truncate` true cuts off", enum=[*_DIRECTIONS])]


class TextEmbeddingsRequest(msgspec.Struct):
    """A text, or a batch of lists of one text each. Unknown fields are ignored."""

    inputs: Annotated[
        Text | list[Text | list[Text]],
        limited(
            "inputs",
            'a text, ["a text"], or a batch [["a text"], ["another"]]; ["two", "texts"] is a pair, which is refused',
        ),
    ]
    truncate: Annotated[bool, Meta(description="false refuses a long text; null follows the bundle")] | None = None
    truncation_direction: _Direction = "Right"
    raw_scores: Annotated[bool, Meta(description="return the model's logits in place of scores")] = False


class ScoreLabel(msgspec.Struct):
    """A label and its score, or its logit on request."""

    score: float
    label: str


def _read(body: TextEmbeddingsRequest) -> PredictCall:
    check_one_of(body.truncation_direction, "truncation_direction", tuple(_DIRECTIONS))
    truncation = {None: None, False: ERROR, True: _DIRECTIONS[body.truncation_direction]}[body.truncate]
    options = CallOptions(truncation=truncation, activation=NONE if body.raw_scores else None)
    inputs = body.inputs
    if isinstance(inputs, str):
        return PredictCall([inputs], ["inputs"], options)
    if not inputs:
        raise ServiceError("Empty", "field 'inputs': is empty")
    if not _is_batch(inputs):
        return PredictCall([_single(inputs, "inputs")], ["inputs[0]"], options)
    fields = [f"inputs[{index}]" for index in range(len(inputs))]
    texts = [_single(one, field) for one, field in zip(inputs, fields, strict=True)]
    return PredictCall(texts, [f"{field}[0]" for field in fields], options, texts_field="inputs")


def _is_batch(inputs: Sequence[str | list[str]]) -> bool:
    return not isinstance(inputs[0], str)


def _single(texts: object, field: str) -> str:
    """Return the only text of a list; raises ServiceError (Validation) for any other value."""
    if not isinstance(texts, list):
        raise wrong_field(field, "a text among lists; a batch is a list of lists of one text")
    if len(texts) == 2 and all(isinstance(text, str) for text in texts):
        raise wrong_field(field, 'text pairs are not supported; two texts are a batch of two lists: [["a"], ["b"]]')
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise wrong_field(field, f'has {len(texts)} elements, expected one text; a batch is [["a"], ["b"]]')
    return texts[0]


def _render(body: TextEmbeddingsRequest, predictions: Sequence[Prediction], _: State) -> list[Any]:
    rows = [[ScoreLabel(score, label) for label, score in ranked(prediction)] for prediction in predictions]
    return rows[0] if isinstance(body.inputs, str) or not _is_batch(body.inputs) else rows


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
    errors={
        EmptyTextError: "Empty",
        TextTooLongError: "Validation",
        TooManyTokensError: "Validation",
        TextError: "Tokenizer",
        RunError: "Backend",
    },
)
