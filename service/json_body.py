"""Request bodies from bytes to typed values, with errors that name the field; JSON replies from plain types."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from flask import Request, Response
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from inferer.errors import shown
from service.errors import ServiceError, wrong_field
from service.process.connection import BodyTooLarge

JSON = "application/json"

encode = msgspec.json.Encoder().encode

_UTF_8 = ("utf-8", "utf8", "us-ascii")
_MESSAGE = re.compile(r"^(?P<problem>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)

_BYTE = re.compile(r"\(byte (\d+)\)$")
# Escapes in JSON up to the first surrogate without its other half.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+", re.DOTALL
)


def read_body(
    request: Request, accepted: Collection[str], aliases: Mapping[str, str] | None = None
) -> tuple[bytes, str]:
    """Return the whole body and its content type; raises ServiceError (UnsupportedMediaType) for one not `accepted`.

    aliases: content types that some clients send for another; "" stands for a missing one.
    """
    content_type = request.environ.get("CONTENT_TYPE", "")
    if content_type != JSON or JSON not in accepted:  # the usual header needs no parsing
        content_type = (aliases or {}).get(request.mimetype, request.mimetype)
        if content_type not in accepted:
            named = shown(content_type) if content_type else "missing"
            raise ServiceError("UnsupportedMediaType", f"Content-Type is {named}, expected {' or '.join(accepted)}")
        charset = request.mimetype_params.get("charset", "utf-8")
        if charset.lower() not in _UTF_8:
            raise ServiceError("UnsupportedMediaType", f"the charset {shown(charset)} is not supported; send UTF-8")
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    if coding.lower() not in ("", "identity"):
        wrong = f"the Content-Encoding {shown(coding)} is not supported"
        raise ServiceError("UnsupportedMediaType", f"{wrong}; send the body uncompressed")
    return _bytes(request), content_type


def decode(data: bytes, content_type: str = JSON) -> object:
    """Return a JSON body as plain types, any other body as text; raises ServiceError (InvalidJson)."""
    try:
        return msgspec.json.decode(data) if content_type == JSON else data.decode("utf-8-sig")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = "JSON in UTF-8" if content_type == JSON else "UTF-8"
        raise ServiceError("InvalidJson", f"the body is not {expected}: {_fault(data, error)}") from error


def validate(kind: Any, decoded: object) -> Any:
    """Return a decoded body as `kind`, a msgspec type.

    Raises ServiceError (Validation), which names the field, its value and the allowed values.
    """
    try:
        return msgspec.convert(decoded, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ServiceError("Validation", _explain(str(error), decoded, kind)) from error


class Reply(Response):
    """A JSON reply: head and body are ready, so it skips what Werkzeug does for replies of any kind."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Reply as WSGI does."""
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.response


def json_response(body: object) -> Response:
    """Return `body`, made of plain types, as a JSON reply."""
    return Reply(encode(body), content_type=JSON)


def check_one_of(value: str, field: str, allowed: Sequence[str]) -> None:
    """Raise ServiceError (Validation) if the field's value is not allowed."""
    if value not in allowed:
        raise wrong_field(field, f"{shown(value)} is not allowed; expected {', '.join(allowed)}")


def check_length(text: str, field: str, most: int) -> None:
    """Raise ServiceError (Validation) if the field's text has more than `most` characters."""
    if len(text) > most:
        raise wrong_field(field, f"has {len(text)} characters, at most {most} are allowed")


def _bytes(request: Request) -> bytes:
    """Return the whole body; raises RequestEntityTooLarge over the limit, for a chunked body too."""
    limit = request.max_content_length
    try:
        data = request.get_data(cache=False)
        # Werkzeug refuses a Content-Length over the limit, but silently cuts a chunked body there.
        full = limit is not None and len(data) >= limit and request.content_length is None
        if full and request.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
    except BodyTooLarge as error:
        raise RequestEntityTooLarge from error
    except ParseException as error:
        raise ServiceError("InvalidJson", f"the body cannot be read: its chunks are malformed ({error})") from error
    return data


def _fault(data: bytes, error: Exception) -> str:
    """Return the reason why `data` cannot be decoded, with its byte; msgspec's own is misleading in some cases."""
    problem = str(error)
    at = _BYTE.search(problem)
    rest = data[int(at[1]) :] if at else b""
    if not data.strip():
        return "it is empty"
    if data.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark, which JSON does not allow"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        return "it is UTF-16 or UTF-32"
    if isinstance(error, RecursionError):
        return "its lists or objects are nested too deep"
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        return f"{wrong.reason} at byte {wrong.start}, 0x{data[wrong.start]:02x}"
    if "out of range" in problem:
        return "a number is too large, or has too many digits"
    if "truncated" in problem or "surrogate" in problem:
        end = _PAIRED.match(data).end()  # type: ignore[union-attr]  # matches anything
        if lone := _SURROGATE.match(data, end):
            return f"the lone surrogate {lone[0].decode()} at byte {end} is half of a character"
        return f"it is cut off after {len(data)} bytes" if "truncated" in problem else problem
    if at and rest.startswith((b"NaN", b"Infinity")):
        return f"NaN and Infinity are not JSON (byte {at[1]}); send null or leave the field out"
    if rest and rest[0] < ord(" "):
        return f"the control character 0x{rest[0]:02x} at byte {at[1]} must be escaped"  # type: ignore[index]
    return problem


def _explain(message: str, body: Any, kind: Any) -> str:
    """Return msgspec's message with the field's name and value."""
    match = _MESSAGE.match(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    if unknown := _UNKNOWN_FIELD.match(problem):
        value = body.get(unknown[1]) if isinstance(body, dict) else None
        allowed = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return f"field {shown(unknown[1])}: {shown(value)}: unknown field; allowed are {allowed}"
    value = body
    for name, index in _STEP.findall(path):
        if index == "...":  # msgspec does not name the key: show the whole mapping
            break
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"field '{path.lstrip('.')}': {problem}"
    problem = problem.replace("`", "")
    return f"field '{path.lstrip('.')}': {shown(value)}: {problem}" if path else f"the body: {problem}"
