"""Health and metadata of server and model in KServe's protocols: v2 (Open Inference Protocol) and v1."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from inferer import __version__
from service.contracts import kserve_v1, open_inference
from service.contracts.open_inference import OUTPUTS, VERSION
from service.json_body import JSON, json_response
from service.openapi.view_metadata import ALWAYS, ViewMetadata
from service.state import current_state

blueprint = Blueprint("kserve", __name__)

_V2 = open_inference.CONTRACT.name
_OF_MODEL = (*ALWAYS, "NotFound")


class TensorMetadata(msgspec.Struct):
    """A tensor's name, type and shape; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The model's inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
    """The server's name and version."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(msgspec.Struct):
    """The server responds."""

    live: bool


class ServerReady(msgspec.Struct):
    """The server should get requests."""

    ready: bool


class ModelReady(msgspec.Struct):
    """The model's name, and whether it should get requests."""

    name: str
    ready: bool


@blueprint.get("/v2")
@ViewMetadata(_V2, {JSON: ServerMetadata})
def server() -> Response:
    """Return the server's name and version."""
    return json_response(ServerMetadata("inferer", __version__, []))


@blueprint.get("/v2/health/live")
@ViewMetadata(_V2, {JSON: ServerLive}, open=True)
def live() -> Response:
    """Return 200 as long as the process responds."""
    return json_response(ServerLive(live=True))


@blueprint.get("/v2/health/ready")
@ViewMetadata(_V2, {JSON: ServerReady}, errors=(*ALWAYS, "Unhealthy"), open=True)
def ready() -> Response:
    """Return 200 if this worker should get requests, else 503."""
    current_state().check_ready()
    return json_response(ServerReady(ready=True))


@blueprint.get("/v2/models/<name>/versions/<version>")
@blueprint.get("/v2/models/<name>")
@ViewMetadata(_V2, {JSON: ModelMetadata}, errors=_OF_MODEL)
def metadata(name: str, version: str = VERSION) -> Response:
    """Return the model's input and output tensors."""
    state = current_state()
    state.check_name(name)
    open_inference.check_version(version)
    labels = len(state.inferer.labels)
    outputs = [
        TensorMetadata(output, datatype, [-1, labels] if per_label else [-1])
        for output, (datatype, per_label, _) in OUTPUTS.items()
    ]
    texts = TensorMetadata("text", "BYTES", [-1])
    return json_response(ModelMetadata(name, [VERSION], "onnx_onnxv1", [texts], outputs))


@blueprint.get("/v2/models/<name>/versions/<version>/ready")
@blueprint.get("/v2/models/<name>/ready")
@ViewMetadata(_V2, {JSON: ModelReady}, errors=(*_OF_MODEL, "Unhealthy"))
def model_ready(name: str, version: str = VERSION) -> Response:
    """Return 200 if the model should get requests, else 503."""
    current_state().check_name(name)
    open_inference.check_version(version)
    current_state().check_ready()
    return json_response(ModelReady(name, ready=True))


@blueprint.get("/v1/models/<name>")
@ViewMetadata(kserve_v1.CONTRACT.name, {JSON: ModelReady}, errors=_OF_MODEL)
def model_status(name: str) -> Response:
    """Return whether the model is ready."""
    state = current_state()
    state.check_name(name)
    return json_response(ModelReady(name, state.unready_because() is None))
