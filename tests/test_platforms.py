"""KServe v1, Vertex AI and Amazon SageMaker: their paths, bodies, variables and start, on real gunicorn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from tests.server import Server, serving
from tests.test_dialects import compact, post
from tests.test_http import assert_error


@pytest.mark.parametrize("path", ["/v1/models/tiny:predict", "/predict"])
def test_kserve_instances_are_answered_as_our_own(server: Server, model: ModelInferer, path: str) -> None:
    """Instances, texts or objects with one, get our own answers in order."""
    reply = post(server, path, {"instances": ["good", {"text": "bad odd bad", "id": 7}], "signature_name": "x"})
    assert reply.status == 200
    assert reply.body == compact({"predictions": [model.predict(t).as_dict() for t in ("good", "bad odd bad")]})


def test_kserve_parameters_are_our_options(server: Server, model: ModelInferer) -> None:
    """Options stand under parameters, as Vertex AI hands them on."""
    asked = {"instances": ["good " * 9], "parameters": {"top_k": 1, "truncation": "windows"}}
    (answer,) = post(server, "/v1/models/tiny:predict", asked).json()["predictions"]
    assert answer == model.predict("good " * 9, top_k=1, truncation="windows").as_dict()


def test_kserve_tells_whether_the_model_is_ready(server: Server) -> None:
    """GET of the model answers with its name and whether it is ready."""
    assert server.request("GET", "/v1/models/tiny").body == b'{"name":"tiny","ready":true}'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": []}, "field 'instances': has 0 texts, allowed are 1 to 4"),
        ({"instances": "good"}, "field 'instances': 'good': Expected array"),
        ({"instances": ["good", 7]}, "field 'instances[1]': 7: Expected str | object"),
        ({"instances": [{"content": "good"}]}, "field 'instances[0]': {'content': 'good'}: Object missing required"),
        ({"instances": ["good", {"text": " "}]}, "field 'instances[1].text': the text is empty"),
        ({"instances": ["good", ""]}, "field 'instances[1]': the text is empty"),
        ({"instances": ["good"], "parameters": {"truncation": "x"}}, "field 'parameters.truncation': 'x' is not"),
        ({"instances": ["good"], "parameters": {"threshold": 0.5}}, "field 'parameters.threshold': 0.5", ),
        ({}, "missing required field instances"),
    ],
)  # fmt: skip
def test_kserve_errors_name_the_field(server: Server, body: Any, words: str) -> None:
    """What is wrong is answered 422 with the field."""
    assert_error(post(server, "/v1/models/tiny:predict", body), 422, "Validation", words)


def test_vertex_says_path_and_port(tiny_bundle: Path, tmp_path: Path, model: ModelInferer) -> None:
    """AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE are answered, any contract on the first; health needs no key."""
    route = "/v1/endpoints/12/deployedModels/34:predict"
    settings = {"AIP_PREDICT_ROUTE": route, "AIP_HEALTH_ROUTE": "/v1/healthy", "INFERER_API_KEYS": "key"}
    with serving(tiny_bundle, tmp_path / "log", **settings) as server:
        assert server.request("GET", "/v1/healthy").json() == {"status": "ready"}
        answer = model.predict("good").as_dict()
        reply = post(server, route, {"instances": ["good"], "parameters": {"top_k": 3}}, x_api_key="key")
        assert reply.json()["predictions"][0]["label"] == "pos"
        assert post(server, route, {"text": "good"}, x_api_key="key").json() == answer
        assert post(server, route, {"inputs": "good", "parameters": {}}, x_api_key="key").json()[0][0]["label"] == "pos"
        assert_error(post(server, route, {"instances": ["good"]}), 401, "Unauthorized")
        lines = [line for line in server.logged() if line.get("logger") == "inferer.request"]
        assert "/v1/healthy" not in {line["route"] for line in lines}


def test_vertex_paths_go_before_others(tiny_bundle: Path, tmp_path: Path) -> None:
    """On a path that is a route already Vertex AI's question is answered; other methods stay."""
    settings = {"AIP_PREDICT_ROUTE": "/", "AIP_HEALTH_ROUTE": "/predict"}
    with serving(tiny_bundle, tmp_path / "log", **settings) as server:
        assert post(server, "/", {"instances": ["good"]}).json()["predictions"][0]["label"] == "pos"
        assert server.request("GET", "/predict").json() == {"status": "ready"}
        assert server.predict({"text": "good"}).json()["label"] == "pos"
        assert "predict" in server.request("GET", "/").json()


def test_a_compressed_body_is_refused_by_name(server: Server) -> None:
    """A body with a Content-Encoding is answered 415, not taken for broken JSON."""
    reply = post(server, "/predict", {"text": "good"}, content_encoding="gzip")
    assert_error(reply, 415, "UnsupportedMediaType", "Content-Encoding 'gzip'")
    assert post(server, "/predict", {"text": "good"}, content_encoding="identity").status == 200


def test_json_bodies_of_two_contracts_are_told_apart(server: Server) -> None:
    """Where keys of two contracts stand in a body, ours counts first, then KServe's, then Hugging Face's."""
    assert_error(post(server, "/predict", {"text": "good", "inputs": "bad"}), 422, "Validation", "unknown field")
    both = {"instances": ["good"], "inputs": "bad", "parameters": {}}
    assert "predictions" in post(server, "/predict", both).json()
    assert json.loads(post(server, "/predict", {"inputs": "bad", "parameters": {}}).body)[0][0]["label"] == "neg"
