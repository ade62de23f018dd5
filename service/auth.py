"""API keys, taken from headers only and compared in constant time before any view runs."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from flask import Flask, current_app, request

from service.errors import ServiceError
from service.openapi.view_metadata import metadata_of


def require_keys(app: Flask, keys: Sequence[str]) -> None:
    """Refuse requests without a valid key if `keys` are set; open views need none."""
    if keys:
        encoded = [key.encode() for key in keys]
        app.before_request(lambda: _check(encoded))


def _check(keys: Sequence[bytes]) -> None:
    if request.endpoint is not None and metadata_of(current_app.view_functions[request.endpoint]).open:
        return
    # No short circuit: the time of the check must not depend on the match.
    matches = [hmac.compare_digest(given, key) for given in _candidates() for key in keys]
    if not any(matches):
        raise ServiceError(
            "Unauthorized",
            "the key is missing or wrong; send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
            {"WWW-Authenticate": "Bearer"},
        )


def _candidates() -> list[bytes]:
    """Return the values that may be a key; some clients send both headers, one with a token of their own."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = [token.strip() if scheme.lower() == "bearer" else "", request.headers.get("X-API-Key", "")]
    return [one.encode("utf-8", "replace") for one in given]
