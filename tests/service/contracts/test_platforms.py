"""KServe v1, Vertex AI and Amazon SageMaker: paths, bodies, variables and start, on real gunicorn."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from tests.service.contracts.test_dialects import compact, post
from tests.service.test_http import assert_error
from tests.support.apps import until
from tests.support.server import ROOT, Server, environment, free_port, serving

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", ["/v1/models/tiny:predict", "/predict"])
def test_kserve_predictions_have_the_native_format(server: Server, model: ModelInferer, path: str) -> None:
    """Instances, strings or objects, get the native API's predictions in order."""
    reply = post(server, path, {"instances": ["good", {"text": "bad odd bad", "id": 7}], "signature_name": "x"})
    assert reply.status == 200
    assert reply.body == compact({"predictions": [model.predict(t).as_dict() for t in ("good", "bad odd bad")]})


def test_kserve_parameters_are_native_options(server: Server, model: ModelInferer) -> None:
    """Options are read from `parameters`, as Vertex AI passes them on."""
    asked = {"instances": ["good " * 9], "parameters": {"top_k": 1, "truncation": "windows"}}
    (answer,) = post(server, "/v1/models/tiny:predict", asked).json()["predictions"]
    assert answer == model.predict("good " * 9, top_k=1, truncation="windows").as_dict()


def test_kserve_model_status(server: Server) -> None:
    """GET of the model returns its name and readiness."""
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
    """A wrong field gets 422 with its name."""
    assert_error(post(server, "/v1/models/tiny:predict", body), 422, "Validation", words)


def test_vertex_paths(tiny_bundle: Path, tmp_path: Path, model: ModelInferer) -> None:
    """AIP_PREDICT_ROUTE takes any contract; AIP_HEALTH_ROUTE needs no key."""
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
        until(lambda: requests_logged(server).count(route) == 4)
        assert "/v1/healthy" not in requests_logged(server)


def test_vertex_paths_take_precedence(tiny_bundle: Path, tmp_path: Path) -> None:
    """Vertex AI's paths replace existing routes of the same method; other methods stay."""
    settings = {"AIP_PREDICT_ROUTE": "/", "AIP_HEALTH_ROUTE": "/predict"}
    with serving(tiny_bundle, tmp_path / "log", **settings) as server:
        assert post(server, "/", {"instances": ["good"]}).json()["predictions"][0]["label"] == "pos"
        assert server.request("GET", "/predict").json() == {"status": "ready"}
        assert server.predict({"text": "good"}).json()["label"] == "pos"
        assert "predict" in server.request("GET", "/").json()
        until(lambda: "/predict" in requests_logged(server))


def requests_logged(server: Server) -> list[str]:
    """Return the routes of the requests in the log."""
    return [line["route"] for line in server.logged() if line.get("logger") == "inferer.request"]


@pytest.mark.parametrize(
    ("content_type", "body", "texts"),
    [
        ("application/json", '{"texts": ["good", "bad"]}', ["good", "bad"]),
        ("text/csv", 'good\r\n"bad, ""odd"" bad"\n', ["good", 'bad, "odd" bad']),
        ("text/csv; charset=utf-8", "\ufeffgood\n", ["good"]),
        ("text/csv", '"good\nbad"\nodd', ["good\nbad", "odd"]),
    ],
)
def test_sagemaker_takes_json_and_csv(
    server: Server, model: ModelInferer, content_type: str, body: str, texts: list[str]
) -> None:
    """/invocations treats JSON as /predict does, and returns one prediction per CSV row, in order."""
    reply = server.request("POST", "/invocations", body.encode(), content_type=content_type)
    assert reply.json() == {"predictions": [model.predict(text).as_dict() for text in texts]}


