"""Amazon SageMaker's bodies beside JSON: plain text and CSV."""

from __future__ import annotations

import csv
import io
from typing import Annotated

from inferer.tokens.texts import TextOrPair
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import NOT_BLANK, Text, documented
from service.contracts.own import PredictionReply, PredictionsReply, prediction_reply
from service.errors import ServiceError
from service.state import current_state

NAME = "SageMaker"

# A setting limits the length of a text. The csv module has one limit per process, which must not be lower.
csv.field_size_limit(2**31 - 1)

_CsvBody = Annotated[
    str,
    documented("a text per row, or the two of a pair in two columns, without a header", minLength=1, pattern=NOT_BLANK),
]


def _read_csv(body: str) -> PredictCall:
    texts: list[TextOrPair] = []
    pair = current_state().inferer.text_pair
    expected = "two, the texts of a pair" if pair else "one, the text"
    try:
        for row in csv.reader(io.StringIO(body, newline=""), strict=True):
            if len(row) != (2 if pair else 1):
                wrong = f"row {len(texts) + 1}: has {len(row)} columns"
                raise ServiceError("Validation", f"{wrong}, expected {expected}; quote a text with commas in it")
            texts.append((row[0], row[1]) if pair else row[0])
    except csv.Error as error:
        raise ServiceError("Validation", f"row {len(texts) + 1}: malformed CSV: {error}") from error
    return PredictCall(texts, [f"row {index}" for index in range(1, len(texts) + 1)], texts_field="the body")


PLAIN_TEXT = Contract(
    NAME,
    Text,
    PredictionReply,
    lambda text: PredictCall([text], ["the body"]),
    lambda _, predictions, __: prediction_reply(predictions[0]),
    content_type="text/plain",
    examples={"plain text": "I like you"},
)
CSV = Contract(
    NAME,
    _CsvBody,
    PredictionsReply,
    _read_csv,
    lambda _, predictions, __: PredictionsReply(list(map(prediction_reply, predictions))),
    content_type="text/csv",
    examples={"CSV": 'I like you\n"not for me, thanks"\n'},
    pair_examples={"CSV": 'I like you,"not for me, thanks"\n'},
)
