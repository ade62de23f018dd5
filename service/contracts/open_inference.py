"""`/v2`: the Open Inference Protocol, as KServe, Triton and MLServer speak it; JSON alone, no binary tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, Meta, UnsetType

from inferer import __version__
from inferer.errors import shown
from inferer.scoring import Prediction
from service.contracts.base import Contract, Example, PredictCall, as_json, respond
from service.contracts.fields import Text, limited, texts_limit
from service.errors import ServiceError
from service.json_body import JSON, check_one_of, json_response
from service.openapi.view_metadata import ALWAYS, ViewMetadata, contract_metadata
from service.settings import Settings
from service.state import State, current_state

blueprint = Blueprint("open_inference", __name__, url_prefix="/v2")

_NAME = "Open Inference Protocol v2"
VERSION = "1"
_BINARY = "Inference-Header-Content-Length"
# Triton's client says nothing, its asyncio one that its JSON is bytes.
_TAKEN_FOR = {"": JSON, "application/octet-stream": JSON}

# name -> datatype, whether there is one value a label, and a text's values.
_Values = Callable[[Prediction, Sequence[str]], Sequence[Any]]
OUTPUTS: Mapping[str, tuple[str, bool, _Values]] = {
    "label": ("BYTES", False, lambda prediction, _: [prediction.label]),
    "score": ("FP32", False, lambda prediction, _: [prediction.score]),
    "scores": ("FP32", True, lambda prediction, labels: [prediction.scores[label] for label in labels]),
    "selected": ("BOOL", True, lambda prediction, labels: [label in prediction.labels for label in labels]),
    "num_tokens": ("INT64", False, lambda prediction, _: [prediction.num_tokens]),
    "truncated": ("BOOL", False, lambda prediction, _: [prediction.truncated]),
}
_ALWAYS_GIVEN = ("label", "score", "scores")
_SHAPE = [{"type": "integer"}, {"const": 1}]

_Alone = Annotated[list[Text], Meta(min_length=1, max_length=1)]


class RequestedOutput(msgspec.Struct):
    """An output that is asked for, by its name."""

    name: Annotated[str, Meta(extra_json_schema={"enum": [*OUTPUTS]})]
    parameters: Annotated[dict[str, Any] | None, Meta(extra_json_schema={"properties": {"classification": False}})] = (
        None
    )


class InferParameters(msgspec.Struct):
    """What is said of the texts; others are ignored."""

    content_type: Annotated[str, Meta(extra_json_schema={"enum": ["str"]})] | None = None


class InferInput(msgspec.Struct):
    """The texts: BYTES of shape [n] or [n, 1], flat or nested. Any name will do."""

    name: str
    shape: Annotated[
        list[Annotated[int, Meta(ge=1)]],
        Meta(min_length=1, max_length=2, description="[n] or [n, 1]", extra_json_schema={"prefixItems": _SHAPE}),
    ]
    datatype: Annotated[str, Meta(extra_json_schema={"enum": ["BYTES"]})]
    data: Annotated[list[Text | _Alone], limited(texts_limit, minItems=1)]
    parameters: InferParameters | None = None


class InferRequest(msgspec.Struct):
    """One input; outputs by name where not the first three are wanted. Parameters that are not known are ignored."""

    inputs: Annotated[list[InferInput], Meta(extra_json_schema={"minItems": 1, "maxItems": 1})]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None


class InferOutput(msgspec.Struct):
    """One output, row-major."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float | int | bool]


class InferReply(msgspec.Struct, kw_only=True):
    """The outputs that were asked for."""

    model_name: str
    model_version: str
    id: str | UnsetType = UNSET
    outputs: list[InferOutput]


