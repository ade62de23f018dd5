"""`POST /v1/models/{m}:predict` and `GET /v1/models/{m}`: KServe's v1, which is Vertex AI's too.

Vertex AI says by AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE which paths it asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from flask import Blueprint, Flask, Response

from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, Example, PredictCall, as_json, respond
from service.contracts.fields import Text, Threshold, TopK, Truncation, limited, texts_limit
from service.contracts.own import ANY, PredictionReply, prediction_reply
from service.json_body import JSON, json_response
from service.openapi.view_metadata import ALWAYS, ViewMetadata, contract_metadata
from service.settings import Settings
from service.state import State, current_state
from service.views.health import ready

blueprint = Blueprint("kserve_v1", __name__)


class Instance(msgspec.Struct):
    """A text in an object."""

    text: Text


class KServeParameters(msgspec.Struct):
    """Options of the call, as in our own contract."""

    top_k: TopK | None = None
    truncation: Truncation | None = None
    threshold: Threshold | None = None


class KServeRequest(msgspec.Struct):
    """Texts, each by itself or in an object. Fields that are not known are ignored."""

    instances: Annotated[list[Text | Instance], limited(texts_limit, minItems=1)]
    parameters: KServeParameters | None = None


class KServeReply(msgspec.Struct):
    """The answers, in order."""

    predictions: list[PredictionReply]


class KServeModel(msgspec.Struct):
    """The model's name, and whether it answers."""

    name: str
    ready: bool


def _read(body: KServeRequest, _: Settings) -> PredictCall:
    texts = [one if isinstance(one, str) else one.text for one in body.instances]
    places = [
        f"instances[{index}]{'' if isinstance(one, str) else '.text'}" for index, one in enumerate(body.instances)
    ]
    given = body.parameters or KServeParameters()
    options = CallOptions(given.top_k, given.truncation, given.threshold)
    return PredictCall(texts, places, options, many="instances", options_in="parameters.")


def _render(_: KServeRequest, predictions: Sequence[Prediction], __: State) -> KServeReply:
    return KServeReply([prediction_reply(prediction) for prediction in predictions])


CONTRACT = Contract(
    "KServe v1 and Vertex AI",
    KServeRequest,
    KServeReply,
    _read,
    _render,
    keys=("instances",),
    examples={
        "two instances": Example({"instances": ["I like you", {"text": "not for me"}]}),
        "no instances": Example({"instances": []}),
    },
)
_READERS = as_json(lambda _, __: CONTRACT)


@blueprint.post("/v1/models/<name>:predict")
@contract_metadata(CONTRACT, _READERS, errors=("NotFound",))
def predict(name: str) -> Response:
    """Answer each instance with an object as in our own contract."""
    current_state().check_name(name)
    return respond(_READERS)


@blueprint.get("/v1/models/<name>")
@ViewMetadata(
    CONTRACT.name,
    {JSON: KServeModel},
    errors=(*ALWAYS, "NotFound"),
    reply_to=lambda _, state: KServeModel(state.settings.name, ready=True),
)
def model(name: str) -> Response:
    """Answer whether the model is ready."""
    state = current_state()
    state.check_name(name)
    return json_response(KServeModel(name, state.unready_because() is None))


@contract_metadata(CONTRACT, ANY, several=True)
def vertex() -> Response:
    """Answer on the path that Vertex AI asks (AIP_PREDICT_ROUTE), by whichever contract the body is written in."""
    return respond(ANY)


def add_vertex_paths(app: Flask, settings: Settings) -> None:
    """Add the paths that Vertex AI asks. Added before all others, they go before what may lie on the same path."""
    for path, view, method in (
        (settings.aip_predict_route, vertex, "POST"),
        (settings.aip_health_route, ready, "GET"),
    ):
        if path:
            app.add_url_rule(path, f"vertex_{view.__name__}", view, methods=[method])
