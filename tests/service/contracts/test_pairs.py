"""Pairs of texts in every contract, rankings and zero-shot classification, against a live service."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from tests.service.test_http import assert_error
from tests.support import tiny
from tests.support.server import Reply, Server, serving

QUERY, DOCUMENTS = "good", ["bad", "good good", "odd", "plain"]  # worth -2, 4, 1 and 0 beside the query's 1
MANY = ["a"] * 10_000
NOT_RERANKER = b'"error":"model is not a re-ranker model","error_type":"Backend"'


@pytest.fixture(scope="module")
def ranker(rank_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that ranks, called `ranker`."""
    log = tmp_path_factory.mktemp("ranker") / "log"
    with serving(
        rank_bundle, log, INFERER_MAX_TEXTS="8", INFERER_MODEL_NAME="ranker", INFERER_LOG_TEXTS="1"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def inference(inference_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service of natural language inference."""
    log = tmp_path_factory.mktemp("inference") / "log"
    with serving(inference_bundle, log, INFERER_MAX_TEXTS="8", INFERER_MODEL_NAME="nli") as running:
        yield running


def post(server: Server, path: str, body: object, **headers: str) -> Reply:
    """Send `body` as JSON."""
    return server.request("POST", path, json.dumps(body), content_type="application/json", **headers)


def sigmoid(value: float) -> float:
    """Return the logistic function."""
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        ("/predict", {"text": "good", "text_pair": "odd"}, lambda reply: reply["scores"]),
        ("/predict", {"texts": [["good", "odd"]]}, lambda reply: reply["predictions"][0]["scores"]),
        (
            "/predict",
            {"texts": [{"text": "good", "text_pair": "odd"}]},
            lambda reply: reply["predictions"][0]["scores"],
        ),
        ("/predict", {"instances": [["good", "odd"]]}, lambda reply: reply["predictions"][0]["scores"]),
        (
            "/v1/models/nli:predict",
            {"instances": [{"text": "good", "text_pair": "odd"}]},
            lambda reply: reply["predictions"][0]["scores"],
        ),
        ("/predict", {"inputs": ["good", "odd"]}, lambda reply: {one["label"]: one["score"] for one in reply}),
        ("/predict", {"inputs": [["good", "odd"]]}, lambda reply: {one["label"]: one["score"] for one in reply[0]}),
        (
            "/",
            {"inputs": {"text": "good", "text_pair": "odd"}},
            lambda reply: {one["label"]: one["score"] for one in reply[0]},
        ),
        ("/", {"inputs": [["good", "odd"]]}, lambda reply: {one["label"]: one["score"] for one in reply[0]}),
        (
            "/v2/models/nli/infer",
            {
                "inputs": [
                    {"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}
                    for name, text in (("premise", "good"), ("hypothesis", "odd"))
                ]
            },
            lambda reply: dict(zip(tiny.INFERENCE, reply["outputs"][2]["data"], strict=True)),
        ),
    ],
)  # fmt: skip
def test_a_pair_has_one_answer_in_every_contract(
    inference: Server, inference_bundle: Path, path: str, body: object, read: Any
) -> None:
    """A pair gets the same bits by every contract, and from Python."""
    expected = ModelInferer(inference_bundle, intra_op_threads=1).predict("good", "odd").scores
    reply = post(inference, path, body)
    assert reply.status == 200, reply.body
    assert read(reply.json()) == expected


def test_sagemaker_csv_has_two_columns(inference: Server) -> None:
    """A CSV for a model of pairs has two columns; one column is refused by row."""
    reply = inference.request("POST", "/invocations", 'good,"odd, odd"\nbad,good\n', content_type="text/csv")
    assert [one["label"] for one in reply.json()["predictions"]] == ["neutral", "entailment"]
    one = inference.request("POST", "/invocations", "good\n", content_type="text/csv")
    assert_error(one, 422, "Validation", "row 1: has 1 columns, expected two, the texts of a pair")


def test_a_prediction_tells_the_tokens_of_both_texts(inference: Server) -> None:
    """The reply counts the tokens of each text, and tells which of them was cut; so does its header."""
    reply = post(inference, "/predict", {"text": "good", "text_pair": "odd " * 9})
    assert reply.json()["sides"] == {
        "text": {"num_tokens": 1, "truncated": False},
        "text_pair": {"num_tokens": 9, "truncated": True},
    }
    assert (reply.json()["num_tokens"], reply.json()["truncated"]) == (13, True)
    assert reply.headers["x-truncated-texts"] == "1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "good"}, "field 'text': the model reads pairs of texts, and the second text is missing"),
        ({"texts": ["good"]}, "field 'texts[0]': the model reads pairs of texts"),
        ({"texts": [["good", "odd"], "good"]}, "field 'texts[1]': the model reads pairs of texts"),
        ({"text": "good", "text_pair": " "}, "field 'text_pair': the second text is empty"),
        ({"text": "", "text_pair": "good"}, "field 'text': the first text is empty"),
        ({"texts": [["good", ""]]}, "field 'texts[0][1]': the second text is empty"),
        ({"texts": [["good"]]}, "field 'texts[0]': ['good']: Expected array of length >= 2"),
        ({"texts": [["a", "b", "c"]]}, "Expected array of length <= 2"),
        ({"texts": [["good", "odd"]], "text_pair": "odd"}, "exactly one of"),
        ({"text_pair": "odd"}, "exactly one of the fields 'text' and 'texts', not neither"),
        (
            {"text": "good", "text_pair": "odd", "truncation": "head"},
            "field 'truncation': 'head' is not allowed; expected one of longest_first, only_first, only_second, tail,",
        ),
        (
            {"text": "good " * 5, "text_pair": "odd", "truncation": "only_second"},
            "field 'text_pair': the first text has 5 tokens, which leaves 0 of 5 for the other",
        ),
        ({"inputs": ["good"]}, "field 'inputs[0]': the model reads pairs of texts"),
        ({"inputs": [["good", "odd", "bad"]]}, "field 'inputs[0]': has 3 elements, expected one text or two"),
    ],
)  # fmt: skip
def test_a_wrong_pair_is_refused_by_field(inference: Server, body: dict[str, Any], words: str) -> None:
    """One text, an empty one, a list of another length, and a text without room are 422 with the field's name."""
    if body.get("texts") and "text_pair" in body:
        words = "field 'text_pair': goes with 'text'"
    assert_error(post(inference, "/predict", body), 422, "Validation", words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "good", "text_pair": "odd"}, "field 'text_pair': the model reads one text, not a pair"),
        ({"texts": [["good", "odd"]]}, "field 'texts[0][1]': the model reads one text, not a pair"),
        ({"text": "good", "truncation": "only_first"}, "expected one of head, tail, head_tail, windows, error"),
    ],
)
def test_a_pair_for_a_model_of_one_text_is_refused(server: Server, body: object, words: str) -> None:
    """A pair for a model that reads one text is a 422 with the field's name."""
    assert_error(post(server, "/predict", body), 422, "Validation", words)