class TensorMetadata(msgspec.Struct):
    """A tensor's name, type and shape; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct):
    """Whether the server answers."""

    live: bool


class Ready(msgspec.Struct):
    """Whether the server should get requests."""

    ready: bool


class ModelReady(msgspec.Struct):
    """Whether the model should get requests."""

    name: str
    ready: bool


def _read(body: InferRequest, _: Settings) -> PredictCall:
    if len(body.inputs) != 1:
        raise ServiceError("Validation", f"field 'inputs': has {len(body.inputs)} inputs, expected one, the texts")
    for index, output in enumerate(body.outputs or ()):
        check_one_of(output.name, f"outputs[{index}].name", tuple(OUTPUTS))
        if "classification" in (output.parameters or ()):
            raise ServiceError(
                "Validation",
                f"field 'outputs[{index}].parameters.classification': is not supported; ask for the output 'label'",
            )
    given = body.inputs[0]
    check_one_of(given.datatype, "inputs[0].datatype", ("BYTES",))
    if given.parameters is not None and given.parameters.content_type is not None:
        check_one_of(given.parameters.content_type, "inputs[0].parameters.content_type", ("str",))
    texts = [value if isinstance(value, str) else value[0] for value in given.data]
    places = [f"inputs[0].data[{row}]{'' if isinstance(value, str) else '[0]'}" for row, value in enumerate(given.data)]
    if given.shape[1:] not in ([], [1]) or prod(given.shape) != len(texts):
        raise ServiceError(
            "Validation",
            f"field 'inputs[0].shape': {given.shape} is not allowed; expected [{len(texts)}] or [{len(texts)}, 1], the "
            f"number of texts",
        )
    return PredictCall(texts, places, many="inputs[0].data")


def _render(body: InferRequest, predictions: Sequence[Prediction], state: State) -> InferReply:
    labels = state.inferer.labels
    outputs = []
    for name in dict.fromkeys(output.name for output in body.outputs or ()) or _ALWAYS_GIVEN:
        datatype, a_label, values = OUTPUTS[name]
        shape = [len(predictions), len(labels)] if a_label else [len(predictions)]
        data = [value for prediction in predictions for value in values(prediction, labels)]
        outputs.append(InferOutput(name, datatype, shape, data))
    id_ = UNSET if body.id is None else body.id
    return InferReply(model_name=state.settings.name, model_version=VERSION, id=id_, outputs=outputs)


CONTRACT = Contract(
    _NAME,
    InferRequest,
    InferReply,
    _read,
    _render,
    examples={
        "two texts": Example(
            {
                "id": "42",
                "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["I like you", "not for me"]}],
            }
        ),
        "some outputs": Example(
            {
                "inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [["I like you"]]}],
                "outputs": [{"name": "selected"}, {"name": "truncated"}],
            }
        ),
        "a wrong shape": Example(
            {"inputs": [{"name": "text", "shape": [3], "datatype": "BYTES", "data": ["I like you"]}]}
        ),
    },
)
_READERS = as_json(lambda _, __: CONTRACT)


@blueprint.post("/models/<name>/versions/<version>/infer")
@blueprint.post("/models/<name>/infer")
@contract_metadata(CONTRACT, _READERS, errors=("NotFound",), parameters={"version": VERSION})
def infer(name: str, version: str = VERSION) -> Response:
    """Answer the texts of one BYTES input with tensors: label, score, scores; others by their names.

    A body without a Content-Type is read as JSON. Binary tensors are refused with 415.
    """
    _check(name, version)
    if _BINARY in request.headers:
        raise ServiceError(
            "UnsupportedMediaType",
            f"binary tensors (header {_BINARY}) are not read here; send JSON (tritonclient: binary_data=False)",
        )
    return respond(_READERS, taken_for=_TAKEN_FOR)


def _server(_: object, __: State) -> ServerMetadata:
    return ServerMetadata("inferer", __version__, [])


@blueprint.get("")
@ViewMetadata(_NAME, {JSON: ServerMetadata}, reply_to=_server)
def server() -> Response:
    """Answer with the server's name and version."""
    return json_response(_server(None, current_state()))


@blueprint.get("/health/live")
@ViewMetadata(_NAME, {JSON: Live}, open=True, reply_to=lambda _, __: Live(live=True))
def live() -> Response:
    """Answer 200 as long as the process answers at all."""
    return json_response(Live(live=True))


@blueprint.get("/health/ready")
@ViewMetadata(_NAME, {JSON: Ready}, errors=(*ALWAYS, "Unhealthy"), open=True, reply_to=lambda _, __: Ready(ready=True))
def ready() -> Response:
    """Answer 200 when this worker should get requests, else 503."""
    current_state().check_ready()
    return json_response(Ready(ready=True))


def _metadata(_: object, state: State) -> ModelMetadata:
    labels = len(state.inferer.labels)
    outputs = [
        TensorMetadata(name, datatype, [-1, labels] if a_label else [-1])
        for name, (datatype, a_label, _) in OUTPUTS.items()
    ]
    texts = TensorMetadata("text", "BYTES", [-1])
    return ModelMetadata(state.settings.name, [VERSION], "onnx_onnxv1", [texts], outputs)


@blueprint.get("/models/<name>/versions/<version>")
@blueprint.get("/models/<name>")
@ViewMetadata(
    _NAME, {JSON: ModelMetadata}, errors=(*ALWAYS, "NotFound"), reply_to=_metadata, parameters={"version": VERSION}
)
def metadata(name: str, version: str = VERSION) -> Response:
    """Answer with the tensors that the model takes and gives."""
    _check(name, version)
    return json_response(_metadata(None, current_state()))


@blueprint.get("/models/<name>/versions/<version>/ready")
@blueprint.get("/models/<name>/ready")
@ViewMetadata(
    _NAME,
    {JSON: ModelReady},
    errors=(*ALWAYS, "NotFound", "Unhealthy"),
    reply_to=lambda _, state: ModelReady(state.settings.name, ready=True),
    parameters={"version": VERSION},
)
def model_ready(name: str, version: str = VERSION) -> Response:
    """Answer 200 when the model should get requests, else 503."""
    _check(name, version)
    current_state().check_ready()
    return json_response(ModelReady(name, ready=True))


def _check(name: str, version: str) -> None:
    current_state().check_name(name)
    if version != VERSION:
        raise ServiceError("NotFound", f"no version {shown(version)} of the model here; there is {VERSION!r}")
