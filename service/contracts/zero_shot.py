"""Zero-shot classification of Hugging Face by a model of natural language inference.

Each candidate label becomes a hypothesis. With one of them right, their scores are the softmax of the logits of
entailment; with several, each is entailment against contradiction (Yin et al., arXiv 1909.00161).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from flask import request
from msgspec import Meta

from inferer.bundle.manifest import NONE
from inferer.bundle.reader import ONLY_FIRST
from inferer.model import ModelInferer
from inferer.options import CallOptions
from inferer.scoring import Prediction, softmax
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import NOT_BLANK, Text, Texts, documented
from service.contracts.hugging_face import LabelScore
from service.errors import wrong_field
from service.state import State, current_state

_TEMPLATE = "This example is {}."
# huggingface_hub reads an object of lists up to 1.0, and a list of objects from 1.1 on.
_CLIENT = re.compile(r"hf_hub/(\d+)\.(\d+)")
_LISTS_UNTIL = (1, 0)
_NAMED = f"[^,]*{NOT_BLANK.replace('[^', '[^,')}[^,]*"
_Name = Annotated[str, documented(pattern=NOT_BLANK)]
_Names = Annotated[str, documented(pattern=f"^{_NAMED}(,{_NAMED})*$")]


class ZeroShotParameters(msgspec.Struct):
    """The labels to choose from, and the sentence that each becomes. Unknown fields are ignored."""

    candidate_labels: Annotated[
        _Names | Annotated[list[_Name], documented(minItems=1, uniqueItems=True)],
        documented("names, or one string of names with commas"),
    ]
    hypothesis_template: Annotated[
        str, documented("a sentence with {} in the place of the label", pattern=re.escape("{}"))
    ] = _TEMPLATE
    multi_label: Annotated[bool, Meta(description="whether several labels may be right")] = False


class ZeroShotRequest(msgspec.Struct):
    """One text or several, and the candidate labels. Unknown fields are ignored."""

    inputs: Text | Texts
    parameters: ZeroShotParameters


class ZeroShotReply(msgspec.Struct):
    """The labels of a text with their scores, best first."""

    sequence: str
    labels: list[str]
    scores: list[float]


def _read(body: ZeroShotRequest) -> PredictCall:
    names, parameters = _candidates(body), body.parameters
    if not can_infer(current_state().inferer):
        needed = "a model of natural language inference, which reads pairs and has one label that starts with 'entail'"
        raise wrong_field("parameters.candidate_labels", f"zero-shot classification needs {needed}")
    if "{}" not in parameters.hypothesis_template:
        raise wrong_field("parameters.hypothesis_template", "has no {}, the place of the label")
    hypotheses = [parameters.hypothesis_template.replace("{}", name) for name in names]
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    fields = ["inputs"] if isinstance(body.inputs, str) else [f"inputs[{index}]" for index in range(len(texts))]
    return PredictCall(
        [(text, hypothesis) for text in texts for hypothesis in hypotheses],
        [(field, f"parameters.candidate_labels[{i}]") for field in fields for i in range(len(hypotheses))],
        CallOptions(truncation=ONLY_FIRST, activation=NONE),
        texts_field="inputs",
    )


def _candidates(body: ZeroShotRequest) -> list[str]:
    given = body.parameters.candidate_labels
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    field = "parameters.candidate_labels"
    if not names or not all(names):
        raise wrong_field(field, "expected names, none of them empty")
    if len(set(names)) != len(names):
        raise wrong_field(field, f"names a label twice: {', '.join(names)}")
    return names


def can_infer(model: ModelInferer) -> bool:
    """Return whether the model reads pairs, and one of several labels is entailment."""
    return model.text_pair and len(model.labels) > 1 and len(_starting(model, "entail")) == 1


def _starting(model: ModelInferer, start: str) -> list[int]:
    return [place for place, label in enumerate(model.labels) if label.lower().startswith(start)]


def _places(model: ModelInferer) -> tuple[int, int]:
    """Return the places of entailment and contradiction among the labels, as transformers where none has that name."""
    (entailment,) = _starting(model, "entail")
    against = _starting(model, "contradict")
    if len(against) == 1:
        return entailment, against[0]
    return entailment, len(model.labels) - 1 if entailment == 0 else 0


def _render(body: ZeroShotRequest, predictions: Sequence[Prediction], state: State) -> Any:
    names, labels = _candidates(body), state.inferer.labels
    entailment, contradiction = _places(state.inferer)
    logits = np.array([[(one.activated or {})[label] for label in labels] for one in predictions])
    logits = logits.reshape(-1, len(names), len(labels))
    if body.parameters.multi_label or len(names) == 1:
        scores = softmax(logits[..., [contradiction, entailment]])[..., 1]
    else:
        scores = softmax(logits[..., entailment])
    orders = np.argsort(-scores, axis=1, kind="stable")
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    found = _CLIENT.search(request.headers.get("User-Agent", ""))
    replies: list[Any] = []
    for text, row, order in zip(texts, scores, orders.tolist(), strict=True):
        best, values = [names[i] for i in order], [float(row[i]) for i in order]
        if found is not None and (int(found[1]), int(found[2])) > _LISTS_UNTIL:
            replies.append([LabelScore(name, value) for name, value in zip(best, values, strict=True)])
        else:
            replies.append(ZeroShotReply(text, best, values))
    return replies[0] if isinstance(body.inputs, str) else replies


CONTRACT = Contract(
    "Hugging Face, zero-shot",
    ZeroShotRequest,
    (ZeroShotReply, list[LabelScore], list[ZeroShotReply], list[list[LabelScore]]),
    _read,
    _render,
    keys=("parameters.candidate_labels",),
    pair_examples={
        "one of two labels": {"inputs": "I like you", "parameters": {"candidate_labels": ["praise", "blame"]}},
        "several labels": {
            "inputs": "I like you",
            "parameters": {"candidate_labels": ["praise", "blame"], "multi_label": True},
        },
        "another sentence": {
            "inputs": ["I like you", "not for me"],
            "parameters": {"candidate_labels": "praise, blame", "hypothesis_template": "The tone is {}."},
        },
    },
    fits=can_infer,
    wrong_pair_examples={"no label": {"inputs": "I like you", "parameters": {"candidate_labels": []}}},
)
