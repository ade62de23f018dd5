"""GET /openapi.json: valid OpenAPI 3.1 with every route, status and header, and working examples."""

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
from service import app as factory
from service.app import create_app
from service.contracts.base import Contract, PredictCall
from service.errors import STATUS
from service.inference import handle
from service.openapi.view_metadata import contract_metadata
from service.settings import Settings
from service.views import predict
from tests.support import tiny
from tests.support.server import Reply, Server, serving

Operation = tuple[str, str, dict[str, Any]]
# Headers of gunicorn and of every HTTP body.
GUARDRAIL = "/beta/litellm_basic_guardrail_api"
WRONG = {
    "an unknown field", "a wrong parameter", "a pair", "a wrong shape", "no instances", "an empty text",
    "no texts", "another model", "a threshold above 1", "no results", "an object without a text",
    "other numbers of texts", "no label",
}  # fmt: skip
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


def sendable(content_type: str, value: Any) -> str:
    """Return an example's body as a client sends it."""
    return json.dumps(value) if content_type == "application/json" else str(value)


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Any, dict[str, Any]]]:
    """Return path, title, content type, value and schema of each example of a body."""
    for path, _, operation in operations(document):
        for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
            for title, example in content["examples"].items():
                yield path_of(path, operation), title, content_type, example["value"], content["schema"]


def is_wrong(title: str) -> bool:
    """Return whether an example shows an error."""
    return title.split(": ")[-1] in WRONG