def test_rerank_as_text_embeddings_inference(ranker: Server) -> None:
    """Ranks have index and score, best first; logits and texts on request."""
    body = {"query": QUERY, "texts": DOCUMENTS}
    plain = post(ranker, "/rerank", body).json()
    assert [one["index"] for one in plain] == [1, 2, 3, 0]
    assert [one["score"] for one in plain] == pytest.approx([sigmoid(x) for x in (5, 2, 1, -1)], abs=1e-7)
    assert all(set(one) == {"index", "score"} for one in plain)
    raw = post(ranker, "/rerank", {**body, "raw_scores": True, "return_text": True, "truncate": True})
    assert raw.body.startswith(b'[{"index":1,"score":5.0,"text":"good good"},{"index":2,"score":2.0,"text":"odd"}')


def test_a_score_is_the_same_in_any_ranking(ranker: Server, rank_bundle: Path) -> None:
    """The score of a pair has the same bits alone, in any ranking, by any contract, and from Python."""
    model = ModelInferer(rank_bundle, intra_op_threads=1)
    alone = {text: model.predict(QUERY, text).score for text in DOCUMENTS}
    for texts in (DOCUMENTS, DOCUMENTS[::-1], DOCUMENTS[1:2], DOCUMENTS * 2):
        ranks = post(ranker, "/rerank", {"query": QUERY, "texts": texts}).json()
        assert {texts[one["index"]]: one["score"] for one in ranks} == {text: alone[text] for text in texts}
        cohere = post(ranker, "/rerank", {"query": QUERY, "documents": texts}).json()["results"]
        assert {texts[one["index"]]: one["relevance_score"] for one in cohere} == {text: alone[text] for text in texts}
        data = post(ranker, "/score", {"text_1": QUERY, "text_2": texts}).json()["data"]
        assert [one["score"] for one in data] == [alone[text] for text in texts]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_as_cohere_jina_and_vllm(ranker: Server, path: str) -> None:
    """Results are best first, at most top_n, with documents on request; documents may be objects."""
    body = {"model": "ranker", "query": QUERY, "documents": [{"text": text} for text in DOCUMENTS], "top_n": 2}
    reply = post(ranker, path, {**body, "return_documents": True, "max_tokens_per_doc": 4096}).json()
    assert [one["index"] for one in reply["results"]] == [1, 2]
    assert reply["results"][0]["document"] == {"text": "good good"}
    assert (reply["model"], reply["usage"]["total_tokens"]) == ("ranker", 5 + 6 + 5 + 5)
    assert reply["id"].startswith("rerank-")
    assert "document" not in post(ranker, path, body).json()["results"][0]


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type", "words"),
    [
        ("/rerank", {"query": QUERY, "texts": []}, 400, "Empty", "`texts` cannot be empty"),
        ("/rerank", {"query": QUERY, "documents": []}, 422, "Validation", "field 'documents': has 0 texts"),
        ("/rerank", {"query": QUERY, "documents": MANY}, 422, "Validation", "has 10000 texts, allowed are 1 to 8"),
        ("/rerank", {"query": QUERY, "texts": MANY}, 422, "Validation", "has 10000 texts, allowed are 1 to 8"),
        ("/rerank", {"query": QUERY, "documents": ["a"], "top_n": 0}, 422, "Validation", "'top_n': 0: Expected int"),
        ("/rerank", {"query": QUERY, "documents": [{"title": "a"}]}, 422, "Validation", "required field text"),
        ("/rerank", {"query": QUERY, "documents": ["a", " "]}, 422, "Validation", "'documents[1]': the second text"),
        ("/rerank", {"query": "", "documents": ["a"]}, 422, "Validation", "field 'query': the first text is empty"),
        ("/rerank", {"query": "", "texts": ["a"]}, 400, "Empty", "field 'query': the first text is empty"),
        ("/v2/rerank", {"query": QUERY, "documents": ["a"], "model": "other"}, 404, "NotFound", "is 'ranker'"),
        (
            "/v2/rerank", {"query": QUERY, "documents": ["a"], "max_tokens_per_doc": 4},
            422, "Validation", "field 'max_tokens_per_doc': 4 is not allowed; expected at least 8",
        ),
        ("/score", {"text_1": ["a", "b"], "text_2": ["a"]}, 422, "Validation", "2 and 1 texts cannot be paired"),
        ("/score", {"text_1": "a", "text_2": []}, 422, "Validation", "1 and 0 texts cannot be paired"),
        (
            "/", {"inputs": {"text": "a", "text_pair": "b"}, "parameters": {"function_to_apply": "softmax"}},
            422, "Validation", "field 'parameters.function_to_apply': 'softmax' over the one logit",
        ),
        ("/predict", {"text": "a", "text_pair": "b", "threshold": 0.5}, 422, "Validation", "for multi-label models"),
    ],
)  # fmt: skip
def test_a_wrong_ranking_is_refused(
    ranker: Server, path: str, body: object, status: int, error_type: str, words: str
) -> None:
    """Each fault of a ranking is named with its field, value and what is allowed."""
    assert_error(post(ranker, path, body), status, error_type, words)


