"""A request's body: bytes to a typed value by msgspec, or an error that names the field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from inferer.errors import shown
from service.errors import ServiceError

_T = TypeVar("_T")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def read_body(request: Request) -> bytes:
    """Return the whole body; raises ServiceError (UnsupportedMediaType) when it is not said to be JSON."""
    if request.mimetype != "application/json":
        given = shown(request.mimetype) if request.mimetype else "missing"
        raise ServiceError("UnsupportedMediaType", f"Content-Type is {given}, expected application/json")
    return _bytes(request)


def parse_json(data: bytes, kind: type[_T]) -> _T:
    """Return a body as `kind`, a msgspec type.

    Raises ServiceError: InvalidJson (not JSON, not UTF-8), or Validation, which names the field, its value and what
    is allowed.
    """
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError("InvalidJson", f"the body is not JSON in UTF-8: {error}") from error
    try:
        return msgspec.convert(body, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ServiceError("Validation", _explain(str(error), body, kind)) from error


def check_length(text: str, where: str, most: int) -> None:
    """Raise ServiceError (Validation) when the text in field `where` has more than `most` characters."""
    if len(text) > most:
        raise ServiceError("Validation", f"field '{where}': has {len(text)} characters, at most {most} are allowed")


def _bytes(request: Request) -> bytes:
    """Return the whole body; raises RequestEntityTooLarge beyond the limit, however it was sent."""
    limit = request.max_content_length
    try:
        data = request.get_data(cache=False)
        # Werkzeug refuses a Content-Length over the limit, but cuts a chunked body there without a word.
        full = limit is not None and len(data) >= limit and request.content_length is None
        if full and request.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
    except ParseException as error:
        raise ServiceError("InvalidJson", f"the body cannot be read: its chunks are malformed ({error})") from error
    return data


def _explain(message: str, body: Any, kind: type[Any]) -> str:
    """Return msgspec's message with the field in words and the value that was given."""
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    if unknown := _UNKNOWN.match(what):
        value = body.get(unknown[1]) if isinstance(body, dict) else None
        return f"field {shown(unknown[1])}: {shown(value)}: unknown field; allowed are {', '.join(_fields(kind))}"
    value = body
    for name, index in _STEP.findall(path):
        if index == "...":  # msgspec does not say which key; the whole mapping is shown
            break
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"field '{path.lstrip('.')}': {what}"
    what = what.replace("`", "")
    return f"field '{path.lstrip('.')}': {shown(value)}: {what}" if path else f"the body: {what}"


def _fields(kind: type[Any]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]
