"""API keys: checked before any view, in constant time, from headers only."""

from __future__ import annotations

import hmac

from flask import Flask, request

from service.errors import ServiceError
from service.state import current_state

_OPEN_PATHS = ("/health",)


def register(app: Flask) -> None:
    """Refuse requests without a right key, when any is set; health routes stay open."""
    app.before_request(_check)


def _check() -> None:
    keys = current_state().settings.api_keys
    open_path = any(request.path == path or request.path.startswith(f"{path}/") for path in _OPEN_PATHS)
    if not keys or open_path:
        return
    given = _given().encode("utf-8", "replace")
    # Every key is compared, whatever the others gave, so that timing tells nothing.
    matches = [hmac.compare_digest(given, key.encode()) for key in keys]
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
