"""API keys: checked before any view, in constant time, from headers only."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from flask import Flask, request

from service.errors import ServiceError

_OPEN_PATHS = ("/health", "/page", "/docs")


def register(app: Flask, keys: Sequence[str]) -> None:
    """Refuse requests without a right key, when any is set; health routes stay open."""
    if keys:
        encoded = [key.encode() for key in keys]
        app.before_request(lambda: _check(encoded))


def _check(keys: Sequence[bytes]) -> None:
    if request.path == "/" and request.method in ("GET", "HEAD"):
        return
    if any(request.path == path or request.path.startswith(f"{path}/") for path in _OPEN_PATHS):
        return
    given = _given().encode("utf-8", "replace")
    # Every key is compared, whatever the others gave, so that timing tells nothing.
    matches = [hmac.compare_digest(given, key) for key in keys]
    if not any(matches):
        raise ServiceError(
            "Unauthorized",
            "the key is missing or wrong; send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
            {"WWW-Authenticate": "Bearer"},
        )


def _given() -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return request.headers.get("X-API-Key", "")
