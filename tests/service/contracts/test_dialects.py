"""Hugging Face, text-embeddings-inference, Open Inference Protocol: formats to the byte, on real gunicorn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from inferer import ModelInferer
from inferer.errors import RunError
from service.app import create_app
from service.settings import Settings
from tests.service.test_http import assert_error
from tests.support import tiny
from tests.support.apps import HeldApp, comes_to, until
from tests.support.server import Reply, Server, serving

LONG = "good " * 6 + "bad bad"  # the model reads 6 of the words
PAIR = 'is a pair, and the model reads one text; two texts are a batch of two lists: [["a"], ["b"]]'


def post(server: Server, path: str, body: object, **headers: str) -> Reply:
    """POST `body` as JSON."""
    return server.request("POST", path, json.dumps(body), **{"content_type": "application/json", **headers})


def compact(body: object) -> bytes:
    """Return `body` in the service's encoding."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def by_score(scores: dict[str, float]) -> list[tuple[str, float]]:
    """Return labels and scores, best first."""
    return sorted(scores.items(), key=lambda item: -item[1])


@pytest.fixture(scope="module")
def multi_server(multi_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the tiny multi-label bundle."""
    with serving(multi_bundle, tmp_path_factory.mktemp("multi") / "log") as running:
        yield running


# --- Hugging Face --------------------------------------------------------------------------------------


def labels_of(model: ModelInferer, text: str) -> list[dict[str, Any]]:
    """Return the labels of a text as the Hugging Face API lists them."""
    return [{"label": label, "score": score} for label, score in by_score(dict(model.predict(text).scores))]


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_hugging_face_nests_labels_best_first(server: Server, model: ModelInferer, path: str) -> None:
    """One text gets a list in a list, several get one list each, with the native API's bits."""
    reply = post(server, path, {"inputs": "odd good odd", "parameters": {}})
    assert (reply.status, reply.body) == (200, compact([labels_of(model, "odd good odd")]))
    reply = post(server, path, {"inputs": ["good", "bad odd bad"], "parameters": {}})
    assert reply.body == compact([labels_of(model, "good"), labels_of(model, "bad odd bad")])


def test_hugging_face_inputs_without_parameters_are_nested_at_the_root_alone(
    server: Server, model: ModelInferer
) -> None:
    """Without parameters the root returns a nested list, and /predict a flat one, as text-embeddings-inference does."""
    assert post(server, "/", {"inputs": "good"}).json() == [labels_of(model, "good")]
    assert post(server, "/predict", {"inputs": "good"}).json() == labels_of(model, "good")


def test_hugging_face_parameters(server: Server) -> None:
    """top_k limits the labels; function_to_apply selects logits, softmax or sigmoid; unknown fields are ignored."""
    body = {"inputs": "odd good odd", "parameters": {"top_k": 2, "function_to_apply": "none", "truncation": True}}
    reply = post(server, "/", body | {"options": {"wait_for_model": True}})
    assert reply.body == b'[[{"label":"other","score":4.0},{"label":"pos","score":2.0}]]'
    sigmoid = post(server, "/", {"inputs": "good", "parameters": {"function_to_apply": "sigmoid"}}).json()[0]
    assert [one["score"] for one in sigmoid] == pytest.approx([0.8807970779778823, 0.5, 0.5])
    softmax = post(server, "/", {"inputs": "good", "parameters": {"function_to_apply": "softmax"}}).body
    assert softmax == post(server, "/", {"inputs": "good", "parameters": {}}).body
    assert post(server, "/", {"inputs": "good", "parameters": None}).status == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"parameters": {}}, "the body: Object missing required field inputs"),
        ({"inputs": 7, "parameters": {}}, "field 'inputs': 7: Expected str | object | array"),
        (
            {"inputs": {"text": "a", "text_pair": "b"}, "parameters": {}},
            "the model reads one text, not a pair of texts",
        ),
        ({"inputs": "", "parameters": {}}, "field 'inputs': the text is empty"),
        ({"inputs": ["good", " "], "parameters": {}}, "field 'inputs[1]': the text is empty"),
        ({"inputs": [], "parameters": {}}, "field 'inputs': has 0 texts, allowed are 1 to 4"),
        ({"inputs": ["good"] * 5, "parameters": {}}, "field 'inputs': has 5 texts"),
        ({"inputs": "x" * 1001, "parameters": {}}, "field 'inputs': has 1001 characters"),
        ({"inputs": "good", "parameters": {"top_k": 0}}, "field 'parameters.top_k': 0: Expected int >= 1"),
        (
            {"inputs": "good", "parameters": {"function_to_apply": "relu"}},
            "field 'parameters.function_to_apply': 'relu' is not allowed; expected softmax, sigmoid, none",
        ),
    ],
)
def test_hugging_face_errors_name_the_field(server: Server, body: object, words: str) -> None:
    """A wrong field gets 422 with its name, at the root and on /predict alike."""
    for path in ("/", "/predict"):
        assert_error(post(server, path, body), 422, "Validation", words)


