"""The detector API of FMS Guardrails: the labels of each text that reach a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, limited
from service.state import State

_DETECTION = "sequence_classification"
_DEFAULT_THRESHOLD = 0.5


class DetectorParameters(msgspec.Struct):
    """Options. Unknown fields are ignored, as each detector has its own."""

    threshold: Annotated[float, Meta(ge=0, le=1, description="the least score of a detection")] = _DEFAULT_THRESHOLD
    safe_labels: Annotated[list[str], Meta(description="labels that are not reported")] = []


class DetectorRequest(msgspec.Struct):
    """The texts. Unknown fields are ignored."""

    contents: Annotated[list[Text], limited("texts", "texts", minItems=1)]
    detector_params: DetectorParameters | None = None


class Detection(msgspec.Struct):
    """A label that a text has. start, end: its characters, always the whole text. detection_type: the label."""

    start: int
    end: int
    text: str
    detection: str
    detection_type: str
    score: float


def _read(body: DetectorRequest) -> PredictCall:
    fields = [f"contents[{index}]" for index in range(len(body.contents))]
    return PredictCall(body.contents, fields, texts_field="contents")


def _render(body: DetectorRequest, predictions: Sequence[Prediction], state: State) -> list[list[Detection]]:
    given = body.detector_params or DetectorParameters()
    reported = set(state.settings.blocked_labels or state.inferer.labels) - set(given.safe_labels)
    return [
        [
            Detection(0, len(text), text, _DETECTION, label, score)
            for label, score in prediction.scores.items()
            if label in reported and score >= given.threshold
        ]
        for text, prediction in zip(body.contents, predictions, strict=True)
    ]


CONTRACT = Contract(
    "FMS detector",
    DetectorRequest,
    list[list[Detection]],
    _read,
    _render,
    keys=("contents",),
    examples={
        "one text": {"contents": ["I like you"], "detector_params": {"threshold": 0.5}},
        "two texts": {"contents": ["I like you", "not for me"]},
        "every label": {"contents": ["I like you"], "detector_params": {"threshold": 0}},
    },
    wrong_examples={
        "no texts": {"contents": []},
        "a threshold above 1": {"contents": ["I like you"], "detector_params": {"threshold": 2}},
    },
)