def matches(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Fail unless `value` is valid by a schema of the document."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The description of the server's service."""
    return described(server)


def test_it_is_valid(document: dict[str, Any], multi_bundle: Path) -> None:
    """The document is valid OpenAPI 3.1, also with keys, CORS and a multi-label model."""
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    settings = Settings(bundle=multi_bundle, api_keys=("key",), cors_origins=("*",), aip_predict_route="/here")
    reply = create_app(settings).test_client().get("/openapi.json", headers={"X-API-Key": "key"})
    OpenAPIV31SpecValidator(reply.json).validate()
    assert "/here" in reply.json["paths"]


def test_every_route_is_in_it(document: dict[str, Any], tiny_bundle: Path) -> None:
    """The document has exactly the routes and methods of the application."""
    app = create_app(Settings(bundle=tiny_bundle))
    routes = {
        (re.sub("<([a-z]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.rule.startswith("/page/")  # the page's own files
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    routes -= {(path, "post") for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/score")}  # for other models
    assert {(path, method) for path, method, _ in operations(document)} == routes
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(routes)
    for path, _, operation in operations(document):
        assert operation["summary"].endswith("."), path


def test_examples_are_good_until_the_wrong_ones(server: Server, document: dict[str, Any]) -> None:
    """Each path starts with three or more good examples, valid and successful; wrong ones follow."""
    good: dict[str, list[bool]] = {}
    for path, title, content_type, value, schema in examples(document):
        reply = server.request("POST", path, sendable(content_type, value), content_type=content_type)
        is_good = not is_wrong(title)
        if path == GUARDRAIL:  # this deployment blocks no label
            assert reply.status == 404
        else:
            assert (reply.status == 200) is is_good, (path, title, reply.body)
        if is_good:
            matches(document, schema, value)
        if content_type == "application/json":
            good.setdefault(path, []).append(is_good)
    assert set(good) == {
        "/predict", "/", "/explain", "/invocations", "/v1/models/tiny:predict", "/v2/models/tiny/infer",
        "/v2/models/tiny/versions/1/infer", "/classify", "/api/v1/text/contents", GUARDRAIL,
    }  # fmt: skip
    for path, found in good.items():
        assert found == sorted(found, reverse=True), path
        assert sum(found) >= 3, path


PAIR_PATHS = {
    "/predict", "/", "/explain", "/invocations", "/v1/models/pairs:predict", "/v2/models/pairs/infer",
    "/v2/models/pairs/versions/1/infer",
}  # fmt: skip


@pytest.mark.parametrize(
    ("bundle", "more"),
    [("inference_bundle", set()), ("rank_bundle", {"/rerank", "/v1/rerank", "/v2/rerank", "/score"})],
)
def test_a_model_of_pairs_has_examples_of_pairs(bundle: str, more: set[str], request: pytest.FixtureRequest) -> None:
    """The document of a model of pairs is valid, and has the paths and examples that suit the model, as described."""
    settings = Settings(bundle=request.getfixturevalue(bundle), model_name="pairs")
    app = create_app(settings, ModelInferer(settings.bundle, intra_op_threads=1))
    client = app.test_client()
    found = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(found).validate()
    good: dict[str, list[bool]] = {}
    for path, title, content_type, value, schema in examples(found):
        reply = client.post(path, data=sendable(content_type, value), content_type=content_type)
        is_good = not (is_wrong(title) or title.split(": ")[-1] in {"one text", "one input"})
        assert (reply.status_code == 200) is is_good, (path, title, reply.data)
        if is_good:
            matches(found, schema, value)
            described = found["paths"][_template(found, path)]["post"]["responses"]["200"]["content"]
            matches(found, described["application/json"]["schema"], reply.json)
        good.setdefault(path, []).append(is_good)
    assert set(good) == PAIR_PATHS | more
    for path, kinds in good.items():
        assert sum(kinds) >= 3 or path == "/invocations", path
    assert "text_pair" in found["components"]["schemas"]["PredictRequest"]["properties"]


def _template(document: dict[str, Any], path: str) -> str:
    """Return the path of the document that stands for `path`."""
    return next(one for one, _, operation in operations(document) if path_of(one, operation) == path)


def test_replies_and_headers_are_those_of_the_description(server: Server, document: dict[str, Any]) -> None:
    """Every operation's reply has the described status, headers and schema."""
    for path, method, operation in operations(document):
        requests = [
            (kind, example["value"])
            for kind, content in operation.get("requestBody", {}).get("content", {}).items()
            for example in content["examples"].values()
        ]
        for kind, value in requests or [("", None)]:
            headers = {"content_type": kind} if kind else {}
            body = sendable(kind, value) if kind else None
            reply = server.request(method.upper(), path_of(path, operation), body, **headers)
            described = operation["responses"][str(reply.status)]
            assert_headers(document, operation, reply, path)
            content = described.get("content", {}).get("application/json")
            if content and reply.headers["content-type"] == "application/json":
                matches(document, content["schema"], reply.json())


def test_the_native_api_comes_first(document: dict[str, Any]) -> None:
    """The document lists /predict and /explain, then health, info and metrics, then other clients' paths."""
    paths = list(document["paths"])
    assert paths[:2] == ["/predict", "/explain"]
    assert max(map(paths.index, ("/health", "/info", "/metrics"))) < paths.index("/v2") < len(paths)


def assert_headers(document: dict[str, Any], operation: dict[str, Any], reply: Reply, where: str) -> None:
    """Fail unless the headers of `reply` are those that are described for its status."""
    names = operation["responses"][str(reply.status)]["headers"]
    found = set(reply.headers) - NOT_DESCRIBED
    assert found <= {name.lower() for name in names}, where
    headers = document["components"]["headers"]
    assert {name.lower() for name in names if headers[name]["required"]} <= found, where


def test_errors_have_their_described_form(server: Server, document: dict[str, Any]) -> None:
    """Each kind of error of /predict has a described status, type and headers."""
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
    assert listed == set(STATUS) - {"Unauthorized", "MethodNotAllowed"}, "a type of the table is not described"
    assert "MethodNotAllowed" in document["info"]["description"]


def test_limits_of_the_deployment(document: dict[str, Any]) -> None:
    """Schemas have this deployment's limits and this model's labels, without fields that the model does not take."""
    schemas = document["components"]["schemas"]
    properties = schemas["PredictRequest"]["properties"]
    assert (properties["text"]["maxLength"], properties["texts"]["maxItems"]) == (1000, 4)
    assert [one["maxLength"] for one in properties["texts"]["items"]["anyOf"]] == [1000]
    assert "text_pair" not in properties
    assert "threshold" not in properties
    assert schemas["ExplainRequest"]["properties"]["label"]["enum"] == ["pos", "neg", "other"]
    assert properties["truncation"]["enum"] == ["head", "tail", "head_tail", "windows", "error"]
    assert "x-inferer" not in json.dumps(document)


def test_thresholds_are_for_multi_label_models(multi_bundle: Path) -> None:
    """The schema for a multi-label model takes one threshold, or one per label."""
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
def test_schema_and_service_agree(server: Server, document: dict[str, Any], body: dict[str, Any], valid: bool) -> None:
    """The service accepts exactly the bodies that are valid by the schema of /predict, of any contract."""
    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert validator.is_valid(body) is valid
    assert (server.predict(body).status == 200) is valid


def test_keys_are_in_it(tiny_bundle: Path, tmp_path: Path) -> None:
    """With keys set, the document shows for each path whether it needs one; the document itself needs one."""
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


@pytest.mark.parametrize("route", ["/Predict", "/predict-", "/v1/models/name/predict", "/", "/explain"])
def test_vertex_paths_are_described_beside_the_others(tiny_bundle: Path, route: str) -> None:
    """With any path of Vertex AI the document is valid and shows every contract on it."""
    client = create_app(Settings(bundle=tiny_bundle, aip_predict_route=route, aip_health_route="/docs")).test_client()
    document = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    bodies = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {"Native API: one text", "KServe v1 and Vertex AI: two instances", "Hugging Face: one text"} <= set(bodies)


class Word(msgspec.Struct):
    """A body of a new contract."""

    word: str


def test_a_new_contract_is_one_module_and_its_registration(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contract in the registry, with a view in the factory, is served, described, checked and listed."""
    contract = Contract(
        "New",
        Word,
        dict[str, str],
        lambda body: PredictCall([body.word], ["word"]),
        lambda _, predictions, __: {"is": predictions[0].label},
        keys=("word",),
        examples={"a word": {"word": "bad"}},
        wrong_examples={"nothing": {}},
    )
    blueprint = Blueprint("new", __name__)

    @blueprint.post("/word")
    @contract_metadata((contract,))
    def word() -> Response:
        """Classify a word."""
        return handle((contract,))

    monkeypatch.setattr(factory, "_VIEWS", (*factory._VIEWS, SimpleNamespace(blueprint=blueprint)))
    monkeypatch.setattr(predict, "SHARED", (*predict.SHARED, contract))
    client = create_app(Settings(bundle=tiny_bundle), ModelInferer(tiny_bundle)).test_client()
    assert client.post("/word", json={"word": "bad"}).json == {"is": "neg"}
    assert client.post("/predict", json={"word": "bad"}).json == {"is": "neg"}
    assert client.post("/word", json={"word": " "}).json["error"] == "field 'word': the text is empty"
    document = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    bodies = document["paths"]["/word"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert list(bodies) == ["a word", "nothing"]
    assert "/word" in client.get("/nowhere").json["error"]


@pytest.mark.parametrize(
    "limits",
    [{"max_texts": 1}, {"max_text_chars": 1}, {"max_text_chars": 3, "api_keys": ("k",), "cors_origins": ("*",)}],
)
def test_it_is_valid_whatever_the_limits(tmp_path: Path, limits: dict[str, Any]) -> None:
    """The document is valid with any limits, and with a name that needs escapes."""
    bundle = tiny.write_bundle(tmp_path / 'a "b" <c> é', truncation="error", max_length=4)
    client = create_app(Settings(bundle=bundle, golden_check="off", **limits)).test_client()
    OpenAPIV31SpecValidator(client.get("/openapi.json", headers={"X-API-Key": "k"}).json).validate()
