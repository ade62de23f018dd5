"""Contract: the request and reply formats of one kind of client, translated to and from a call of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferer.errors import InfererError
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.json_body import JSON
from service.state import State

# An error of the inferer -> the error type in the reply.
ErrorTypes = Mapping[type[InfererError], str]


@dataclass(frozen=True, slots=True)
class PredictCall:
    """One call of the model, with the names of the request's fields for error messages.

    fields: the field of each text. texts_field: the field of all texts. options_prefix: precedes an option's name.
    """

    texts: Sequence[str]
    fields: Sequence[str]
    options: CallOptions = field(default_factory=CallOptions)
    texts_field: str = "texts"
    options_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    """The formats of one kind of client.

    body, reply: msgspec types; several reply types as a tuple. read: turns a body into a call; raises ServiceError.
    render: turns the body and its predictions into the reply. keys: the keys of a JSON body that tell this contract
    from others on the same path. examples, wrong_examples: bodies by title. errors: the error types that this contract
    has in place of the usual ones; the first match counts. may_be_empty: whether a body without texts has a reply.
    """

    name: str
    body: Any
    reply: Any
    read: Callable[[Any], PredictCall]
    render: Callable[[Any, Sequence[Prediction], State], object]
    content_type: str = JSON
    keys: tuple[str, ...] = ()
    examples: Mapping[str, object] = field(default_factory=dict)
    wrong_examples: Mapping[str, object] = field(default_factory=dict)
    errors: ErrorTypes = field(default_factory=dict)
    may_be_empty: bool = False


def ranked(prediction: Prediction) -> list[tuple[str, float]]:
    """Return all labels best first, with the requested activation's values or else the model's scores."""
    values = prediction.activated
    return sorted((prediction.scores if values is None else values).items(), key=lambda item: -item[1])