def test_multi_label_in_every_contract(multi_server: Server, multi: ModelInferer) -> None:
    """A multi-label model's scores are its own in every contract, and `selected` follows the thresholds."""
    prediction = multi.predict("good bad")
    expected = by_score(dict(prediction.scores))
    nested = post(multi_server, "/", {"inputs": "good bad", "parameters": {}}).json()
    assert nested == [[{"label": label, "score": score} for label, score in expected]]
    flat = post(multi_server, "/predict", {"inputs": "good bad"}).json()
    assert flat == [{"score": score, "label": label} for label, score in expected]
    body = infer_body(["good bad"], outputs=[{"name": "selected"}, {"name": "scores"}])
    outputs = post(multi_server, "/v2/models/multi/infer", body).json()["outputs"]
    assert outputs[0]["data"] == [label in prediction.labels for label in multi.labels] == [True, False, True]
    assert outputs[1]["data"] == list(prediction.scores.values())
    asked = {"instances": ["good bad"], "parameters": {"threshold": {"pos": 0.99}}}
    (answer,) = post(multi_server, "/v1/models/multi:predict", asked).json()["predictions"]
    assert answer == multi.predict("good bad", threshold={"pos": 0.99}).as_dict()


# --- text-embeddings-inference -------------------------------------------------------------------------


def test_text_embeddings_is_flat_for_one_and_a_list_for_a_batch(server: Server, model: ModelInferer) -> None:
    """A text, alone or in a list, gets a flat list; a batch gets one list per text; the score precedes the label."""
    flat = [{"score": score, "label": label} for label, score in by_score(dict(model.predict("odd odd").scores))]
    for inputs in ("odd odd", ["odd odd"]):
        reply = post(server, "/predict", {"inputs": inputs})
        assert (reply.status, reply.body) == (200, compact(flat))
    reply = post(server, "/predict", {"inputs": [["odd odd"]], "truncate": None, "unknown": 1})
    assert reply.body == compact([flat])


def test_text_embeddings_raw_scores_are_logits(server: Server) -> None:
    """With raw_scores the scores are the model's logits."""
    reply = post(server, "/predict", {"inputs": [["good bad bad"], ["odd"]], "raw_scores": True})
    assert reply.body == (
        b'[[{"score":4.0,"label":"neg"},{"score":2.0,"label":"pos"},{"score":0.0,"label":"other"}],'
        b'[{"score":2.0,"label":"other"},{"score":0.0,"label":"pos"},{"score":0.0,"label":"neg"}]]'
    )


