"""`GET /info`: which model answers here, what it was made from, and within which limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response

from inferer import __version__
from inferer.session import VERSION as ORT_VERSION
from service.reply import json_response
from service.state import current_state

blueprint = Blueprint("info", __name__)


def _without(facts: Mapping[str, Any] | None, *names: str) -> dict[str, Any] | None:
    """Return `facts` less the long lists that are for whoever exports."""
    return None if facts is None else {name: value for name, value in facts.items() if name not in names}


@blueprint.get("/info")
def info() -> Response:
    """Answer with the facts of the model and of this deployment."""
    state = current_state()
    model, settings = state.inferer, state.settings
    manifest = model.bundle.manifest
    return json_response(
        {
            "model": settings.name,
            "labels": list(model.labels),
            "problem_type": model.problem_type,
            "max_length": model.max_length,
            "truncation": model.bundle.truncation,
            "windows": asdict(model.bundle.windows),
            "thresholds": model.thresholds,
            "abstain_threshold": model.abstain_threshold,
            "calibration": {
                "temperature": manifest["temperature"],
                "platt": manifest.get("platt"),
                "report": manifest.get("calibration"),
            },
            "abstention": manifest.get("abstention"),
            "quantization": {
                **manifest["quantization"],
                "running": model.scheme,
                "exact_because": model.exact_because,
            },
            "golden_check": model.golden_check.as_dict(),
            "parity": manifest.get("parity"),
            "guard": _without(manifest.get("guard"), "rungs", "sensitivity"),
            "limits": {
                "max_texts": settings.max_texts,
                "max_text_chars": settings.max_text_chars,
                "max_body_bytes": settings.max_body_bytes,
                "max_in_flight": settings.max_in_flight,
                "deadline_ms": settings.deadline_ms,
            },
            "batching": {
                "shared": model.batcher.shared,
                "alone_because": model.alone_because,
                "max_batch_tokens": model.batcher.max_tokens,
            },
            "threads": {"workers": settings.worker_count, "intra_op": model.intra_op_threads},
            "versions": {"inferer": __version__, "onnxruntime": ORT_VERSION, "export": manifest.get("versions")},
            "created": manifest.get("created"),
        }
    )
