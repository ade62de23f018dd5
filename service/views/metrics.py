"""`GET /metrics` for Prometheus."""

from __future__ import annotations

from flask import Blueprint, Response, request

from service.openapi.view_metadata import PLAIN, ViewMetadata
from service.state import current_state

blueprint = Blueprint("metrics", __name__)

OPEN_METRICS = "application/openmetrics-text"


@blueprint.get("/metrics")
@ViewMetadata("Operations", {PLAIN: None, OPEN_METRICS: None})
def metrics() -> Response:
    """Return the metrics in Prometheus' text format, or in OpenMetrics on request."""
    body, content_type = current_state().metrics.exposition(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)