@pytest.mark.parametrize(
    ("options", "logits"),
    [
        ({}, [12, 0]),
        ({"truncate": True}, [12, 0]),
        ({"truncate": True, "truncation_direction": "Left"}, [8, 4]),
        ({"truncate": True, "truncation_direction": "left"}, [8, 4]),
    ],
)
def test_text_embeddings_truncates_in_its_direction(server: Server, options: dict[str, Any], logits: list[int]) -> None:
    """Truncation keeps the first tokens, or with direction Left the last, and a header counts truncated texts."""
    reply = post(server, "/predict", {"inputs": LONG, "raw_scores": True, **options})
    scores = {one["label"]: one["score"] for one in reply.json()}
    assert [scores["pos"], scores["neg"]] == logits
    assert reply.headers["x-truncated-texts"] == "1"
    assert "x-truncated-texts" not in post(server, "/predict", {"inputs": "good"}).headers


@pytest.mark.parametrize(
    ("body", "status", "error_type", "words"),
    [
        ({"inputs": ["a", "b"]}, 422, "Validation", f"field 'inputs': {PAIR}"),
        ({"inputs": [["a"], ["b", "c"]]}, 422, "Validation", f"field 'inputs[1]': {PAIR}"),
        ({"inputs": ["a", "b", "c"]}, 422, "Validation", "has 3 elements, expected one text"),
        ({"inputs": [["a"], "b"]}, 422, "Validation", "field 'inputs[1]': a text among lists"),
        ({"inputs": ["a", ["b"]]}, 422, "Validation", "field 'inputs': has 2 elements"),
        ({"inputs": [["a"], []]}, 422, "Validation", "field 'inputs[1]': has 0 elements"),
        ({"inputs": [["good"]] * 5}, 422, "Validation", "field 'inputs': has 5 texts, allowed are 1 to 4"),
        ({"inputs": 7}, 422, "Validation", "field 'inputs': 7: Expected str | array"),
        ({"inputs": LONG, "truncate": False}, 422, "Validation", "field 'inputs': the text has 10 tokens, at most 8"),
        ({"inputs": "a", "truncate": "yes"}, 422, "Validation", "field 'truncate': 'yes'"),
        ({"inputs": "a", "truncation_direction": "Up"}, 422, "Validation", "'Up' is not allowed; expected Right, Left"),
        ({"inputs": ""}, 400, "Empty", "field 'inputs': the text is empty"),
        ({"inputs": [["good"], [" "]]}, 400, "Empty", "field 'inputs[1][0]': the text is empty"),
        ({"inputs": []}, 400, "Empty", "field 'inputs': is empty"),
    ],
)
def test_text_embeddings_errors_have_its_types(
    server: Server, body: object, status: int, error_type: str, words: str
) -> None:
    """Errors have the statuses and types of text-embeddings-inference; a pair is refused."""
    assert_error(post(server, "/predict", body), status, error_type, words)


def test_a_failed_run_has_each_contracts_type(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failed run gives 424 Backend to text-embeddings-inference's clients, 500 Internal to others, and a log line."""
    model = ModelInferer(tiny_bundle, intra_op_threads=1)
    client = create_app(Settings(bundle=tiny_bundle), model).test_client()

    def fails(_: object) -> None:
        raise RunError("out of memory")

    model.batcher._run = fails  # type: ignore[assignment]
    for body, status, error_type in (
        ({"inputs": "good"}, 424, "Backend"),
        ({"inputs": "good", "parameters": {}}, 500, "Internal"),
        ({"text": "good"}, 500, "Internal"),
    ):
        caplog.clear()
        reply = client.post("/predict", json=body)
        assert (reply.status_code, reply.json["error_type"]) == (status, error_type)
        assert "memory" not in reply.json["error"]
        assert "out of memory" in caplog.text
        assert reply.json["request_id"] in caplog.text


# --- Open Inference Protocol ---------------------------------------------------------------------------


def infer_body(texts: list[Any], shape: list[int] | None = None, **more: object) -> dict[str, Any]:
    """Return the body of an inference request."""
    given = {"name": "text", "shape": shape or [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [given], **more}


def test_open_inference_reply_to_the_byte(server: Server, model: ModelInferer) -> None:
    """The reply has label, score and row-major scores with the native API's bits, and the id."""
    first, second = model.predict("good"), model.predict("bad odd bad")
    reply = post(server, "/v2/models/tiny/infer", infer_body(["good", "bad odd bad"], id="42"))
    assert reply.status == 200
    assert reply.body == compact(
        {
            "model_name": "tiny",
            "model_version": "1",
            "id": "42",
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["pos", "neg"]},
                {"name": "score", "datatype": "FP32", "shape": [2], "data": [first.score, second.score]},
                {
                    "name": "scores",
                    "datatype": "FP32",
                    "shape": [2, 3],
                    "data": [*first.scores.values(), *second.scores.values()],
                },
            ],
        }
    )
    assert "id" not in post(server, "/v2/models/tiny/infer", infer_body(["good"])).json()


