"""The wire format of POST /predict, health and info, and every row of the error table, on real gunicorn."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from tests.support import tiny
from tests.support.apps import comes_to, until
from tests.support.server import Reply, Server, serving

JSON = "application/json"


def assert_error(reply: Reply, status: int, error_type: str, *words: str) -> None:
    """Fail unless `reply` is the error body with this status, type and `words`."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == JSON
    body = reply.json()
    assert set(body) == {"error", "error_type", "request_id"}
    assert body["error_type"] == error_type
    assert body["request_id"] == reply.headers["x-request-id"]
    for word in words:
        assert word in body["error"], body["error"]


# --- replies -------------------------------------------------------------------------------------------


def test_one_text_gets_one_object_equal_to_pythons(server: Server, model: ModelInferer) -> None:
    """The reply to a text equals ModelInferer's prediction, in every bit and key."""
    reply = server.predict({"text": "good odd"})
    assert reply.status == 200
    assert reply.json() == model.predict("good odd").as_dict()
    assert list(reply.json()) == ["label", "score", "labels", "scores", "num_tokens", "truncated"]


def test_several_texts_get_a_list_in_order(server: Server, model: ModelInferer) -> None:
    """The predictions for several texts equal those for each text alone, in order."""
    texts = ["bad", "good", "odd odd"]
    assert server.predict({"texts": texts}).json() == {"predictions": [model.predict(t).as_dict() for t in texts]}
    assert len(server.predict({"texts": ["good"]}).json()["predictions"]) == 1


def test_top_k_bounds_the_scores(server: Server) -> None:
    """top_k limits the scores to the best ones."""
    assert list(server.predict({"text": "odd", "top_k": 1}).json()["scores"]) == ["other"]
    assert len(server.predict({"text": "odd", "top_k": 50}).json()["scores"]) == 3


def test_truncation_is_reported_and_may_be_chosen(server: Server) -> None:
    """Truncation "head" is accepted, and the reply to a long text has truncated true."""
    reply = server.predict({"text": "good " * 9, "truncation": "head"}).json()
    assert (reply["num_tokens"], reply["truncated"]) == (11, True)


def test_multi_label_thresholds_over_http(multi_bundle: Path, multi: ModelInferer, tmp_path: Path) -> None:
    """Multi-label replies equal Python's predictions, thresholds apply, and wrong thresholds are refused by name."""
    with serving(multi_bundle, tmp_path / "log") as server:
        plain = server.predict({"text": "good bad"}).json()
        assert plain == multi.predict("good bad").as_dict()
        assert server.predict({"text": "good bad", "threshold": 0.88}).json()["labels"] == ["pos", "neg"]
        assert server.predict({"text": "good", "threshold": {"pos": 0.99}}).json()["labels"] == ["other"]
        assert server.predict({"text": "plain", "threshold": 0.9}).json()["labels"] == []
        for threshold in (1.5, -0.1, {"nobody": 0.5}):
            body = {"text": "good", "threshold": threshold}
            assert_error(server.predict(body), 422, "Validation", "field 'threshold", "is not allowed; expected")


def test_scores_are_not_rounded(server: Server, model: ModelInferer) -> None:
    """A score keeps all its digits on the wire."""
    assert server.predict({"text": "good"}).json()["score"] == model.predict("good").score


def test_server_timing_names_the_stages(server: Server) -> None:
    """Server-Timing has the time of each stage: queue, tokenize, infer."""
    value = server.predict({"text": "good"}).headers["server-timing"]
    assert re.fullmatch(r"queue;dur=\d+\.\d+, tokenize;dur=\d+\.\d+, infer;dur=\d+\.\d+", value)


def test_a_safe_request_id_is_echoed_and_another_is_replaced(server: Server) -> None:
    """A caller's request id is echoed; an id that could spoil the log is replaced by a new one."""
    assert server.predict({"text": "good"}, x_request_id="abc-1/2").headers["x-request-id"] == "abc-1/2"
    made = server.predict({"text": "good"}, x_request_id='a"b c').headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made != server.predict({"text": "good"}).headers["x-request-id"]


def test_charset_in_the_content_type_is_accepted(server: Server) -> None:
    """A body of type application/json; charset=utf-8 is accepted."""
    reply = server.request("POST", "/predict", '{"text": "good"}', content_type="application/json; charset=utf-8")
    assert reply.status == 200


