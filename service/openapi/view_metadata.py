"""View metadata for OpenAPI and authentication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service.contracts.base import Contract
from service.json_body import JSON

# Error types of every view, and of views that take a body.
ALWAYS = ("BadRequest", "Internal")
WITH_BODY = (
    *ALWAYS, "InvalidJson", "RequestTimeout", "PayloadTooLarge", "UnsupportedMediaType", "Validation", "Overloaded",
    "DeadlineExceeded",
)  # fmt: skip

# Headers of a reply with predictions.
OF_PREDICTIONS = ("Server-Timing", "X-Truncated-Texts", "X-Abstained-Texts")

_View = TypeVar("_View", bound=Callable[..., Any])
_ATTRIBUTE = "inferer_metadata"


@dataclass(frozen=True, slots=True)
class ViewMetadata:
    """The facts about a view beside its docstring; a decorator for the view.

    replies: content type -> msgspec type, several types as a tuple, None for a body that is not JSON. contracts: those
    that the view takes; or else body, the msgspec type of its JSON, and examples by title, pair_examples for a model
    that reads pairs. errors: error types but that of a missing key. open: whether the view needs no key. headers: those
    of a successful reply beside every reply's. listed: whether /openapi.json shows the view.
    """

    tag: str
    replies: Mapping[str, Any]
    contracts: Sequence[Contract] = ()
    body: Any = None
    examples: Mapping[str, object] = field(default_factory=dict)
    pair_examples: Mapping[str, object] = field(default_factory=dict)
    errors: Sequence[str] = ALWAYS
    open: bool = False
    headers: Sequence[str] = ()
    listed: bool = True

    def __call__(self, view: _View) -> _View:
        """Attach this metadata to `view`."""
        setattr(view, _ATTRIBUTE, self)
        return view


def metadata_of(view: Callable[..., Any]) -> ViewMetadata:
    """Return the metadata of a view; every view has one."""
    found: ViewMetadata = getattr(view, _ATTRIBUTE)
    return found


def contract_metadata(contracts: Sequence[Contract], *, tag: str = "", errors: Sequence[str] = ()) -> ViewMetadata:
    """Return the metadata of a view that takes any of `contracts`; tag: by default the first one's name."""
    kinds = [kind for one in contracts for kind in (one.reply if isinstance(one.reply, tuple) else (one.reply,))]
    return ViewMetadata(
        tag or contracts[0].name,
        {JSON: tuple(dict.fromkeys(kinds))},
        contracts,
        errors=(*WITH_BODY, *errors, *(special for one in contracts for special in one.errors.values())),
        headers=OF_PREDICTIONS,
    )