@pytest.mark.parametrize(
    ("data", "shape"),
    [(["good", "odd"], [2]), (["good", "odd"], [2, 1]), ([["good"], ["odd"]], [2, 1]), ([["good"], ["odd"]], [2])],
)
def test_open_inference_takes_flat_and_nested_data(server: Server, data: list[Any], shape: list[int]) -> None:
    """Shapes [n] and [n, 1] are accepted with flat or nested data, under any name, on the path of the version too."""
    body = infer_body(data, shape)
    body["inputs"][0] |= {"name": "anything", "parameters": {"content_type": "str", "other": 1}}
    for path in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"):
        outputs = post(server, path, body | {"parameters": {"binary_data_output": True}}).json()["outputs"]
        assert outputs[0]["data"] == ["pos", "other"]


def test_open_inference_takes_null_for_optional_fields(server: Server) -> None:
    """Optional fields may be null."""
    body = infer_body(["good"], id=None, outputs=None, parameters=None)
    body["inputs"][0]["parameters"] = None
    reply = post(server, "/v2/models/tiny/infer", body).json()
    assert len(reply["outputs"]) == 3
    assert "id" not in reply


def test_open_inference_outputs_filter(server: Server) -> None:
    """The reply has the requested outputs in their order, each once."""
    names = ("truncated", "label", "num_tokens", "selected", "label")
    body = infer_body([LONG, "bad"], outputs=[{"name": name, "parameters": {"binary_data": True}} for name in names])
    assert post(server, "/v2/models/tiny/infer", body).json()["outputs"] == [
        {"name": "truncated", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["pos", "neg"]},
        {"name": "num_tokens", "datatype": "INT64", "shape": [2], "data": [10, 3]},
        {"name": "selected", "datatype": "BOOL", "shape": [2, 3], "data": [True, False, False, False, True, False]},
    ]


def test_open_inference_without_a_content_type_is_json(server: Server) -> None:
    """A body without a Content-Type, or application/octet-stream, is read as JSON, for Triton's clients."""
    body = json.dumps(infer_body(["good"])).encode()
    assert server.request("POST", "/v2/models/tiny/infer", body).status == 200
    for kind in ("application/octet-stream", "application/json"):
        assert server.request("POST", "/v2/models/tiny/infer", body, content_type=kind).status == 200
    reply = server.request("POST", "/v2/models/tiny/infer", body, content_type="text/plain")
    assert_error(reply, 415, "UnsupportedMediaType", "expected application/json")


def test_open_inference_binary_tensors_are_refused(server: Server) -> None:
    """A request with binary tensors gets 415 and the remedy."""
    head = json.dumps(infer_body([])).encode()
    reply = server.request(
        "POST", "/v2/models/tiny/infer", head + b"\x04\0\0\0good", inference_header_content_length=str(len(head))
    )
    assert_error(reply, 415, "UnsupportedMediaType", "binary tensors", "binary_data=False")