def test_health_answers(server: Server) -> None:
    """Each health route of a healthy server returns its status, live or ready."""
    assert server.request("GET", "/health/live").json() == {"status": "live"}
    assert server.request("GET", "/health/ready").json() == {"status": "ready"}
    assert server.request("GET", "/health").json() == {"status": "ready"}


def test_info_tells_model_limits_and_versions(server: Server) -> None:
    """/info has the facts of the model, the limits of the deployment and the versions."""
    info = server.request("GET", "/info").json()
    assert info["model"] == "tiny"
    assert info["labels"] == ["pos", "neg", "other"]
    assert (info["problem_type"], info["max_length"], info["truncation"]) == ("single_label_classification", 8, "head")
    assert info["quantization"]["running"] == "int8-tensor"
    assert info["guard"] is None
    assert info["quantization"]["exact_because"] is None or "VNNI" in info["quantization"]["exact_because"]
    assert info["quantization"]["native_operators"] is False  # a tiny model calls none
    assert info["golden_check"] == {
        "outcome": "passed", "texts": 4, "differing": 0, "other_label": 0, "largest_difference": 0.0,
    }  # fmt: skip
    assert info["limits"] == {"max_texts": 4, "max_text_chars": 1000, "max_tokens_per_request": 500000,
        "max_body_bytes": 20000, "max_in_flight": 64, "deadline_ms": 10000,
    }  # fmt: skip
    why = "int8-tensor takes one scale for a whole batch"
    assert info["batching"] == {"shared": False, "alone_because": why, "max_batch_tokens": 512}
    assert info["versions"]["onnxruntime"]


def test_abstaining_and_windows_over_http(tmp_path: Path) -> None:
    """A bundle with abstention and windows has both fields in its replies and in /info, and abstentions are counted."""
    changes = {"abstain_threshold": 0.6, "truncation": "windows", "temperature": 1.5}
    folder = tiny.write_bundle(tmp_path / "b", **changes)
    model = ModelInferer(folder)
    with serving(folder, tmp_path / "log") as server:
        for text in ("good bad", "good", "bad " * 9):
            assert server.predict({"text": text}).json() == model.predict(text).as_dict()
        unsure = server.predict({"text": "good bad"}).json()
        assert (unsure["labels"], unsure["abstained"], unsure["windows"]) == ([], True, 1)
        info = server.request("GET", "/info").json()
        assert (info["truncation"], info["windows"]) == ("windows", {"overlap": 2, "pooling": "mean"})
        assert info["abstain_threshold"] == 0.6
        assert info["calibration"] == {"temperature": 1.5, "platt": None, "report": None}
        comes_to(server, 2, "inferer_abstained_total")


