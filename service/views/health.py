"""Liveness and readiness: `/health/live`, `/health/ready`, `/health` and SageMaker's `/ping`."""

from __future__ import annotations

from typing import Literal

import msgspec
from flask import Blueprint, Response

from service.json_body import JSON, json_response
from service.openapi.view_metadata import ALWAYS, ViewMetadata
from service.state import current_state

blueprint = Blueprint("health", __name__)


class Live(msgspec.Struct):
    """The process responds."""

    status: Literal["live"] = "live"


class Ready(msgspec.Struct):
    """The worker should get requests."""

    status: Literal["ready"] = "ready"


@blueprint.get("/health/live")
@ViewMetadata("Operations", {JSON: Live}, open=True)
def live() -> Response:
    """Return 200 as long as the process responds."""
    return json_response(Live())


@blueprint.get("/ping")
@blueprint.get("/health")
@blueprint.get("/health/ready")
@ViewMetadata("Operations", {JSON: Ready}, errors=(*ALWAYS, "Unhealthy"), open=True)
def ready() -> Response:
    """Return 200 if this worker has a checked, warmed-up model; 503 while it drains or after a failed run.

    A worker accepts connections only after it has loaded its model; an earlier request waits for that.
    """
    current_state().check_ready()
    return json_response(Ready())
