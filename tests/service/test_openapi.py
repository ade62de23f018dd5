"""GET /openapi.json: valid OpenAPI 3.1, of every route, status and header; its examples are what the service does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from flask import Blueprint, Response
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from inferer import ModelInferer
from inferer.errors import RunError
from service import app as factory
from service import create_app
from service.contracts.base import Contract, Example, PredictCall, as_json, respond
from service.errors import STATUS
from service.openapi.view_metadata import contract_metadata
from service.settings import Settings
from tests.support import tiny
from tests.support.server import Reply, Server, serving

Operation = tuple[str, str, dict[str, Any]]
# gunicorn's own, and what HTTP itself says of a body.
NOT_DESCRIBED = {"server", "date", "connection", "content-type", "content-length"}


def described(server: Server, **headers: str) -> dict[str, Any]:
    """Return the description of a running service."""
    reply = server.request("GET", "/openapi.json", **headers)
    assert reply.status == 200
    return dict(reply.json())


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    """Return path, method and operation of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def path_of(path: str, operation: dict[str, Any]) -> str:
    """Return the path with the first value that each of its parameters may have."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["enum"][0])
    return path


def sendable(kind: str, value: Any) -> str:
    """Return an example's body as it is sent."""
    return json.dumps(value) if kind == "application/json" else str(value)


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, Any, int, Any]]:
    """Return each example: path, method, name, content type and value of the request; status and reply."""
    for path, method, operation in operations(document):
        replies = {
            name: (int(status), example["value"])
            for status, response in operation["responses"].items()
            for content in response.get("content", {}).values()
            for name, example in content.get("examples", {}).items()
        }
        sent = {
            name: (kind, example["value"])
            for kind, content in operation.get("requestBody", {}).get("content", {}).items()
            for name, example in content.get("examples", {}).items()
        }
        for name, (status, reply) in replies.items():
            kind, value = sent.get(name, ("", None))
            yield path_of(path, operation), method, name, kind, value, status, reply
        assert set(sent) == set(replies) - {"this one's"}, path


