"""`GET /openapi.json`: the description of this deployment, made when it is first asked for."""

from __future__ import annotations

import threading
from typing import Any

from flask import Blueprint, Response, current_app

from service.json_body import JSON
from service.openapi.document import document
from service.openapi.view_metadata import ALWAYS, ViewMetadata
from service.state import current_state

blueprint = Blueprint("openapi", __name__)

_making = threading.Lock()


@blueprint.get("/openapi.json")
@ViewMetadata("Operations", {JSON: dict[str, Any]}, errors=(*ALWAYS, "Overloaded", "Backend"))
def openapi() -> Response:
    """Answer with this description, OpenAPI 3.1.

    Its examples are made by the model when it is first asked for, which takes a place in flight.
    """
    state = current_state()
    with _making:
        if state.openapi is None:
            with state.admitted():
                state.openapi = document(current_app)
    return Response(state.openapi, mimetype=JSON)
