"""`POST` paths for predictions: the service's own and those of other servers' clients."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Flask, Response, request

from service.contracts import hugging_face, kserve_v1, open_inference, own, sagemaker, text_embeddings, zero_shot
from service.errors import ServiceError
from service.inference import handle
from service.json_body import JSON
from service.openapi.view_metadata import contract_metadata
from service.settings import Settings
from service.state import current_state
from service.views.health import ready

blueprint = Blueprint("predict", __name__)

# `POST /predict`. A body with keys of several contracts belongs to the first of them.
SHARED = (
    own.CONTRACT,
    kserve_v1.CONTRACT,
    zero_shot.CONTRACT,
    hugging_face.CONTRACT,
    text_embeddings.CONTRACT,
)
# At the root `parameters` may be missing.
_HUGGING_FACE = (zero_shot.CONTRACT, replace(hugging_face.CONTRACT, keys=("inputs", "parameters")))
_SAGEMAKER = (*SHARED, sagemaker.PLAIN_TEXT, sagemaker.CSV)

_BINARY_TENSORS = "Inference-Header-Content-Length"
# Triton's client sends JSON without a Content-Type, its asyncio client as bytes.
_TRITON_ALIASES = {"": JSON, "application/octet-stream": JSON}


@blueprint.post("/predict")
@contract_metadata(SHARED)
def predict() -> Response:
    """Classify one text or several; with a model that reads pairs, one pair or several.

    Keys of the body select the contract: `text` or `texts` the native API, `instances` KServe v1, `parameters` Hugging
    Face, `inputs` alone text-embeddings-inference.
    """
    return handle(SHARED)


@blueprint.post("/")
@contract_metadata(_HUGGING_FACE)
def text_classification() -> Response:
    """Classify texts as the Hugging Face Inference API does: one list of labels per text, best first.

    `function_to_apply` "none" returns the model's logits; "softmax" and "sigmoid" apply to the calibrated logits.
    """
    return handle(_HUGGING_FACE)


@blueprint.post("/v2/models/<name>/versions/<version>/infer")
@blueprint.post("/v2/models/<name>/infer")
@contract_metadata((open_inference.CONTRACT,), errors=("NotFound",))
def infer(name: str, version: str = open_inference.VERSION) -> Response:
    """Classify the texts of one BYTES input and return tensors.

    A body without a Content-Type is read as JSON. Binary tensors are refused with 415.
    """
    current_state().check_name(name)
    open_inference.check_version(version)
    if _BINARY_TENSORS in request.headers:
        raise ServiceError(
            "UnsupportedMediaType",
            f"binary tensors (header {_BINARY_TENSORS}) are not supported; send JSON (tritonclient: binary_data=False)",
        )
    return handle((open_inference.CONTRACT,), _TRITON_ALIASES)


@blueprint.post("/v1/models/<name>:predict")
@contract_metadata((kserve_v1.CONTRACT,), errors=("NotFound",))
def kserve(name: str) -> Response:
    """Classify instances and return one object per instance, as in the native API."""
    current_state().check_name(name)
    return handle((kserve_v1.CONTRACT,))


@blueprint.post("/invocations")
@contract_metadata(_SAGEMAKER, tag=sagemaker.NAME)
def invocations() -> Response:
    """Classify JSON as /predict does, plain text as one text, and CSV as one text per row."""
    if request.mimetype == sagemaker.CSV.content_type and request.mimetype_params.get("header") == "present":
        raise ServiceError("UnsupportedMediaType", "a CSV header row is not supported; send the texts alone")
    return handle(_SAGEMAKER)


@contract_metadata(SHARED, tag=kserve_v1.CONTRACT.name)
def vertex() -> Response:
    """Classify texts on Vertex AI's path (AIP_PREDICT_ROUTE), by any contract of /predict."""
    return handle(SHARED)


def add_vertex_paths(app: Flask, settings: Settings) -> None:
    """Add the paths of Vertex AI's variables. Add them before all others, so that they take precedence."""
    for path, view, method in ((settings.aip_predict_route, vertex, "POST"), (settings.aip_health_route, ready, "GET")):
        if path:
            app.add_url_rule(path, f"vertex_{view.__name__}", view, methods=[method])
