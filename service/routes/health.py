"""Is the process there, and should it get requests? `/health/live`, `/health/ready`, `/health`."""

from __future__ import annotations

from flask import Blueprint, Response

from service.errors import ServiceError
from service.reply import json_response
from service.state import current_state

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def live() -> Response:
    """Answer 200 as long as the process answers at all."""
    return json_response({"status": "live"})


@blueprint.get("/health")
@blueprint.get("/health/ready")
def ready() -> Response:
    """Answer 200 when this worker has a checked, warmed-up model; 503 while draining or after a failed run.

    A worker takes connections only once its model is loaded, so an earlier question waits for that.
    """
    reason = current_state().unready_because()
    if reason is not None:
        raise ServiceError("Unhealthy", reason)
    return json_response({"status": "ready"})