@pytest.mark.parametrize("body", [{"query": "a", "texts": ["b"]}, {"query": "a", "documents": ["b"]}])
def test_another_model_does_not_rank(server: Server, inference: Server, body: object) -> None:
    """A model of one text and one of three labels answer a ranking with text-embeddings-inference's 424."""
    for one in (server, inference):
        reply = post(one, "/rerank", body)
        assert reply.status == 424
        assert NOT_RERANKER in reply.body


def test_texts_of_rankings_are_logged_on_request(ranker: Server) -> None:
    """With INFERER_LOG_TEXTS the log has both texts of each pair."""
    post(ranker, "/rerank", {"query": QUERY, "texts": ["odd"]}, x_request_id="logged")
    (line,) = [one for one in ranker.logged() if one.get("request_id") == "logged"]
    assert line["input"] == [[QUERY, "odd"]]


ZERO_SHOT = {"inputs": "good", "parameters": {"candidate_labels": ["bad", "good", "odd"], "hypothesis_template": "{}"}}


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_zero_shot_is_the_softmax_of_entailment(inference: Server, path: str) -> None:
    """With one label right, scores are the softmax of entailment over the candidates, best first."""
    reply = post(inference, path, ZERO_SHOT).json()
    weights = {"good": math.exp(6), "bad": math.exp(2), "odd": math.exp(2)}  # 2 of the text, 4 of the hypothesis
    assert reply["sequence"] == "good"
    assert reply["labels"] == ["good", "bad", "odd"]
    assert reply["scores"] == pytest.approx([weights[name] / sum(weights.values()) for name in reply["labels"]])


