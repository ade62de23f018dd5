"""What the API's description says of errors and headers, which are the same for every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.cors import MAY_READ
from service.middleware import HEADERS

A_REQUEST_ID = "6f1b0c52a8e94d7f9d1c3b7a5e2f4081"
KEYS = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}

MEANING = {
    "BadRequest": "the request cannot be read as HTTP, or its Host header is none",
    "InvalidJson": "the body is not JSON, or not UTF-8, or cut off",
    "Empty": "a text is empty",
    "Unauthorized": "the key is missing or wrong",
    "NotFound": "there is nothing of this name",
    "PayloadTooLarge": "the body is too large",
    "UnsupportedMediaType": "the body is of another type",
    "Validation": "a field is wrong: the error names it, its value and what is allowed",
    "Tokenizer": "a text cannot be read",
    "Backend": "the runtime failed on a valid text; the log has the details",
    "Overloaded": "too many requests are in flight; try again",
    "Internal": "an internal error; the log has the details",
    "DeadlineExceeded": "the deadline passed before the text was run",
    "Unhealthy": "draining, or the last run failed",
}

DESCRIBED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": ("the caller's own, or a new one; in every error and log line", {"type": "string"}),
    "Server-Timing": ("milliseconds of the stages queue, tokenize and infer", {"type": "string"}),
    "X-Truncated-Texts": ("of how many texts some went unread; absent for 0", {"type": "integer", "minimum": 1}),
    "X-Abstained-Texts": (
        "how many texts got no label for a low score; absent for none",
        {"type": "integer", "minimum": 1},
    ),
    "Retry-After": ("seconds to wait", {"type": "integer"}),
    "WWW-Authenticate": ("how a key is sent", {"const": "Bearer"}),
    "Vary": ("what else of the request decided", {"type": "string"}),
    "Access-Control-Allow-Origin": ("whose pages may read this", {"type": "string"}),
    "Access-Control-Expose-Headers": ("which headers they may read", {"const": MAY_READ}),
    **{name: ("for browsers", {"type": "string"}) for name, _ in HEADERS},
}
ON_EVERY_REPLY = ("X-Request-Id", *(name for name, _ in HEADERS))
OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
FOR_ORIGINS = ("Vary", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers")
MAY_BE_ABSENT = ("X-Truncated-Texts", "X-Abstained-Texts", "Retry-After", *FOR_ORIGINS)

ABOUT = """\
Every error is `{"error": "a sentence", "error_type": "…", "request_id": "…"}`. Beside those that are listed with each
path: 404 NotFound for a path that is none, 405 MethodNotAllowed with `Allow` for another method, 414 and 431 BadRequest
for a first line or headers that are too long.
"""
ABOUT_KEYS = "\nA key is sent as `Authorization: Bearer …` or as `X-API-Key: …`.\n"

PARAMETERS = [
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "echoed, and in the log; another is made for one of other characters or of more than 128",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "for how long this request may wait for its run, where that is less than the server's own limit",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    },
]
