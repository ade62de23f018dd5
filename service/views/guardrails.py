"""The paths of guardrail frameworks: vLLM's classification, FMS detectors, LiteLLM's generic guardrail."""

from __future__ import annotations

import time

from flask import Blueprint, Response

from service.contracts import detector, litellm, vllm
from service.errors import ServiceError
from service.inference import handle
from service.json_body import JSON, json_response
from service.openapi.view_metadata import ViewMetadata, contract_metadata
from service.state import current_state

blueprint = Blueprint("guardrails", __name__)

_STARTED = int(time.time())


@blueprint.post("/classify")
@contract_metadata((vllm.CONTRACT,), errors=("NotFound",))
def classify() -> Response:
    """Classify texts as vLLM does: the best label of each, and the scores of all labels in the model's order."""
    return handle((vllm.CONTRACT,))


@blueprint.get("/v1/models")
@ViewMetadata(vllm.CONTRACT.name, {JSON: vllm.VllmModels})
def models() -> Response:
    """List the one model of this server, as OpenAI's API does."""
    state = current_state()
    name = state.settings.name
    one = vllm.VllmModel(name, "model", _STARTED, "inferer", name, state.inferer.max_length)
    return json_response(vllm.VllmModels("list", [one]))


@blueprint.post("/api/v1/text/contents")
@contract_metadata((detector.CONTRACT,))
def contents() -> Response:
    """Return the labels of each text that reach the threshold; with INFERER_BLOCKED_LABELS, those alone."""
    return handle((detector.CONTRACT,))


@blueprint.post("/beta/litellm_basic_guardrail_api")
@contract_metadata((litellm.CONTRACT,), errors=("NotFound",))
def guardrail() -> Response:
    """Block if any text has a label of INFERER_BLOCKED_LABELS with a score of INFERER_BLOCK_THRESHOLD or more.

    Without such labels it is a 404, which LiteLLM takes as a block: a guardrail that allows everything is a mistake.
    """
    if not current_state().settings.blocked_labels:
        raise ServiceError("NotFound", "this deployment blocks no label; set INFERER_BLOCKED_LABELS")
    return handle((litellm.CONTRACT,))
