"""Contract: the request and reply formats of one kind of client, translated to and from a call of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from inferer.errors import InfererError
from inferer.model import ModelInferer
from inferer.options import CallOptions
from inferer.scoring import Prediction
from inferer.tokens.texts import TextOrPair
from service.json_body import JSON
from service.state import State

# An error of the inferer -> the error type in the reply.
ErrorTypes = Mapping[type[InfererError], str]
# The name of a text's field, or of both fields of a pair.
Field: TypeAlias = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class PredictCall:
    """One call of the model, with the names of the request's fields for error messages.

    fields: the field of each text. texts_field: the field of all texts. options_prefix: precedes an option's name.
    """

    texts: Sequence[TextOrPair]
    fields: Sequence[Field]
    options: CallOptions = field(default_factory=CallOptions)
    texts_field: str = "texts"
    options_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    """The formats of one kind of client.

    body, reply: msgspec types; several reply types as a tuple. read: turns a body into a call; raises ServiceError.
    render: turns the body and its predictions into the reply. keys: the keys of a JSON body that tell this contract
    from others on the same path; one with a dot is a key in that key's object. examples, wrong_examples: bodies by
    title; pair_examples, wrong_pair_examples: for a model that reads pairs. fits: whether a model can answer it.
    errors: the error types that this contract has in place of the usual ones; the first match counts. may_be_empty:
    whether a body without texts has a reply.
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
    pair_examples: Mapping[str, object] = field(default_factory=dict)
    wrong_pair_examples: Mapping[str, object] = field(default_factory=dict)
    fits: Callable[[ModelInferer], bool] = lambda _: True
    errors: ErrorTypes = field(default_factory=dict)
    may_be_empty: bool = False


def ranked(prediction: Prediction) -> list[tuple[str, float]]:
    """Return all labels best first, with the requested activation's values or else the model's scores."""
    values = prediction.activated
    return sorted((prediction.scores if values is None else values).items(), key=lambda item: -item[1])