def matches(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Fail unless `value` is what a schema of the document says."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The description of the server's service."""
    return described(server)


def test_it_is_valid(document: dict[str, Any], multi_bundle: Path) -> None:
    """The description is valid OpenAPI 3.1, with keys and other origins and several labels a text too."""
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    settings = Settings(bundle=multi_bundle, api_keys=("key",), cors_origins=("*",), aip_predict_route="/here")
    reply = create_app(settings).test_client().get("/openapi.json", headers={"X-API-Key": "key"})
    OpenAPIV31SpecValidator(reply.json).validate()
    assert "/here" in reply.json["paths"]


def test_every_route_is_in_it(document: dict[str, Any], tiny_bundle: Path) -> None:
    """Every route of the application is described, with each of its methods, and no other."""
    app = create_app(Settings(bundle=tiny_bundle))
    routes = {
        (re.sub("<([a-z]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.rule.startswith("/page/")  # the page's own files
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(routes)
    for path, _, operation in operations(document):
        assert operation["summary"].endswith("."), path


def test_every_example_is_what_the_service_answers(server: Server, document: dict[str, Any]) -> None:
    """Every example's request, sent as it stands, gets the example's status and reply, to the last digit."""
    seen = set()
    for path, method, name, kind, value, status, expected in examples(document):
        headers = {"content_type": kind} if kind else {}
        reply = server.request(method.upper(), path, sendable(kind, value) if kind else None, **headers)
        assert reply.status == status, (path, name, reply.body)
        found = reply.json()
        if status != 200:
            found["request_id"] = expected["request_id"]
        assert found == expected, (path, name)
        seen.add((path, method, status))
    assert {("/predict", "post", 200), ("/predict", "post", 422), ("/invocations", "post", 200), ("/info", "get", 200),
        ("/v2/models/tiny/infer", "post", 200), ("/predict", "post", 400), ("/explain", "post", 200),
        ("/", "post", 200),
    } <= seen  # fmt: skip


def test_examples_are_of_their_schemas(document: dict[str, Any]) -> None:
    """Every example of a good request and every reply is valid by its schema; requests that are refused need not be."""
    for path, _, operation in operations(document):
        good = set()
        for status, response in operation["responses"].items():
            for content in response["content"].values():
                for name, example in content.get("examples", {}).items():
                    matches(document, content["schema"], example["value"])
                    good |= {name} if status == "200" else set()
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for name, example in content["examples"].items():
                if name in good:
                    matches(document, content["schema"], example["value"])
        assert good or operation["tags"] == ["Operations"], path


def test_every_header_of_a_reply_is_in_it(server: Server, document: dict[str, Any]) -> None:
    """Good replies and errors have the headers that their description names, and those that are required."""
    for path, method, name, kind, value, status, _ in examples(document):
        headers = {"content_type": kind} if kind else {}
        reply = server.request(method.upper(), path, sendable(kind, value) if kind else None, **headers)
        (operation,) = (o for p, m, o in operations(document) if path_of(p, o) == path and m == method)
        assert_headers(document, operation, reply, f"{path} {name} {status}")


def assert_headers(document: dict[str, Any], operation: dict[str, Any], reply: Reply, where: str) -> None:
    """Fail unless the headers of `reply` are those that are described for its status."""
    names = operation["responses"][str(reply.status)]["headers"]
    found = set(reply.headers) - NOT_DESCRIBED
    assert found <= {name.lower() for name in names}, where
    headers = document["components"]["headers"]
    assert {name.lower() for name in names if headers[name]["required"]} <= found, where


def test_errors_that_are_described_are_those_that_come(server: Server, document: dict[str, Any]) -> None:
    """Each kind of error of /predict comes with a status, type and headers that are described for it."""
    operation = document["paths"]["/predict"]["post"]
    for body, headers in (
        (b"{", {"content_type": "application/json"}),
        (b"{}", {"content_type": "text/xml"}),
        (b"{}", {"content_type": "application/json"}),
        (b"x" * 30_000, {"content_type": "application/json"}),
        (b'{"inputs": ""}', {"content_type": "application/json"}),
        (b"{}", {"content_type": "application/json", "host": ".."}),
    ):
        reply = server.request("POST", "/predict", body, **headers)
        response = operation["responses"][str(reply.status)]
        matches(document, response["content"]["application/json"]["schema"], reply.json())
        assert_headers(document, operation, reply, str(reply.status))
        assert reply.json()["error_type"] in response["description"]
    listed = {
        error_type
        for _, _, one in operations(document)
        for response in one["responses"].values()
        for error_type in re.findall(r"(?:^|; )([A-Z]\w+):", response["description"])
    }
    assert listed == set(STATUS) - {"Unauthorized", "MethodNotAllowed"}, "a type of the table is nowhere described"
    assert "MethodNotAllowed" in document["info"]["description"]


def test_limits_are_the_deployments(document: dict[str, Any]) -> None:
    """Schemas have this deployment's limits and this model's labels, and no field that the model does not take."""
    schemas = document["components"]["schemas"]
    properties = schemas["PredictRequest"]["properties"]
    assert (properties["text"]["maxLength"], properties["texts"]["maxItems"]) == (1000, 4)
    assert properties["texts"]["items"]["maxLength"] == 1000
    assert "threshold" not in properties
    assert schemas["ExplainRequest"]["properties"]["label"]["enum"] == ["pos", "neg", "other"]
    assert properties["truncation"]["enum"] == ["head", "tail", "head_tail", "windows", "error"]
    assert "x-inferer" not in json.dumps(document)


def test_thresholds_are_for_several_labels_a_text(multi_bundle: Path) -> None:
    """A multi-label model's description takes a threshold, and a threshold of each label."""
    app = create_app(Settings(bundle=multi_bundle))
    found = app.test_client().get("/openapi.json").json
    threshold = found["components"]["schemas"]["PredictRequest"]["properties"]["threshold"]
    matches(found, threshold, 0.5)
    matches(found, threshold, {"pos": 1})
    for wrong in (1.5, {"nobody": 0.5}, {"pos": -1}):
        assert not Draft202012Validator(threshold).is_valid(wrong)


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"text": "a"}, True), ({"text": "a", "texts": ["a"]}, False), ({}, False), ({"text": " "}, False),
        ({"text": "a", "topk": 1}, False), ({"inputs": "a"}, True), ({"inputs": ["a", "b"]}, False),
        ({"inputs": [["a"], ["b"]]}, True), ({"inputs": ["a", "b"], "parameters": {}}, True),
        ({"instances": ["a"]}, True), ({"instances": []}, False), ({"text": "a", "inputs": "a"}, False),
    ],
)  # fmt: skip
def test_the_schema_says_what_the_service_does(
    server: Server, document: dict[str, Any], body: dict[str, Any], valid: bool
) -> None:
    """What is valid by the schema of /predict, of all its contracts, is answered; what is not is refused."""
    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert validator.is_valid(body) is valid
    assert (server.predict(body).status == 200) is valid