FP32 = {"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": ["a"]}]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": []}, "field 'inputs': has 0 inputs, expected one"),
        ({"inputs": infer_body(["a"])["inputs"] * 2}, "field 'inputs': has 2 inputs"),
        (infer_body(["a", "b"], [3]), "field 'inputs[0].shape': [3] is not allowed; expected [2] or [2, 1]"),
        (infer_body(["a", "b"], [1, 2]), "field 'inputs[0].shape': [1, 2] is not allowed"),
        (infer_body(["a"], [1, 1, 1]), "field 'inputs[0].shape': [1, 1, 1]"),
        (infer_body(["a"], [-1]), "field 'inputs[0].shape[0]': -1"),
        (infer_body([1]), "field 'inputs[0].data[0]': 1: Expected str | array"),
        (infer_body(["good", ""]), "field 'inputs[0].data[1]': the text is empty"),
        (infer_body([["good"], [" "]]), "field 'inputs[0].data[1][0]': the text is empty"),
        (infer_body(["good"] * 5), "field 'inputs[0].data': has 5 texts, allowed are 1 to 4"),
        (FP32, "field 'inputs[0].datatype': 'FP32' is not allowed; expected BYTES"),
        ({"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES"}]}, "missing required field data"),
        (infer_body(["a"], outputs=[{"name": "logits"}]), "field 'outputs[0].name': 'logits' is not allowed; expected"),
        (infer_body(["a"], id=7), "field 'id': 7: Expected str"),
        (infer_body([["a", "b"]], [2]), "field 'inputs[0].data[0]': ['a', 'b']: Expected array of length <= 1"),
        (infer_body([[], ["a"]], [1]), "field 'inputs[0].data[0]': []: Expected array of length >= 1"),
        (infer_body(["a"], outputs=[{"name": "label", "parameters": {"classification": 2}}]), "classification"),
        ({}, "missing required field inputs"),
    ],
)  # fmt: skip
def test_open_inference_errors_name_the_field(server: Server, change: dict[str, Any], words: str) -> None:
    """A wrong field gets 422 with its name and the allowed values."""
    assert_error(post(server, "/v2/models/tiny/infer", change), 422, "Validation", words)


def test_open_inference_refuses_encoded_text(server: Server) -> None:
    """A content type other than str, such as base64, is refused: the model would classify the encoded bytes."""
    body = infer_body(["Z29vZA=="])
    body["inputs"][0]["parameters"] = {"content_type": "base64"}
    reply = post(server, "/v2/models/tiny/infer", body)
    assert_error(reply, 422, "Validation", "parameters.content_type': 'base64' is not allowed; expected str")


def test_open_inference_metadata_and_health(server: Server) -> None:
    """Metadata and health have the protocol's formats, with and without a version."""
    get = {
        path: server.request("GET", path).json()
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready")
    }
    assert list(get.values()) == [{"live": True}, {"ready": True}, {"name": "tiny", "ready": True}]
    about = server.request("GET", "/v2").json()
    assert (list(about), about["name"], about["extensions"]) == (["name", "version", "extensions"], "inferer", [])
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        metadata = server.request("GET", path).json()
        assert list(metadata) == ["name", "versions", "platform", "inputs", "outputs"]
        assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("tiny", ["1"], "onnx_onnxv1")
        assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert [(one["name"], one["datatype"], one["shape"]) for one in metadata["outputs"]] == [
            ("label", "BYTES", [-1]), ("score", "FP32", [-1]), ("scores", "FP32", [-1, 3]),
            ("selected", "BOOL", [-1, 3]), ("num_tokens", "INT64", [-1]), ("truncated", "BOOL", [-1]),
        ]  # fmt: skip
    assert server.request("GET", "/v2/models/tiny/versions/1/ready").json() == {"name": "tiny", "ready": True}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/other"), ("GET", "/v2/models/other/ready"), ("POST", "/v2/models/other/infer"),
        ("GET", "/v2/models/tiny/versions/2"), ("GET", "/v2/models/tiny/versions/2/ready"),
        ("POST", "/v2/models/tiny/versions/2/infer"), ("GET", "/v1/models/other"), ("POST", "/v1/models/other:predict"),
    ],
)  # fmt: skip
def test_an_unknown_model_is_404(server: Server, method: str, path: str) -> None:
    """An unknown model or version gets 404 with the known one."""
    reply = server.request(method, path, b"{}", content_type="application/json")
    assert_error(reply, 404, "NotFound", "'tiny'" if "other" in path else "there is '1'")


