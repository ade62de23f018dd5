"""JSON bodies: a request's bytes to a typed value, errors that name the field, and a reply from plain types."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from flask import Request, Response
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from inferer.errors import shown
from service.errors import ServiceError

JSON = "application/json"

encode = msgspec.json.Encoder().encode

_UTF_8 = ("utf-8", "utf8", "us-ascii")
_T = TypeVar("_T")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def read_body(
    request: Request, accepted: Collection[str] = (JSON,), taken_for: Mapping[str, str] = MappingProxyType({})
) -> tuple[bytes, str]:
    """Return the whole body and its type; raises ServiceError (UnsupportedMediaType) when that is none of `accepted`.

    taken_for: types that some client says though it means another; "" is none at all.
    """
    given = request.environ.get("CONTENT_TYPE", "")
    if given != JSON or JSON not in accepted:  # as nearly everybody sends it: nothing to take apart
        given = taken_for.get(request.mimetype, request.mimetype)
        _check_type(request, given, accepted)
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    if coding.lower() not in ("", "identity"):
        raise ServiceError(
            "UnsupportedMediaType", f"the Content-Encoding {shown(coding)} is not read here; send it plain"
        )
    return _bytes(request), given


def _check_type(request: Request, given: str, accepted: Collection[str]) -> None:
    if given not in accepted:
        named = shown(given) if given else "missing"
        raise ServiceError("UnsupportedMediaType", f"Content-Type is {named}, expected {' or '.join(accepted)}")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in _UTF_8:
        raise ServiceError("UnsupportedMediaType", f"the charset {shown(charset)} is not read here; send UTF-8")


def decode_json(data: bytes) -> object:
    """Return what a body says; raises ServiceError (InvalidJson) for what is not JSON, or not UTF-8."""
    try:
        body: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError("InvalidJson", f"the body is not JSON in UTF-8: {error}") from error
    return body


def validate(kind: type[_T], body: object) -> _T:
    """Return a decoded body as `kind`, a msgspec type.

    Raises ServiceError (Validation), which names the field, its value and what is allowed.
    """
    try:
        return msgspec.convert(body, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ServiceError("Validation", _explain(str(error), body, kind)) from error


def json_response(body: object) -> Response:
    """Return `body`, made of plain types, as a JSON reply."""
    return Response(encode(body), mimetype=JSON)


def check_one_of(value: str, where: str, allowed: Sequence[str]) -> None:
    """Raise ServiceError (Validation) when the `value` of field `where` is not allowed."""
    if value not in allowed:
        raise ServiceError(
            "Validation", f"field '{where}': {shown(value)} is not allowed; expected {', '.join(allowed)}"
        )


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