def test_keys_are_in_it(tiny_bundle: Path, tmp_path: Path) -> None:
    """With keys each path says whether it needs one, as it does; without a key there is no description."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="key") as server:
        assert server.request("GET", "/openapi.json").status == 401
        found = described(server, x_api_key="key")
        assert set(found["components"]["securitySchemes"]) == {"bearer", "key"}
        keyless = set()
        for path, method, operation in operations(found):
            reply = server.request(method.upper(), path_of(path, operation))
            needs = operation.get("security", found["security"]) != []
            assert (reply.status == 401) is needs, path
            if needs:
                assert_headers(found, operation, reply, path)
            else:
                keyless.add(f"{method} {path}")
        assert keyless == {
            "get /", "get /docs", "get /health", "get /health/live", "get /health/ready",
            "get /ping", "get /v2/health/live", "get /v2/health/ready",
        }  # fmt: skip


# What an example shows decides its status.
STATUS_OF = {
    "an unknown field": 422, "a wrong parameter": 422, "a pair": 422, "a wrong shape": 422, "no instances": 422,
    "an empty text": 400,
}  # fmt: skip


def test_examples_show_what_they_are_for(document: dict[str, Any]) -> None:
    """With the usual limits the examples of errors are errors, and all others are answers."""
    for path, _, name, _, _, status, _ in examples(document):
        assert status == STATUS_OF.get(name.split(": ")[-1], 200), (path, name)


@pytest.mark.parametrize("route", ["/Predict", "/predict-", "/v1/models/name/predict", "/", "/explain"])
def test_vertex_paths_are_described_beside_the_others(tiny_bundle: Path, route: str) -> None:
    """Whatever path Vertex AI says, the description is valid, and shows every contract there once."""
    client = create_app(Settings(bundle=tiny_bundle, aip_predict_route=route, aip_health_route="/docs")).test_client()
    document = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    bodies = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]["examples"]
    values = [json.dumps(example["value"]) for example in bodies.values()]
    assert len(values) == len(set(values))
    assert {"two instances", "Our own: one text", "Hugging Face: one text"} <= set(bodies)


def test_a_failed_run_is_no_example(tiny_bundle: Path) -> None:
    """While the model fails there is no description, and later there is; a failure is never kept as an example."""
    model = ModelInferer(tiny_bundle, intra_op_threads=1)
    client = create_app(Settings(bundle=tiny_bundle), model).test_client()
    run, calls = model.batcher._run, []

    def fails_once(encodings: Any) -> Any:
        calls.append(1)
        if len(calls) == 9:
            raise RunError("out of memory")
        return run(encodings)

    model.batcher._run = fails_once
    assert client.get("/openapi.json").status_code in (424, 500)
    assert "out of memory" not in client.get("/openapi.json").text
    assert client.get("/openapi.json").status_code == 200


def test_examples_are_not_counted(tiny_bundle: Path) -> None:
    """Making the description counts no predictions, though its replies are the model's."""
    client = create_app(Settings(bundle=tiny_bundle)).test_client()
    document = client.get("/openapi.json").json
    assert "I like you" in json.dumps(document)
    assert 'inferer_predictions_total{label="pos"} 0.0' in client.get("/metrics").text


class Word(msgspec.Struct):
    """A body of a contract that is nobody's."""

    word: str


def test_a_new_contract_is_one_module_and_its_registration(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with a blueprint, named in the factory, is served, described, checked and listed."""
    contract = Contract(
        "Nobody's",
        Word,
        dict[str, str],
        lambda body, _: PredictCall([body.word], ["word"]),
        lambda _, predictions, __: {"is": predictions[0].label},
        keys=("word",),
        examples={"a word": Example({"word": "bad"}), "none": Example({})},
    )
    blueprint = Blueprint("nobodys", __name__)
    readers = as_json(lambda _, __: contract)

    @blueprint.post("/word")
    @contract_metadata(contract, readers)
    def word() -> Response:
        """Answer a word."""
        return respond(readers)

    monkeypatch.setattr(factory, "_ROUTES", (*factory._ROUTES, SimpleNamespace(blueprint=blueprint)))
    monkeypatch.setattr(factory, "_SHARING", (*factory._SHARING, contract))
    client = create_app(Settings(bundle=tiny_bundle), ModelInferer(tiny_bundle)).test_client()
    assert client.post("/word", json={"word": "bad"}).json == {"is": "neg"}
    assert client.post("/predict", json={"word": "bad"}).json == {"is": "neg"}
    assert client.post("/word", json={"word": " "}).json["error"] == "field 'word': the text is empty"
    document = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    replies = document["paths"]["/word"]["post"]["responses"]
    assert replies["200"]["content"]["application/json"]["examples"]["a word"]["value"] == {"is": "neg"}
    assert replies["422"]["content"]["application/json"]["examples"]["none"]["value"]["error_type"] == "Validation"
    assert "/word" in client.get("/nowhere").json["error"]


@pytest.mark.parametrize(
    "limits",
    [{"max_texts": 1}, {"max_text_chars": 1}, {"max_text_chars": 3, "api_keys": ("k",), "cors_origins": ("*",)}],
)
def test_it_is_made_whatever_the_limits(tmp_path: Path, limits: dict[str, Any]) -> None:
    """With any limits, and a model that refuses long texts, there is a description; its examples are then of errors."""
    bundle = tiny.write_bundle(tmp_path / 'a "b" <c> é', truncation="error", max_length=4)
    client = create_app(Settings(bundle=bundle, golden_check="off", **limits)).test_client()
    key = {"X-API-Key": "k"}
    document = client.get("/openapi.json", headers=key).json
    OpenAPIV31SpecValidator(document).validate()
    refused = document["paths"]["/predict"]["post"]["responses"]["422"]["content"]["application/json"]["examples"]
    assert "several texts" in refused
    for path, method, name, kind, value, status, expected in examples(document):
        reply = client.open(path, method=method, data=sendable(kind, value), headers={**key, "Content-Type": kind})
        found = reply.json
        if status != 200:
            found["request_id"] = expected["request_id"]
        assert (reply.status_code, found) == (status, expected), (path, name)