def test_sagemaker_takes_plain_text_and_every_contracts_json(server: Server, model: ModelInferer) -> None:
    """Plain text is one text, line breaks included; JSON may be of any contract."""
    reply = server.request("POST", "/invocations", "good\nodd odd", content_type="text/plain; charset=UTF-8")
    assert reply.json() == model.predict("good\nodd odd").as_dict()
    assert post(server, "/invocations", {"text": "good"}).json() == model.predict("good").as_dict()
    assert post(server, "/invocations", {"inputs": "good", "parameters": {}}).json()[0][0]["label"] == "pos"
    assert server.request("GET", "/ping").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("content_type", "body", "status", "error_type", "words"),
    [
        ("text/csv", b"good,bad\n", 422, "Validation", "row 1: has 2 columns, expected one"),
        ("text/csv", b"good\n\nbad", 422, "Validation", "row 2: has 0 columns"),
        ("text/csv", b'good\n"bad', 422, "Validation", "row 2: malformed CSV"),
        ("text/csv", b"good\n \n", 422, "Validation", "field 'row 2': the text is empty"),
        ("text/csv", b"", 422, "Validation", "has 0 texts, allowed are 1 to 4"),
        ("text/csv", b"a\nb\nc\nd\ne\n", 422, "Validation", "has 5 texts"),
        ("text/csv", b"\xff", 400, "InvalidJson", "the body is not UTF-8"),
        ("text/plain", b"good \xe9", 400, "InvalidJson", "the body is not UTF-8"),
        ("text/plain", b"", 422, "Validation", "field 'the body': the text is empty"),
        ("text/plain; charset=latin-1", b"good", 415, "UnsupportedMediaType", "charset 'latin-1'"),
        ("text/csv; header=present", b"text\ngood", 415, "UnsupportedMediaType", "a CSV header row is not supported"),
        ("application/jsonlines", b"{}", 415, "UnsupportedMediaType", "application/json or text/plain or text/csv"),
    ],
)
def test_sagemaker_errors_name_the_row(
    server: Server, content_type: str, body: bytes, status: int, error_type: str, words: str
) -> None:
    """An error names the row, or the supported formats."""
    assert_error(server.request("POST", "/invocations", body, content_type=content_type), status, error_type, words)


def test_a_compressed_body_is_refused_by_name(server: Server) -> None:
    """A body with a Content-Encoding gets 415, not an error about its JSON."""
    reply = post(server, "/predict", {"text": "good"}, content_encoding="gzip")
    assert_error(reply, 415, "UnsupportedMediaType", "Content-Encoding 'gzip'")
    for coding in ("identity", ""):
        assert post(server, "/predict", {"text": "good"}, content_encoding=coding).status == 200


def test_csv_takes_long_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    """Only the setting limits the length of a CSV row."""
    text = "good " * 40_000
    with serving(tiny_bundle, tmp_path / "log", INFERER_MAX_TEXT_CHARS="1000000") as server:
        reply = server.request("POST", "/invocations", text, content_type="text/csv")
        assert reply.json()["predictions"][0]["num_tokens"] == 40_002


def test_json_bodies_of_two_contracts_are_told_apart(server: Server) -> None:
    """A body with keys of two contracts belongs to the native API first, then KServe, then Hugging Face."""
    assert_error(post(server, "/predict", {"text": "good", "inputs": "bad"}), 422, "Validation", "unknown field")
    both = {"instances": ["good"], "inputs": "bad", "parameters": {}}
    assert "predictions" in post(server, "/predict", both).json()
    assert json.loads(post(server, "/predict", {"inputs": "bad", "parameters": {}}).body)[0][0]["label"] == "neg"


def test_sagemaker_starts_the_image_with_serve(tiny_bundle: Path, tmp_path: Path) -> None:
    """`serve` starts the service with the model in SM_MODEL_DIR, on SageMaker's port."""
    port, path = free_port(), f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = environment(
        SM_MODEL_DIR=str(tiny_bundle),
        SAGEMAKER_BIND_TO_PORT=str(port),
        PATH=path,
    )
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([ROOT / "deploy" / "sagemaker" / "serve"], cwd=ROOT, env=env, stdout=out, stderr=out)
    server = Server(process, port, tmp_path / "log")
    try:
        until(lambda: is_ready(server))
        assert server.request("POST", "/invocations", "good", content_type="text/plain").json()["label"] == "pos"
    finally:
        assert server.stop() == 0


def is_ready(server: Server) -> bool:
    """Return whether /ping succeeds."""
    with suppress(OSError):
        return server.request("GET", "/ping").status == 200
    return False
