"""View metadata for OpenAPI and authentication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from inferer.scoring import Prediction
from service.contracts.base import Contract, Example, PredictCall, Readers
from service.json_body import JSON
from service.state import State

HTML = "text/html"
PLAIN = "text/plain"

# What can end any request, and what can end one that carries a body.
ALWAYS = ("BadRequest", "Internal")
WITH_BODY = (
    *ALWAYS, "InvalidJson", "PayloadTooLarge", "UnsupportedMediaType", "Validation", "Overloaded", "DeadlineExceeded",
)  # fmt: skip

# The headers of a reply about texts.
OF_PREDICTIONS = ("Server-Timing", "X-Truncated-Texts", "X-Abstained-Texts")

_View = TypeVar("_View", bound=Callable[..., Any])
_ATTRIBUTE = "inferer_description"


@dataclass(frozen=True, slots=True)
class ViewMetadata:
    """What one view takes and gives; its docstring says what it does.

    bodies, replies: content type to msgspec type; None is no JSON. several: whether a JSON body may be of any contract
    that has keys. errors: types from the table, that of a missing key apart. reply_to: from an example to its reply;
    raises ServiceError for an example of an error. open: whether it needs no key. headers: of a good reply, beside
    every reply's. parameters: what a part of the path may be. keys: those of the
    contract whose examples these are.
    """

    tag: str
    replies: Mapping[str, Any]
    bodies: Mapping[str, Any] = field(default_factory=dict)
    several: bool = False
    errors: Sequence[str] = ALWAYS
    examples: Mapping[str, Example] = field(default_factory=dict)
    reply_to: Callable[[Example, State], object] | None = None
    open: bool = False
    headers: Sequence[str] = ()
    parameters: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    listed: bool = True  # in /openapi.json

    def __call__(self, view: _View) -> _View:
        """Give `view` this description: it is a decorator."""
        setattr(view, _ATTRIBUTE, self)
        return view


def metadata_of(view: Callable[..., Any]) -> ViewMetadata:
    """Return the description of a view; each must have one."""
    found: ViewMetadata = getattr(view, _ATTRIBUTE)
    return found


def contract_metadata(
    contract: Contract[Any],
    readers: Readers,
    *,
    several: bool = False,
    errors: Sequence[str] = (),
    examples: Mapping[str, Example] | None = None,
    parameters: Mapping[str, str | Sequence[str]] | None = None,
    bodies: Mapping[str, Any] | None = None,
) -> ViewMetadata:
    """Return the description of a view that answers by `contract` what `readers` read.

    several: whether JSON may be of any contract that has keys. errors, examples: beside the contract's.
    bodies: those that are not the contract's.
    """

    def reply_to(example: Example, state: State) -> object:
        decode, choose = readers[example.content_type]
        body = example.body if example.content_type == JSON else decode(example.body.encode())
        return choose(body, state).answered(body, state, lambda asked: _run(asked, state))

    return ViewMetadata(
        contract.name,
        replies={JSON: contract.reply},
        bodies={**dict.fromkeys(readers, contract.body), **(bodies or {})},
        several=several,
        errors=(*WITH_BODY, *errors, *contract.errors.values()),
        examples={**contract.examples, **(examples or {})},
        reply_to=reply_to,
        headers=OF_PREDICTIONS,
        parameters=parameters or {},
        keys=contract.keys,
    )


def _run(asked: PredictCall, state: State) -> list[Prediction]:
    """Return predictions that nobody asked for: their runs are counted, but no prediction is."""
    return state.inferer.predict_timed(asked.texts, asked.options)[0]
