"""Is the process there, and should it get requests? `/health/live`, `/health/ready`, `/health`, SageMaker's `/ping`."""

from __future__ import annotations

from typing import Literal

import msgspec
from flask import Blueprint, Response

from service.json_body import JSON, json_response
from service.openapi.view_metadata import ALWAYS, ViewMetadata
from service.state import current_state

blueprint = Blueprint("health", __name__)

_TAG = "Operations"


class Live(msgspec.Struct):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(msgspec.Struct):
    """The worker should get requests."""

    status: Literal["ready"] = "ready"


@blueprint.get("/health/live")
@ViewMetadata(_TAG, {JSON: Live}, open=True, reply_to=lambda _, __: Live())
def live() -> Response:
    """Answer 200 as long as the process answers at all."""
    return json_response(Live())


@blueprint.get("/ping")
@blueprint.get("/health")
@blueprint.get("/health/ready")
@ViewMetadata(_TAG, {JSON: Ready}, errors=(*ALWAYS, "Unhealthy"), open=True, reply_to=lambda _, __: Ready())
def ready() -> Response:
    """Answer 200 when this worker has a checked, warmed-up model; 503 while draining or after a failed run.

    A worker takes connections only once its model is loaded, so an earlier question waits for that.
    """
    current_state().check_ready()
    return json_response(Ready())