def test_the_models_name_is_the_folders_or_the_set_one(tiny_bundle: Path, tmp_path: Path) -> None:
    """INFERER_MODEL_NAME is the name in the paths of /v2 and /v1."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_MODEL_NAME="news-2.1") as server:
        assert post(server, "/v2/models/news-2.1/infer", infer_body(["good"])).json()["model_name"] == "news-2.1"
        assert server.request("GET", "/v1/models/news-2.1").json() == {"name": "news-2.1", "ready": True}
        assert server.request("GET", "/v2/models/tiny").status == 404
        assert server.request("GET", "/info").json()["model_id"] == "news-2.1"


def test_a_logit_that_is_not_finite(tmp_path: Path) -> None:
    """A label with the logit -inf has score 0; raw scores fail, because JSON has no infinity."""
    table = tiny.TABLE.copy()
    table[:, 2] = -np.inf
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=tiny.model(table=table))
    client = create_app(Settings(bundle=folder, golden_check="off")).test_client()
    assert client.post("/predict", json={"inputs": "good"}).json[2] == {"score": 0.0, "label": "other"}
    parameters = {"top_k": 1, "function_to_apply": "softmax"}
    (best,) = client.post("/", json={"inputs": "good", "parameters": parameters}).json[0]
    assert best["label"] == "pos"
    reply = client.post("/predict", json={"inputs": "good", "raw_scores": True})
    assert (reply.status_code, reply.json["error_type"]) == (424, "Backend")


def test_abstentions_are_counted_in_a_header(tmp_path: Path) -> None:
    """A header counts the texts without a label for contracts without such a field."""
    folder = tiny.write_bundle(tmp_path / "b", abstain_threshold=0.6)
    with serving(folder, tmp_path / "log") as server:
        reply = post(server, "/", {"inputs": ["good bad", "good", "bad odd"], "parameters": {}})
        assert reply.headers["x-abstained-texts"] == "2"
        assert "x-abstained-texts" not in post(server, "/", {"inputs": "good", "parameters": {}}).headers


def test_every_contract_gets_429_at_capacity(tiny_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """At capacity each contract gets 429, counted by route, and health paths still work."""
    name = 'mod "é'
    settings = {"INFERER_MAX_IN_FLIGHT": "1"}
    folder = tmp_path / name
    shutil.copytree(tiny_bundle, folder)
    v2, v1 = f"/v2/models/{quote(name)}/infer", f"/v1/models/{quote(name)}:predict"
    rules = {"/": "/", v2: "/v2/models/<name>/infer", v1: "/v1/models/<name>:predict", "/invocations": "/invocations"}
    with serving(folder, tmp_path / "log", held.name, **settings) as server, ThreadPoolExecutor(1) as pool:
        with held.held():
            running = pool.submit(post, server, v2, infer_body(["good"]))
            until(lambda: held.runs == [1])
            for path, rule in rules.items():
                reply = post(server, path, {})
                assert_error(reply, 429, "Overloaded", "1 requests are in flight")
                assert reply.headers["retry-after"] == "1"
                comes_to(server, 1, "inferer_requests_total", route=rule, status="429")
            for path in ("/ping", "/health", "/v2/health/live", "/v2/health/ready", f"/v2/models/{quote(name)}/ready"):
                assert server.request("GET", path).status == 200
        assert running.result().json()["model_name"] == name
        comes_to(server, 1, "inferer_requests_total", route="/v2/models/<name>/infer", status="200")
