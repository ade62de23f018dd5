"""API keys: checked before any view, in constant time, from headers only."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from flask import Flask, current_app, request

from service.errors import ServiceError
from service.openapi.view_metadata import metadata_of


def register(app: Flask, keys: Sequence[str]) -> None:
    """Refuse requests without a right key, when any is set; views described as open need none."""
    if keys:
        encoded = [key.encode() for key in keys]
        app.before_request(lambda: _check(encoded))


def _check(keys: Sequence[bytes]) -> None:
    if request.endpoint is not None and metadata_of(current_app.view_functions[request.endpoint]).open:
        return
    # Every key is compared with each that was sent, whatever the others gave, so that timing tells nothing.
    matches = [hmac.compare_digest(given, key) for given in _given() for key in keys]
    if not any(matches):
        raise ServiceError(
            "Unauthorized",
            "the key is missing or wrong; send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
            {"WWW-Authenticate": "Bearer"},
        )


def _given() -> list[bytes]:
    """Return what may be a key; some clients send a token of their own beside it."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = [token.strip() if scheme.lower() == "bearer" else "", request.headers.get("X-API-Key", "")]
    return [one.encode("utf-8", "replace") for one in given]
