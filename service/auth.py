"""The check of API keys, taken from headers only, before any view runs."""

from __future__ import annotations

from flask import Flask, current_app, request

from service.errors import ServiceError
from service.keys import Keys
from service.openapi.view_metadata import metadata_of


def require_keys(app: Flask, keys: Keys) -> None:
    """Refuse requests without a valid key if there are `keys`; open views need none."""
    if keys:
        app.before_request(lambda: _check(keys))


def _check(keys: Keys) -> None:
    if request.endpoint is not None and metadata_of(current_app.view_functions[request.endpoint]).open:
        return
    if not keys.accept(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", "")):
        raise ServiceError(
            "Unauthorized",
            "the key is missing or wrong; send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
            {"WWW-Authenticate": "Bearer"},
        )
