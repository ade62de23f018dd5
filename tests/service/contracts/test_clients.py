"""Unmodified clients against real gunicorn: curl, huggingface_hub, tritonclient."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inferer import ModelInferer
from tests.support.server import Server, serving

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the client of Hugging Face is not installed")
triton = pytest.importorskip("tritonclient.http", reason="Triton's client is not installed")


@pytest.fixture(scope="module")
def keyed(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn with a key set."""
    with serving(tiny_bundle, tmp_path_factory.mktemp("keyed") / "log", INFERER_API_KEYS="hf_secret") as running:
        yield running


def hugging_face(server: Server, path: str = "", **options: str) -> huggingface_hub.InferenceClient:
    """Return the client of Hugging Face for a server."""
    url = f"http://127.0.0.1:{server.port}{path}"
    return huggingface_hub.InferenceClient(provider="hf-inference", model=url, **options)


@pytest.fixture
def triton_client(server: Server) -> Iterator[triton.InferenceServerClient]:
    """Triton's client for the server."""
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.mark.parametrize("path", ["", "/", "/predict", "/invocations"])
def test_huggingface_hub_classifies(server: Server, model: ModelInferer, path: str) -> None:
    """`InferenceClient.text_classification` gets every label with the native API's score, on each of its paths."""
    found = hugging_face(server, path).text_classification("odd good odd")
    assert [one.label for one in found] == ["other", "pos", "neg"]
    assert {one.label: one.score for one in found} == dict(model.predict("odd good odd").scores)


def test_huggingface_hub_parameters(server: Server) -> None:
    """The client's top_k and function_to_apply take effect."""
    found = hugging_face(server).text_classification("odd good odd", top_k=2, function_to_apply="none")
    assert [(one.label, one.score) for one in found] == [("other", 4.0), ("pos", 2.0)]


def test_huggingface_hub_health_and_info(server: Server) -> None:
    """The client's health check and endpoint info work."""
    client = hugging_face(server)
    assert client.health_check() is True
    info = client.get_endpoint_info()
    assert info["model_id"] == "tiny"
    assert info["max_input_length"] == 8
    assert info["model_type"]["classifier"]["id2label"] == {"0": "pos", "1": "neg", "2": "other"}


def test_huggingface_hub_sends_its_token_as_the_key(keyed: Server) -> None:
    """The client's token is the key, a wrong one raises the client's error, and neither is logged."""
    assert hugging_face(keyed, token="hf_secret").text_classification("good")[0].label == "pos"
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="the key is missing or wrong") as raised:
        hugging_face(keyed, token="hf_other").text_classification("good")
    assert raised.value.response.status_code == 401
    assert "hf_secret" not in keyed.log.read_text()
    assert "hf_other" not in keyed.log.read_text()


def test_the_key_counts_beside_another_token(keyed: Server) -> None:
    """A key in X-API-Key counts even if the client sends a token of its own."""
    client = hugging_face(keyed, token="hf_other", headers={"X-API-Key": "hf_secret"})
    assert client.text_classification("good")[0].label == "pos"


def test_huggingface_hub_shows_the_error_message(server: Server) -> None:
    """The client's exception has the error's message."""
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="the text is empty"):
        hugging_face(server).text_classification(" ")


def test_tritonclient_metadata_and_health(triton_client: triton.InferenceServerClient) -> None:
    """Triton's client gets health and metadata of server and model."""
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("tiny")
    assert triton_client.is_model_ready("tiny", "1")
    assert not triton_client.is_model_ready("other")
    assert triton_client.get_server_metadata()["name"] == "inferer"
    assert triton_client.get_model_metadata("tiny")["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tritonclient_infers(
    triton_client: triton.InferenceServerClient, model: ModelInferer, shape: list[int]
) -> None:
    """Triton's client gets labels and scores as arrays by name, and the id."""
    given = triton.InferInput("text", shape, "BYTES")
    texts = np.array(["good", "bad odd bad"], dtype=object).reshape(shape)
    given.set_data_from_numpy(texts, binary_data=False)
    for version in ("", "1"):
        result = triton_client.infer("tiny", [given], model_version=version, request_id="7")
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("label").tolist() == ["pos", "neg"]
        expected = [list(model.predict(text).scores.values()) for text in ("good", "bad odd bad")]
        np.testing.assert_array_equal(result.as_numpy("scores"), np.array(expected, dtype=np.float32))
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("selected", "num_tokens")]
    result = triton_client.infer("tiny", [given], outputs=wanted)
    assert result.as_numpy("selected").tolist() == [[True, False, False], [False, True, False]]
    assert result.as_numpy("num_tokens").tolist() == [3, 5]
    assert result.as_numpy("label") is None


def test_tritonclient_of_asyncio_infers(server: Server) -> None:
    """Triton's asyncio client gets labels too."""
    aio = pytest.importorskip("tritonclient.http.aio")

    async def label() -> list[str]:
        given = triton.InferInput("text", [1], "BYTES")
        given.set_data_from_numpy(np.array(["bad"], dtype=object), binary_data=False)
        async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_model_ready("tiny")
            return list((await client.infer("tiny", [given])).as_numpy("label"))

    assert asyncio.run(label()) == ["neg"]


def test_tritonclient_shows_the_error_message(triton_client: triton.InferenceServerClient) -> None:
    """Triton's client raises our message and status for binary tensors, an empty text and an unknown model."""
    given = triton.InferInput("text", [1], "BYTES")
    given.set_data_from_numpy(np.array(["good"], dtype=object))
    with pytest.raises(triton.InferenceServerException, match=r"\[415\].*binary_data=False"):
        triton_client.infer("tiny", [given])
    given.set_data_from_numpy(np.array([" "], dtype=object), binary_data=False)
    with pytest.raises(triton.InferenceServerException, match=r"\[422\].*inputs\[0\].data\[0\].*empty"):
        triton_client.infer("tiny", [given])
    with pytest.raises(triton.InferenceServerException, match=r"no model 'other' here; the model is 'tiny'"):
        triton_client.infer("other", [given])


@pytest.mark.parametrize(
    ("path", "arguments", "label"),
    [
        ("/predict", ("-H", "content-type: application/json", "-d", '{"text": "good"}'), ("label",)),
        ("/invocations", ("-H", "content-type: text/plain", "-d", "good"), ("label",)),
        ("/v2/models/tiny/infer", ("-H", "content-type: application/json", "-d",
            '{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}'),
            ("outputs", 0, "data", 0)),
        ("/v1/models/tiny:predict", ("-H", "content-type: application/json", "-d", '{"instances": ["good"]}'),
            ("predictions", 0, "label")),
    ],
)  # fmt: skip
def test_curl(server: Server, path: str, arguments: tuple[str, ...], label: tuple[str | int, ...]) -> None:
    """Curl gets a prediction by each contract."""
    command = ("curl", "-sS", "--fail-with-body", f"http://127.0.0.1:{server.port}{path}", *arguments)
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)
    for step in label:
        found = found[step]
    assert found == "pos"
