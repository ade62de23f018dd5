"""Plain values to a JSON reply."""

from __future__ import annotations

import msgspec
from flask import Response

encode = msgspec.json.Encoder().encode


def json_response(body: object, status: int = 200) -> Response:
    """Return `body`, made of plain types, as a JSON reply."""
    return Response(encode(body), status=status, mimetype="application/json")
