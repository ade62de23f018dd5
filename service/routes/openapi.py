"""`GET /openapi.json`: this deployment's description, made when it is first asked for."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app

from service.describe import Described
from service.openapi import document
from service.state import current_state
from service.wire import JSON

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
@Described("Operations", {JSON: dict[str, Any]})
def openapi() -> Response:
    """Answer with this description, OpenAPI 3.1."""
    state = current_state()
    if state.openapi is None:
        state.openapi = document(current_app)  # two at once would make the same
    return Response(state.openapi, mimetype=JSON)
