"""Facts for operators: `GET /info`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, request
from msgspec import UNSET, UnsetType

from inferer import __version__
from inferer.bundle.reader import ERROR
from inferer.session import VERSION as ORT_VERSION
from service.contracts.rerank import is_reranker
from service.json_body import JSON, json_response
from service.openapi.document import document
from service.openapi.view_metadata import ViewMetadata
from service.state import State, current_state

blueprint = Blueprint("info", __name__)


class Limits(msgspec.Struct):
    """Limits of this deployment."""

    max_texts: int
    max_text_chars: int
    max_tokens_per_request: int
    max_body_bytes: int
    max_in_flight: int
    deadline_ms: int


class ModelType(msgspec.Struct):
    """The labels in the format of text-embeddings-inference; a reranker reads pairs and gives one number."""

    classifier: dict[str, dict[str, Any]] | UnsetType = UNSET
    reranker: dict[str, dict[str, Any]] | UnsetType = UNSET


class Info(msgspec.Struct):
    """The model, its making and the limits; a report that was not made is null.

    From `model_id` on, fields repeat facts under the names that clients of text-embeddings-inference read.
    """

    model: str
    labels: list[str]
    problem_type: str
    activation: str
    text_pair: bool
    max_length: int
    truncation: str
    windows: dict[str, Any]
    thresholds: dict[str, float] | None
    abstain_threshold: float | None
    calibration: dict[str, Any]
    abstention: dict[str, Any] | None
    quantization: dict[str, Any]
    golden_check: dict[str, Any]
    parity: dict[str, Any] | None
    guard: dict[str, Any] | None
    limits: Limits
    batching: dict[str, Any]
    threads: dict[str, int]
    versions: dict[str, Any]
    created: str | None
    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


@blueprint.get("/info")
@ViewMetadata("Operations", {JSON: Info})
def info() -> Response:
    """Return facts about the model and this deployment."""
    return json_response(_info(current_state()))


@blueprint.get("/metrics")
@ViewMetadata("Operations", {"text/plain": None, "application/openmetrics-text": None})
def metrics() -> Response:
    """Return the metrics in Prometheus' text format, or in OpenMetrics on request."""
    body, content_type = current_state().metrics.exposition(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


@blueprint.get("/openapi.json")
@ViewMetadata("Operations", {JSON: dict[str, Any]})
def openapi() -> Response:
    """Return this document, OpenAPI 3.1."""
    state = current_state()
    if state.openapi is None:
        state.openapi = document(current_app, state)
    return Response(state.openapi, mimetype=JSON)


def _info(state: State) -> Info:
    model, settings = state.inferer, state.settings
    manifest = model.bundle.manifest
    guard = manifest.get("guard")
    id2label = {str(index): label for index, label in enumerate(model.labels)}
    label2id = {label: index for index, label in enumerate(model.labels)}
    labels: dict[str, dict[str, Any]] = {"id2label": id2label, "label2id": label2id}
    return Info(
        model=settings.name,
        labels=list(model.labels),
        problem_type=model.problem_type,
        activation=model.activation,
        text_pair=model.text_pair,
        max_length=model.max_length,
        truncation=model.bundle.truncation,
        windows=asdict(model.bundle.windows),
        thresholds=model.thresholds,
        abstain_threshold=model.abstain_threshold,
        calibration={
            "temperature": manifest["temperature"],
            "platt": manifest.get("platt"),
            "report": manifest.get("calibration"),
        },
        abstention=manifest.get("abstention"),
        quantization={
            **manifest["quantization"],
            "running": model.scheme,
            "exact_because": model.exact_because,
            "native_operators": model.native,
        },
        golden_check=model.golden_check.as_dict(),
        parity=manifest.get("parity"),
        # Without the long lists, which serve only the exporter.
        guard=guard and {name: value for name, value in guard.items() if name not in ("rungs", "sensitivity")},
        limits=msgspec.convert(settings, Limits, from_attributes=True),
        batching={
            "shared": model.batcher.shared,
            "alone_because": model.alone_because,
            "max_batch_tokens": model.batcher.max_tokens,
        },
        threads={
            "workers": settings.worker_count,
            "parallel_runs": model.parallel_runs,
            "intra_op": model.intra_op_threads,
        },
        versions={"inferer": __version__, "onnxruntime": ORT_VERSION, "export": manifest.get("versions")},
        created=manifest.get("created"),
        model_id=settings.name,
        model_sha=manifest.get("manifest_sha256"),
        model_dtype=model.scheme,
        served_model_name=settings.name,
        model_type=ModelType(reranker=labels) if is_reranker(model) else ModelType(classifier=labels),
        max_concurrent_requests=settings.max_in_flight,
        max_input_length=model.max_length,
        max_batch_tokens=model.batcher.max_tokens,
        max_batch_requests=None,
        max_client_batch_size=settings.max_texts,
        auto_truncate=model.bundle.truncation != ERROR,
        tokenization_workers=1,
        version=__version__,
        sha=None,
        docker_label=None,
    )
