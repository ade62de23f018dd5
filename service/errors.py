"""The table of error types and statuses, the error body, and the handlers that make every error reply."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadHost, HTTPException

from inferer.errors import RunError, shown
from service.request import record_of
from service.telemetry.logs import fields

log = logging.getLogger("inferer.service")

# error_type -> status, and the cause as /openapi.json describes it
ERRORS: Mapping[str, tuple[int, str]] = {
    "BadRequest": (400, "malformed HTTP or an invalid Host header"),
    "InvalidJson": (400, "the body is not JSON in UTF-8, or incomplete"),
    "Empty": (400, "a text is empty"),
    "Unauthorized": (401, "the key is missing or wrong"),
    "NotFound": (404, "an unknown name"),
    "MethodNotAllowed": (405, "the path takes other methods"),
    "RequestTimeout": (408, "the request did not arrive in time"),
    "PayloadTooLarge": (413, "the body is too large"),
    "UnsupportedMediaType": (415, "the body has another content type, charset or encoding"),
    "Validation": (422, "a field is wrong; the error names it, its value and the allowed values"),
    "Tokenizer": (422, "a text cannot be tokenized"),
    "Backend": (424, "the runtime failed on a valid text, and the log has the details; or the model does not rank"),
    "Overloaded": (429, "the service is at capacity; try again"),
    "Internal": (500, "an internal error; the log has the details"),
    "DeadlineExceeded": (503, "the deadline passed before the model ran"),
    "Unhealthy": (503, "the worker is draining, or its last model run failed"),
}
STATUS = {error_type: status for error_type, (status, _) in ERRORS.items()}

# Error types for the errors that Flask and Werkzeug raise; their 400 is an incomplete body.
_BY_STATUS = {
    400: "InvalidJson",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
}
INTERNAL = "an internal error; the log has the details under this request id"


class ServiceError(Exception):
    """An error reply: its type in the table, a sentence, and extra headers."""

    def __init__(self, error_type: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.headers = dict(headers or {})


def wrong_field(field: str, problem: str) -> ServiceError:
    """Return the error of a field of the body with a value that is not allowed."""
    return ServiceError("Validation", f"field '{field}': {problem}")


def error_response(error: ServiceError, request_id: str) -> Response:
    """Return the reply for `error`; its body is flat so that the clients of every contract can read it."""
    body = {"error": error.message, "error_type": error.error_type, "request_id": request_id}
    response = Response(msgspec.json.encode(body), status=STATUS[error.error_type], mimetype="application/json")
    response.headers.update(error.headers)
    return response


def register_handlers(app: Flask) -> None:
    """Register the handlers of all errors for every route."""
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _service_error(error: ServiceError) -> Response:
    record = record_of(request.environ)
    if error.error_type == "Internal" or isinstance(error.__cause__, RunError):
        log.exception("request %s failed", record.request_id, exc_info=error.__cause__, extra=fields(**record.ids()))
    return error_response(error, record.request_id)


def _http_error(error: HTTPException) -> Response:
    """Reply to an error that Flask or Werkzeug raises: no route, wrong method, a body that is too large."""
    status = error.code or 500
    error_type = _BY_STATUS.get(status, "InvalidJson")  # the other client errors are unreadable bodies
    headers: dict[str, str] = {}
    message = f"{request.method} {request.path}: {error.description or error.name}"
    if error_type == "NotFound":
        routes = sorted({str(rule) for rule in current_app.url_map.iter_rules() if rule.endpoint != "static"})
        message = f"no route {shown(request.path)}; the routes are {', '.join(routes)}"
    elif error_type == "MethodNotAllowed":
        allowed: Any = getattr(error, "valid_methods", None) or ()
        headers["Allow"] = ", ".join(sorted(allowed))
        message = f"{request.path} does not take {request.method}; it takes {headers['Allow']}"
    elif error_type == "PayloadTooLarge":
        limit = current_app.config["MAX_CONTENT_LENGTH"]
        message = f"the body has {request.content_length or 'too many'} bytes, at most {limit} are allowed"
    elif isinstance(error, BadHost):
        error_type, message = "BadRequest", f"invalid Host header {shown(request.environ.get('HTTP_HOST'))}"
    elif status >= 500:
        return _unexpected(error)
    return _service_error(ServiceError(error_type, message, headers))


def _unexpected(error: Exception) -> Response:
    internal = ServiceError("Internal", INTERNAL)
    internal.__cause__ = error
    return _service_error(internal)
