"""Changes to the requests of schemathesis; test_schemathesis.py names them in SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import os
from typing import Any

import schemathesis

_TIMEOUT = "X-Request-Timeout-Ms"
_ENOUGH_MS = 5_000


@schemathesis.hook
def before_call(ctx: Any, case: Any, **_: Any) -> None:
    """Wait long enough, and write whole numbers as such.

    A deadline of 1 ms is allowed, and passes. JSON Schema counts 2.0 as an integer, and nobody writes one so. It cannot
    say what CSV is: a text is quoted here, which makes it a row, of two equal texts for a model of pairs; one of
    control characters alone, which schemathesis 4.32 makes against the pattern, is another. Nor can it say that the
    names within one string differ.
    """
    given = str((case.headers or {}).get(_TIMEOUT, ""))
    if given.isdigit() and 1 <= int(given) < _ENOUGH_MS:
        case.headers[_TIMEOUT] = str(_ENOUGH_MS)
    case.body = _whole(case.body)
    parameters = case.body.get("parameters") if isinstance(case.body, dict) else None
    if isinstance(parameters, dict) and isinstance(names := parameters.get("candidate_labels"), str):
        parameters["candidate_labels"] = ",".join({name.strip(): name for name in names.split(",")}.values())
    if case.media_type == "text/csv" and isinstance(case.body, str):
        text = case.body if case.body.strip() else "some text"
        quoted = '"' + text.replace('"', '""') + '"'
        case.body = f"{quoted},{quoted}" if os.environ.get("SCHEMATHESIS_PAIRS") else quoted


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
