"""The id of a request: the caller's own where it is safe to echo and log, else a new one."""

from __future__ import annotations

import re
import uuid

from flask import g, request

HEADER = "X-Request-Id"
_SAFE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def current_request_id() -> str:
    """Return the id of the request being answered, the same for its whole life."""
    if "request_id" not in g:
        given = request.headers.get(HEADER, "")
        g.request_id = given if _SAFE.fullmatch(given) else uuid.uuid4().hex
    return str(g.request_id)