# --- the error table -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    ["{", "", '{"text": "good"', "{'text': 'good'}", '{"text": NaN}', b'{"text": "\xff"}', '{"text": "\\ud800"}',
     "[" * 3000, '{"text": "good"} {}', '{"text": ' * 900],
)  # fmt: skip
def test_400_malformed_json(server: Server, body: str | bytes) -> None:
    """A body that is not JSON in UTF-8 gets 400 InvalidJson."""
    assert_error(server.request("POST", "/predict", body, content_type=JSON), 400, "InvalidJson")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], ("the body", "Expected object, got array")),
        ("good", ("the body", "Expected object, got str")),
        ({}, ("exactly one", "'text'", "'texts'", "not neither")),
        ({"text": "good", "texts": ["good"]}, ("exactly one", "not both")),
        ({"text": "good", "topk": 2}, ("field 'topk': 2: unknown field", "allowed are text, text_pair, texts, top_k")),
        ({"text": "good", "inputs": "good"}, ("field 'inputs': 'good': unknown field",)),
        ({"text": 7}, ("field 'text': 7", "Expected str, got int")),
        ({"text": None}, ("field 'text': None", "Expected str, got null")),
        ({"texts": "good"}, ("field 'texts': 'good'", "Expected array, got str")),
        ({"texts": ["good", 7]}, ("field 'texts[1]': 7", "Expected str")),
        ({"texts": []}, ("field 'texts'", "0 texts", "1 to 4")),
        ({"texts": ["good"] * 5}, ("field 'texts'", "5 texts", "1 to 4")),
        ({"text": ""}, ("field 'text'", "empty")),
        ({"text": " \n"}, ("field 'text'", "empty")),
        ({"texts": ["good", "\t"]}, ("field 'texts[1]'", "empty")),
        ({"text": "x" * 1001}, ("field 'text'", "1001 characters", "1000")),
        ({"texts": ["good", "x" * 1001]}, ("field 'texts[1]'", "1001 characters")),
        ({"text": "good " * 9, "truncation": "error"}, ("field 'text'", "11 tokens", "at most 8")),
        ({"texts": ["good", "good " * 9], "truncation": "error"}, ("field 'texts[1]'", "11 tokens")),
        (
            {"text": "good", "truncation": "middle"},
            ("field 'truncation': 'middle'", "head, tail, head_tail, windows, error"),
        ),
        ({"text": "good", "truncation": 1}, ("field 'truncation': 1", "Expected str")),
        ({"text": "good", "top_k": 0}, ("field 'top_k': 0", ">= 1")),
        ({"text": "good", "top_k": "2"}, ("field 'top_k': '2'", "Expected int")),
        ({"text": "good", "top_k": True}, ("field 'top_k': True", "Expected int")),
        ({"text": "good", "threshold": 0.5}, ("field 'threshold': 0.5", "multi-label")),
        ({"text": "good", "threshold": {"pos": "x"}}, ("field 'threshold", "{'pos': 'x'}", "Expected float")),
    ],
)
def test_422_names_field_value_and_allowed_values(server: Server, body: Any, words: tuple[str, ...]) -> None:
    """A wrong field gets 422 with its name, its value and the allowed values."""
    assert_error(server.predict(body), 422, "Validation", *words)


def test_an_error_does_not_repeat_a_long_value(server: Server) -> None:
    """An error body stays short however long the wrong value or field name is."""
    reply = server.predict({"text": "good", "truncation": "x" * 3000})
    assert_error(reply, 422, "Validation", "field 'truncation'")
    assert len(reply.body) < 400
    assert len(server.predict({"x" * 3000: 1}).body) < 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_415_another_content_type(server: Server, content_type: str) -> None:
    """A body of another content type gets 415, and the error names the type."""
    reply = server.request("POST", "/predict", '{"text": "good"}', content_type=content_type)
    assert_error(reply, 415, "UnsupportedMediaType", content_type, "expected application/json")


def test_415_without_a_content_type(server: Server) -> None:
    """A body without a content type gets 415."""
    assert_error(server.request("POST", "/predict", b'{"text": "good"}'), 415, "UnsupportedMediaType", "missing")


def test_413_a_body_over_the_limit(server: Server) -> None:
    """A body over the limit, by a little or by far, gets 413 with the limit."""
    reply = server.predict({"text": "x" * 25_000})
    assert_error(reply, 413, "PayloadTooLarge", "25012 bytes", "at most 20000")
    assert_error(server.predict({"text": "x" * 3_000_000}), 413, "PayloadTooLarge", "at most 20000")


