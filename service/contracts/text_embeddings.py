"""`POST /predict` with the key `inputs`: the classifiers' contract of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferer.bundle.reader import ERROR, HEAD, TAIL
from inferer.errors import EmptyTextError, RunError, TextError, TextTooLongError
from inferer.options import CallOptions
from inferer.scoring import NONE, Prediction
from service.contracts.base import Contract, Example, PredictCall, ranked
from service.contracts.fields import SOME, Text, limited, text_limit, texts_limit
from service.errors import ServiceError
from service.json_body import check_one_of
from service.settings import Settings
from service.state import State

_DIRECTIONS = {"Right": HEAD, "Left": TAIL, "right": HEAD, "left": TAIL}


def _no_pair(state: State) -> dict[str, Any]:
    """Return the schema of what is no pair: a text, one in a list, or lists of one."""
    text = {"type": "string", "minLength": 1, "pattern": SOME, **text_limit(state)}
    alone = {"type": "array", "items": text, "minItems": 1, "maxItems": 1}
    return {"anyOf": [text, alone, {"type": "array", "items": alone, "minItems": 1, **texts_limit(state)}]}


class TextEmbeddingsRequest(msgspec.Struct):
    """A text, or a batch of lists of one text each. Fields that are not known are ignored."""

    inputs: Annotated[
        Text | list[Text | list[Text]],
        limited(
            _no_pair,
            'a text, ["a text"], or a batch [["a text"], ["another"]]; ["two", "texts"] are a pair, not supported',
        ),
    ]
    truncate: Annotated[bool, Meta(description="false refuses a longer text; by default as the bundle says")] | None = (
        None
    )
    truncation_direction: Annotated[
        str,
        Meta(description="where a longer text is cut with `truncate` true", extra_json_schema={"enum": [*_DIRECTIONS]}),
    ] = "Right"
    raw_scores: Annotated[bool, Meta(description="the logits as the model gave them, in place of scores")] = False


class ScoreLabel(msgspec.Struct):
    """A label and its score, or its logit where that was asked for."""

    score: float
    label: str


def _read(body: TextEmbeddingsRequest, _: Settings) -> PredictCall:
    check_one_of(body.truncation_direction, "truncation_direction", tuple(_DIRECTIONS))
    truncation = {None: None, False: ERROR, True: _DIRECTIONS[body.truncation_direction]}[body.truncate]
    options = CallOptions(truncation=truncation, activation=NONE if body.raw_scores else None)
    inputs = body.inputs
    if isinstance(inputs, str):
        return PredictCall([inputs], ["inputs"], options)
    if not inputs:
        raise ServiceError("Empty", "field 'inputs': is empty")
    if not _is_batch(inputs):
        return PredictCall([_alone(inputs, "inputs")], ["inputs[0]"], options)
    places = [f"inputs[{index}]" for index in range(len(inputs))]
    texts = [_alone(one, place) for one, place in zip(inputs, places, strict=True)]
    return PredictCall(texts, [f"{place}[0]" for place in places], options, many="inputs")


def _is_batch(inputs: Sequence[str | list[str]]) -> bool:
    return not isinstance(inputs[0], str)


def _alone(sequence: object, place: str) -> str:
    """Return the one text of a list in a batch; raises ServiceError (Validation) for a pair, and what is neither."""
    if not isinstance(sequence, list):
        raise ServiceError("Validation", f"field '{place}': a text among lists; a batch is a list of lists of one text")
    if len(sequence) == 2 and all(isinstance(text, str) for text in sequence):
        raise ServiceError(
            "Validation",
            f'field \'{place}\': text pairs are not supported; two texts are a batch of two lists: [["a"], ["b"]]',
        )
    if len(sequence) != 1 or not isinstance(sequence[0], str):
        raise ServiceError(
            "Validation",
            f'field \'{place}\': has {len(sequence)} elements, expected one text; a batch is [["a"], ["b"]]',
        )
    return sequence[0]


def _render(
    body: TextEmbeddingsRequest, predictions: Sequence[Prediction], _: State
) -> list[ScoreLabel] | list[list[ScoreLabel]]:
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
        "a text": Example({"inputs": "I like you", "truncate": True}),
        "a batch": Example({"inputs": [["I like you"], ["not for me"]], "raw_scores": True}),
        "a pair": Example({"inputs": ["I like you", "not for me"]}),
        "an empty text": Example({"inputs": ""}),
    },
    errors={
        EmptyTextError: "Empty",
        TextTooLongError: "Validation",
        TextError: "Tokenizer",
        RunError: "Backend",
    },
)
