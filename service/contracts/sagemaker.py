"""`POST /invocations`: Amazon SageMaker, which asks with JSON, plain text or CSV. It asks `GET /ping` for health."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from flask import Blueprint, Response, request
from msgspec import Meta

from inferer.scoring import Prediction
from service.contracts import own
from service.contracts.base import Contract, Example, PredictCall, respond
from service.contracts.fields import SOME, Text
from service.contracts.own import ANY, PredictionReply, PredictionsReply, prediction_reply
from service.errors import ServiceError
from service.openapi.view_metadata import PLAIN, contract_metadata
from service.settings import Settings
from service.state import State

blueprint = Blueprint("sagemaker", __name__)

CSV = "text/csv"

# How long a text may be is a setting, and a body has a limit too. The module knows one limit for the whole process.
csv.field_size_limit(2**31 - 1)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ServiceError("InvalidJson", f"the body is not UTF-8: {error}") from error


def _rows(data: bytes) -> list[str]:
    """Return the texts of a CSV body: a row each, in one column, without a header."""
    texts: list[str] = []
    reader = csv.reader(io.StringIO(_decoded(data), newline=""), strict=True)
    try:
        for row in reader:
            if len(row) != 1:
                wrong = f"row {len(texts) + 1}: has {len(row)} columns"
                raise ServiceError("Validation", f"{wrong}, expected one, the text; quote a text with commas in it")
            texts.append(row[0])
    except csv.Error as error:
        raise ServiceError("Validation", f"row {len(texts) + 1}: is no CSV: {error}") from error
    return texts


def _read_plain(text: str, _: Settings) -> PredictCall:
    return PredictCall([text], ["the body"])


def _render_plain(_: str, predictions: Sequence[Prediction], __: State) -> PredictionReply:
    return prediction_reply(predictions[0])


def _read_rows(texts: list[str], _: Settings) -> PredictCall:
    return PredictCall(texts, [f"row {index}" for index in range(1, len(texts) + 1)], many="the body")


def _render_rows(_: list[str], predictions: Sequence[Prediction], __: State) -> PredictionsReply:
    return PredictionsReply([prediction_reply(prediction) for prediction in predictions])


_PLAIN = Contract("SageMaker", str, PredictionReply, _read_plain, _render_plain)
_ROWS = Contract("SageMaker", list[str], PredictionsReply, _read_rows, _render_rows)
_READERS = {
    **ANY,
    PLAIN: (_decoded, lambda _, __: _PLAIN),
    CSV: (_rows, lambda _, __: _ROWS),
}
_CSV_BODY = Annotated[
    str,
    Meta(
        description="a text a row, in one column, without a header",
        extra_json_schema={"minLength": 1, "pattern": SOME},
    ),
]
_EXAMPLES = {
    "plain text": Example("I like you", content_type=PLAIN),
    "CSV": Example('I like you\n"not for me, thanks"\n', content_type=CSV),
}


@blueprint.post("/invocations")
@contract_metadata(
    replace(own.CONTRACT, name="SageMaker"),
    _READERS,
    several=True,
    examples=_EXAMPLES,
    bodies={PLAIN: Text, CSV: _CSV_BODY},
)
def invocations() -> Response:
    """Answer JSON as /predict does, plain text as one text, and CSV as a text a row."""
    if request.mimetype == CSV and request.mimetype_params.get("header") == "present":
        raise ServiceError("UnsupportedMediaType", "a header row is not read here; send the texts alone")
    return respond(_READERS)