def test_413_a_chunked_body_over_the_limit(server: Server) -> None:
    """A chunked body over the limit gets 413."""
    chunk = b"x" * 1000
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for _ in range(25):
            connection.sendall(b"3e8\r\n" + chunk + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 413")
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error_type"] == "PayloadTooLarge"


@pytest.mark.parametrize("field", ["text", "texts", "threshold", "top_k"])
def test_422_or_400_for_a_deeply_nested_value(server: Server, field: str) -> None:
    """A deeply nested value is a client error, never an internal error."""
    for depth in (10, *range(950, 1001), 2000):
        body = f'{{"{field}":' + '{"a":' * depth + "1" + "}" * depth + "}"
        reply = server.request("POST", "/predict", body, content_type=JSON)
        assert reply.status in (400, 422), depth
        assert reply.json()["error_type"] in ("InvalidJson", "Validation")


@pytest.mark.parametrize(
    "target",
    ["//metrics", "///info", "/%2fmetrics", "/%6Detrics", "/info#x", "/info#?", "/v2%2Fhealth/live", "http://x//info",
     "/v1/models/t%69ny", "/./metrics", "/x/../metrics", "/%2e/metrics", "/metrics/", "/METRICS", "/metrics;x",
     "/v2//health/live"],
)  # fmt: skip
def test_404_a_route_has_one_spelling(server: Server, target: str) -> None:
    """A path that a proxy's rule on the route's path would not match is not the route."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 404")
    body = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert (body["error_type"], body["error"][:8]) == ("NotFound", "no route")


@pytest.mark.parametrize("target", ["/info?a=%2f%41#x", "http://x/info", "/v1/models/tiny?x=//"])
def test_queries_and_absolute_addresses_are_no_aliases(server: Server, target: str) -> None:
    """The query may be encoded, and a proxy's absolute address names the same route."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n", b"0xe\r\n", b"\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n"])
def test_400_a_body_in_malformed_chunks(server: Server, chunks: bytes) -> None:
    """A body in malformed chunks gets 400, not an internal error."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n" + chunks)
        connection.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 400")
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error_type"] == "InvalidJson"


def test_a_header_cannot_move_the_application(server: Server) -> None:
    """A SCRIPT_NAME header from a client changes nothing."""
    for value in ("/x", "/predict"):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.putrequest("POST", "/predict")
        for name, header in (("SCRIPT_NAME", value), ("Content-Type", JSON), ("Content-Length", "16")):
            connection.putheader(name, header)
        connection.endheaders(b'{"text": "good"}')
        assert connection.getresponse().status == 200
        connection.close()


def test_a_path_cannot_forge_a_line_of_the_log(server: Server) -> None:
    """A line break or an escape in a path is logged encoded, on one line."""
    server.request("GET", "/%0aPOST%20/predict%20200%20id=forged%1b[31m")
    # The line is written after the reply.
    until(lambda: "GET /%0APOST%20/predict%20200%20id%3Dforged%1B%5B31m 404" in server.log.read_text())
    log = server.log.read_text()
    assert "\nPOST /predict 200 id=forged" not in log
    assert "\x1b" not in log


def test_a_doubled_slash_is_an_unknown_path(server: Server) -> None:
    """A path with a doubled slash gets a 404 in JSON, not a redirect in HTML."""
    assert_error(server.request("GET", "/health//live"), 404, "NotFound")


def test_an_error_does_not_repeat_a_long_key(multi_bundle: Path, tmp_path: Path) -> None:
    """An error does not repeat a long label of a threshold."""
    with serving(multi_bundle, tmp_path / "log") as server:
        reply = server.predict({"text": "good", "threshold": {"x" * 100_000: 2}})
        assert_error(reply, 422, "Validation", "field 'threshold")
        assert len(reply.body) < 500


def test_404_lists_the_routes(server: Server) -> None:
    """An unknown path gets 404 with the list of routes."""
    assert_error(server.request("GET", "/predictions"), 404, "NotFound", "no route '/predictions'", "/predict")


def test_405_names_what_is_allowed(server: Server) -> None:
    """A wrong method gets 405 with Allow."""
    reply = server.request("GET", "/predict")
    assert_error(reply, 405, "MethodNotAllowed", "does not take GET", "POST")
    assert "POST" in reply.headers["allow"]
    assert_error(server.request("POST", "/health/live"), 405, "MethodNotAllowed")


def test_401_without_a_right_key(tiny_bundle: Path, tmp_path: Path) -> None:
    """A wrong or missing key gets 401, a right one passes, health needs none, and no key is logged."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="first,second") as server:
        for headers in ({}, {"x_api_key": "third"}, {"authorization": "Bearer "}, {"authorization": "Basic first"}):
            reply = server.predict({"text": "good"}, **headers)
            assert_error(reply, 401, "Unauthorized", "Authorization: Bearer")
            assert reply.headers["www-authenticate"] == "Bearer"
        assert_error(server.request("POST", "/predict?key=first&api_key=first"), 401, "Unauthorized")
        assert_error(server.request("GET", "/info"), 401, "Unauthorized")
        assert_error(server.request("GET", "/nowhere"), 401, "Unauthorized")
        for headers in ({"x_api_key": "first"}, {"authorization": "Bearer second"}, {"authorization": "bearer first"}):
            assert server.predict({"text": "good"}, **headers).status == 200
        assert server.request("GET", "/health/live").status == 200
        assert server.request("GET", "/health").status == 200
        assert not {"first", "second"} & set(server.log.read_text().replace("=", " ").split())
