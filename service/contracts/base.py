"""What every contract is made of: how one kind of client asks for predictions, and what it reads in return.

A contract translates, and does nothing else: what a request asks for is one call of the model. Each has a file in
routes/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from flask import Request, Response, request

from inferer.errors import ConfigError, InfererError, RunError, TextError, shown
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.errors import INTERNAL, ServiceError
from service.inference import answer
from service.json_body import JSON, check_length, decode_json, json_response, read_body, validate
from service.settings import Settings
from service.state import State, current_state

_Body = TypeVar("_Body")


@dataclass(frozen=True, slots=True)
class PredictCall:
    """What a request asks for.

    places: the field that each text came in. many: the field that holds them. options_in: what stands before an
    option's name.
    """

    texts: Sequence[str]
    places: Sequence[str]
    options: CallOptions = field(default_factory=CallOptions)
    many: str = "texts"
    options_in: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A request as an example, by its body, decoded if JSON. Its answer is what the model makes of it."""

    body: Any = None
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Contract(Generic[_Body]):
    """How a kind of client asks, and what it reads.

    name: what it is called. body: the msgspec type of a request. reply: that of a reply. read: from a request, for
    these settings, to what it asks for; raises ServiceError where that is nothing. render: from request and predictions
    to the reply. keys: those that tell a body of this contract where several are spoken. examples: requests, by what
    they show. errors: the type that this contract has for an error of the inferer, where it is not everybody's.
    """

    name: str
    body: type[_Body]
    reply: Any
    read: Callable[[_Body, Settings], PredictCall]
    render: Callable[[_Body, Sequence[Prediction], State], object]
    keys: tuple[str, ...] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)
    errors: Mapping[type[InfererError], str] = field(default_factory=dict)

    def answered(self, body: object, state: State, run: Callable[[PredictCall], Sequence[Prediction]]) -> object:
        """Return the reply to `body`, decoded JSON, with the predictions that `run` makes.

        Raises ServiceError, and what of the inferer's errors is the same for everybody.
        """
        typed = validate(self.body, body)
        asked = self.read(typed, state.settings)
        _check(asked, state.settings)
        try:
            predictions = run(asked)
        except TextError as error:
            place = asked.places[error.index or 0]
            raise ServiceError(self._type_of(error) or "Validation", f"field '{place}': {error.problem}") from error
        except ConfigError as error:
            named = f"field '{asked.options_in}{error.name}': {shown(error.value)}"
            raise ServiceError("Validation", f"{named} is not allowed; expected {error.expected}") from error
        except RunError as error:
            own = self._type_of(error)
            if own is None:
                raise
            raise ServiceError(own, INTERNAL) from error
        return self.render(typed, predictions, state)

    def _type_of(self, error: InfererError) -> str | None:
        return next((name for kind, name in self.errors.items() if isinstance(error, kind)), None)


def ranked(prediction: Prediction) -> list[tuple[str, float]]:
    """Return all labels best first, with the values of the activation that was asked for, or the model's scores."""
    values = prediction.activated
    return sorted((prediction.scores if values is None else values).items(), key=lambda item: -item[1])


def by_keys(body: object, contracts: Sequence[Contract[Any]], otherwise: Contract[Any]) -> Contract[Any]:
    """Return the first of `contracts` with a key that stands in `body`, or `otherwise`."""
    if isinstance(body, dict):
        for contract in contracts:
            if any(key in body for key in contract.keys):
                return contract
    return otherwise


Choose = Callable[[object, State], Contract[Any]]
# Content type -> how its bytes become what a contract reads, and which contract that is.
Readers = Mapping[str, tuple[Callable[[bytes], object], Choose]]


def as_json(choose: Choose) -> Readers:
    """Return how JSON is read, and nothing else, where `choose` finds the contract."""
    return {JSON: (decode_json, choose)}


def respond(readers: Readers, taken_for: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Answer the request being handled by one of `readers`; taken_for: see `read_body`."""
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of `request` itself costs
    data, kind = read_body(asked, readers, taken_for)
    decode, choose = readers[kind]
    state = current_state()
    with state.admitted():  # only now: a slow sender holds no place
        body = decode(data)
        contract = choose(body, state)
        reply = contract.answered(body, state, lambda call: answer(state, asked, call.texts, call.options))
        return json_response(reply)


def _check(asked: PredictCall, limits: Settings) -> None:
    """Raise ServiceError (Validation) for more texts, or longer ones, than this deployment takes."""
    if not 1 <= len(asked.texts) <= limits.max_texts:
        many = f"field '{asked.many}': has {len(asked.texts)} texts"
        raise ServiceError("Validation", f"{many}, allowed are 1 to {limits.max_texts}")
    for text, place in zip(asked.texts, asked.places, strict=True):
        check_length(text, place, limits.max_text_chars)
