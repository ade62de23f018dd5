"""`GET /metrics`: the figures for Prometheus."""

from __future__ import annotations

from flask import Blueprint, Response, request

from service.state import current_state

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer in the text format of Prometheus, or OpenMetrics where that is asked for."""
    body, content_type = current_state().metrics.exposition(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)
