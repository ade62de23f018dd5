"""`GET /openapi.json`: the OpenAPI document of this deployment, made at the first request for it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app

from service.json_body import JSON
from service.openapi.document import document
from service.openapi.view_metadata import ViewMetadata
from service.state import current_state

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
@ViewMetadata("Operations", {JSON: dict[str, Any]})
def openapi() -> Response:
    """Return this document, OpenAPI 3.1."""
    state = current_state()
    if state.openapi is None:
        state.openapi = document(current_app)
    return Response(state.openapi, mimetype=JSON)
