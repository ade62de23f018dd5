"""Texts of the OpenAPI document that are the same for every route: headers, parameters and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.middleware import EXPOSED_HEADERS, SECURITY_HEADERS

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

HEADERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": ("the caller's id or a new one; in every error and log line", {"type": "string"}),
    "Server-Timing": (
        "milliseconds of the stages queue, tokenize and infer; the number of answers from the cache",
        {"type": "string"},
    ),
    "X-Truncated-Texts": ("the number of truncated texts; absent for 0", {"type": "integer", "minimum": 1}),
    "X-Abstained-Texts": (
        "the number of texts whose best score is too low for a label; absent for 0",
        {"type": "integer", "minimum": 1},
    ),
    "Retry-After": ("seconds to wait", {"type": "integer"}),
    "WWW-Authenticate": ("the scheme for the key", {"const": "Bearer"}),
    "Vary": ("request headers that the reply depends on", {"type": "string"}),
    "Access-Control-Allow-Origin": ("the origin whose pages may read the reply", {"type": "string"}),
    "Access-Control-Expose-Headers": ("headers that these pages may read", {"const": EXPOSED_HEADERS}),
    **{name: ("for browsers", {"type": "string"}) for name, _ in SECURITY_HEADERS},
}
HEADERS_OF_EVERY_REPLY = ("X-Request-Id", *(name for name, _ in SECURITY_HEADERS))
HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
CORS_HEADERS = ("Vary", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers")
OPTIONAL_HEADERS = ("X-Truncated-Texts", "X-Abstained-Texts", "Retry-After", *CORS_HEADERS)

ABOUT = """\
Every error has the body `{"error": "a sentence", "error_type": "…", "request_id": "…"}`. Any path can also return 404
NotFound for an unknown path, 405 MethodNotAllowed with `Allow` for another method, and 414 or 431 BadRequest for a
request line or headers that are too long.
"""
ABOUT_KEYS = "\nSend the key as `Authorization: Bearer …` or as `X-API-Key: …`.\n"

PARAMETERS = [
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "returned, and in the log; replaced if longer than 128 or with other characters",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "the deadline of this request, if earlier than the server's own",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    },
]