def test_zero_shot_of_several_labels_is_entailment_against_contradiction(inference: Server) -> None:
    """With several labels, each is entailment against contradiction; a single candidate likewise."""
    body = {**ZERO_SHOT, "parameters": {**ZERO_SHOT["parameters"], "multi_label": True}}  # type: ignore[dict-item]
    reply = post(inference, "/", body).json()
    found = dict(zip(reply["labels"], reply["scores"], strict=True))
    assert found == pytest.approx({"good": sigmoid(6), "odd": sigmoid(2), "bad": sigmoid(2 - 4)})
    alone = post(
        inference, "/", {"inputs": ["good"], "parameters": {"candidate_labels": "bad", "hypothesis_template": "{}"}}
    )
    assert alone.json()[0]["scores"] == pytest.approx([sigmoid(-2)])


@pytest.mark.parametrize(
    ("agent", "lists"),
    [("hf_hub/0.36.2", True), ("hf_hub/1.0.1", True), ("hf_hub/1.1.7", False), ("hf_hub/2.4.0", False)],
)
def test_zero_shot_replies_as_the_client_reads(inference: Server, agent: str, lists: bool) -> None:
    """huggingface_hub gets lists up to version 1.0, and objects from 1.1 on."""
    reply = post(inference, "/", ZERO_SHOT, user_agent=f"unknown/None; {agent}; python/3.11").json()
    assert isinstance(reply, dict) == lists
    labels = reply["labels"] if lists else [one["label"] for one in reply]
    assert labels == ["good", "bad", "odd"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"candidate_labels": []}, "field 'parameters.candidate_labels': expected names"),
        ({"candidate_labels": ["a", " "]}, "field 'parameters.candidate_labels': expected names"),
        ({"candidate_labels": "a, b, a"}, "names a label twice: a, b, a"),
        ({"candidate_labels": ["a"], "hypothesis_template": "x"}, "'parameters.hypothesis_template': has no {}"),
        ({"candidate_labels": ["a"], "multi_label": "yes"}, "field 'parameters.multi_label': 'yes'"),
        ({"candidate_labels": [f"l{i}" for i in range(9)]}, "field 'inputs': has 9 texts, allowed are 1 to 8"),
    ],
)  # fmt: skip
def test_wrong_zero_shot_parameters_are_refused(inference: Server, parameters: object, words: str) -> None:
    """Each fault of the parameters is a 422 with the field's name."""
    assert_error(post(inference, "/", {"inputs": "good", "parameters": parameters}), 422, "Validation", words)


def test_zero_shot_needs_inference(server: Server, ranker: Server) -> None:
    """Another model refuses candidate labels, and the message says which model is needed."""
    for one in (server, ranker):
        assert_error(post(one, "/", ZERO_SHOT), 422, "Validation", "needs a model of natural language inference")


def test_explanations_of_pairs_leave_out_words_of_both_texts(inference: Server, server: Server) -> None:
    """Each part names its text, and the contributions are those of the words by hand."""
    reply = post(inference, "/explain", {"text": "good plain", "text_pair": "good"}).json()
    assert [(part["side"], part["text"]) for part in reply["parts"]] == [
        ("text", "good"), ("text", "plain"), ("text_pair", "good"),
    ]  # fmt: skip
    assert reply["parts"][1]["contribution"] == 0
    assert reply["parts"][2]["contribution"] > reply["parts"][0]["contribution"] > 0  # it counts twice
    assert reply["sides"]["text"]["num_tokens"] == 2
    assert "side" not in post(server, "/explain", {"text": "good"}).json()["parts"][0]
