"""Guardrail frameworks, unmodified and in an environment of their own, against real gunicorn; and HTTPS."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from service.app import create_app
from service.settings import Settings, SettingsError, from_env
from tests.docs.pages import blocks, page, section
from tests.export.checkpoints.environments import python_with
from tests.support.apps import until
from tests.support.server import ROOT, Reply, Server, environment, free_port, run_to_end, serving

PACKAGES = ("nemoguardrails==0.24.1", "litellm==1.110.2")
SHIELD = ("llama-stack==0.2.12", "llama-stack-provider-trustyai-fms==0.1.2")
BLOCKING = {"INFERER_BLOCKED_LABELS": "neg", "INFERER_BLOCK_THRESHOLD": "0.6", "INFERER_KSERVE_V1": "scores"}
NEMO_BLOCKS = {engine: [False, True, False, False] for engine in ("vllm", "fms", "kserve")}
TEXTS = ("good", "bad", "bad good", "odd")

# Prints by engine whether NeMo blocks each text.
NEMO = """
import asyncio, json, sys
from nemoguardrails import RailsConfig
from nemoguardrails.library.hf_classifier.actions import hf_classifier_check_input

url, more, *texts = sys.argv[1:]

async def blocked(engine, text):
    guard = {"engine": engine, "model": "tiny", "base_url": url, "threshold": 0.6, "blocked_labels": ["neg"]}
    guard |= json.loads(more)
    config = RailsConfig.from_content(config={"rails": {"config": {"hf_classifier": {"guard": guard}}}})
    return (await hf_classifier_check_input(classifier="guard", config=config, text=text)).is_blocked

async def main():
    print(json.dumps({engine: [await blocked(engine, text) for text in texts] for engine in ("vllm", "fms", "kserve")}))

asyncio.run(main())
"""
# Prints for each list of texts what LiteLLM does with it.
LITELLM = """
import asyncio, json, sys
from litellm.proxy.guardrails.guardrail_hooks.generic_guardrail_api.generic_guardrail_api import GenericGuardrailAPI

url, key, lists = sys.argv[1:]
guard = GenericGuardrailAPI(api_base=url, api_key=key, guardrail_name="guard", event_hook="pre_call", default_on=True)

async def outcome(texts):
    try:
        return await guard.apply_guardrail(inputs={"texts": texts}, request_data={}, input_type="request")
    except Exception as error:
        return [type(error).__name__, str(error)]

async def main():
    print(json.dumps([await outcome(texts) for texts in json.loads(lists)]))

asyncio.run(main())
"""

# Prints for each text what Llama Stack's shield finds, by TrustyAI's provider.
LLAMA_STACK = """
import asyncio, json, sys
import yaml
from llama_stack.apis.inference import UserMessage
from llama_stack_provider_trustyai_fms import get_adapter_impl
from llama_stack_provider_trustyai_fms.config import FMSSafetyProviderConfig

config, *texts = sys.argv[1:]
(provider,) = yaml.safe_load(config)["providers"]["safety"]

async def main():
    shields = await get_adapter_impl(FMSSafetyProviderConfig(**provider["config"]), {})
    await shields.initialize()
    found = [(await shields.run_shield("injection", [UserMessage(content=text)])).violation for text in texts]
    print(json.dumps([one.metadata["results"][0] for one in found]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def guard(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn that blocks the label neg."""
    with serving(tiny_bundle, tmp_path_factory.mktemp("guard") / "log", **BLOCKING) as running:
        yield running


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A python with the frameworks."""
    return python_with(tmp_path_factory.getbasetemp(), *PACKAGES)


def answer(*command: str, **settings: str) -> Any:
    """Run a script to its end and return the JSON of its last line."""
    done = run_to_end(*command, LITELLM_LOCAL_MODEL_COST_MAP="True", **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def post(server: Server, path: str, body: dict[str, Any]) -> Reply:
    """Send `body` as JSON."""
    return server.request("POST", path, json.dumps(body), content_type="application/json")


@pytest.mark.slow
def test_nemo_guardrails_blocks_by_each_engine(guard: Server, python: str) -> None:
    """NeMo's own action blocks a text with the blocked label, and no other, by vLLM, FMS and KServe."""
    found = answer(python, "-c", NEMO, f"http://127.0.0.1:{guard.port}", "{}", *TEXTS)
    assert found == NEMO_BLOCKS


@pytest.mark.slow
def test_litellm_blocks(guard: Server, python: str) -> None:
    """LiteLLM's guardrail raises its own error with our reason; texts that are blank or missing pass."""
    lists = [["good"], ["good", "bad"], ["", "  "], []]
    found = answer(python, "-c", LITELLM, f"http://127.0.0.1:{guard.port}", "key", json.dumps(lists))
    assert found[0] == {"texts": ["good"]}
    assert found[1] == ["GuardrailRaisedException", "tiny: neg (0.787, blocked from 0.6)"]
    assert found[2:] == [{"texts": ["", "  "]}, {"texts": []}]


@pytest.mark.slow
def test_litellm_blocks_where_nothing_is_configured(tiny_bundle: Path, python: str, tmp_path: Path) -> None:
    """Without blocked labels the path is a 404, which fails closed."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        (found,) = answer(python, "-c", LITELLM, f"http://127.0.0.1:{server.port}", "key", '[["good"]]')
    assert found[0] != "GuardrailRaisedException"
    assert "404" in found[1]


@pytest.mark.slow
def test_a_shield_of_llama_stack(tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the documented configuration Llama Stack's shield reports a text with the blocked label, and no other."""
    python = python_with(tmp_path_factory.getbasetemp(), *SHIELD)
    (config,) = blocks(section(page("docs/guardrails.md"), "## Llama Stack"), "yaml")
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="guard-key", **BLOCKING) as server:
        given = {
            "http://guard.internal:8080": f"http://127.0.0.1:{server.port}",
            "${env.GUARD_KEY}": "guard-key",
            "confidence_threshold: 0.8": "confidence_threshold: 0.6",
        }
        for name, value in given.items():
            assert name in config
            config = config.replace(name, value)
        found = answer(python, "-W", "ignore", "-c", LLAMA_STACK, config, *TEXTS)
    assert [one["status"] == "violation" for one in found] == NEMO_BLOCKS["fms"]
    assert found[1]["detection_type"] == "neg"


def test_the_replies_are_those_of_vllm(guard: Server, model: ModelInferer) -> None:
    """/classify has vLLM's fields, with the native scores in the model's order; false gives logits."""
    reply = post(guard, "/classify", {"model": "tiny", "input": ["good", "odd good odd"]}).json()
    assert reply.pop("id").startswith("classify-")
    assert reply.pop("created") > 1_700_000_000
    predictions = [model.predict(text) for text in ("good", "odd good odd")]
    assert reply == {
        "object": "list",
        "model": "tiny",
        "data": [
            {"index": index, "label": one.label, "probs": list(one.scores.values()), "num_classes": 3}
            for index, one in enumerate(predictions)
        ],
        "usage": {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0, "prompt_tokens_details": None},
    }
    for flag in ("use_activation", "activation", "softmax"):
        (one,) = post(guard, "/classify", {"input": "odd good odd", flag: False}).json()["data"]
        assert one["probs"] == [2.0, 0.0, 4.0]
    (listed,) = guard.request("GET", "/v1/models").json()["data"]
    assert (listed["id"], listed["object"], listed["max_model_len"]) == ("tiny", "model", 8)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"model": "gpt", "input": "good"}, 404, "no model 'gpt' here"),
        ({"input": []}, 422, "field 'input'"),
        ({"input": ["good", " "]}, 422, "field 'input[1]'"),
        ({"input": [[1, 2]]}, 422, "input"),
        ({"input": "good", "truncate_prompt_tokens": 5}, 422, "truncate_prompt_tokens"),
    ],
)
def test_wrong_bodies_of_vllm(guard: Server, body: dict[str, Any], status: int, told: str) -> None:
    """Another model's name, token ids, no texts and a cut in tokens are refused by field."""
    reply = post(guard, "/classify", body)
    assert reply.status == status
    assert told in reply.json()["error"]


def test_detections(tiny_bundle: Path, tmp_path: Path, guard: Server) -> None:
    """A detection is a label at or above the threshold, but for safe labels; with blocked labels those alone."""
    path = "/api/v1/text/contents"

    def types(server: Server, **given: Any) -> list[list[str]]:
        reply = post(server, path, {"contents": ["good", "bad"], "detector_params": given}).json()
        return [[one["detection_type"] for one in detections] for detections in reply]

    assert types(guard, threshold=0.5) == [[], ["neg"]]
    assert types(guard, threshold=0.1) == [["neg"], ["neg"]]
    with serving(tiny_bundle, tmp_path / "log") as server:
        assert types(server) == [["pos"], ["neg"]]
        assert types(server, safe_labels=["pos"]) == [[], ["neg"]]
        (found,) = post(server, path, {"contents": ["bad 😀 bad"]}).json()
        assert found[0] == {
            "start": 0, "end": 9, "text": "bad 😀 bad", "detection": "sequence_classification",
            "detection_type": "neg", "score": server.predict({"text": "bad 😀 bad"}).json()["score"],
        }  # fmt: skip


def test_kserve_replies_with_scores_on_request(server: Server, guard: Server) -> None:
    """`return_probabilities` decides; without it the setting does."""
    path, instances = "/v1/models/tiny:predict", {"instances": ["good"]}
    native = post(server, path, instances).json()["predictions"][0]
    for running, given, expected in (
        (server, {"return_probabilities": True}, native["scores"]),
        (guard, {}, native["scores"]),
        (guard, {"return_probabilities": False}, native),
    ):
        assert post(running, path, {**instances, "parameters": given}).json()["predictions"] == [expected]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"INFERER_BLOCK_THRESHOLD": "1.5"}, "INFERER_BLOCK_THRESHOLD: '1.5' is not allowed; expected a number from 0"),
        ({"INFERER_BLOCK_THRESHOLD": "nan"}, "INFERER_BLOCK_THRESHOLD"),
        ({"INFERER_KSERVE_V1": "probs"}, "expected one of predictions, scores"),
        ({"INFERER_TLS_CERT": "c.pem"}, "INFERER_TLS_CERT is set and INFERER_TLS_KEY is not"),
    ],
)
def test_wrong_settings(settings: dict[str, str], told: str) -> None:
    """A wrong value is refused by name."""
    with pytest.raises(SettingsError, match=told):
        from_env(settings)


def test_a_blocked_label_that_the_model_lacks(model: ModelInferer) -> None:
    """The start ends with the labels of the model."""
    with pytest.raises(SettingsError, match=r"the model has no label 'bad'; expected some of pos, neg, other"):
        create_app(Settings(blocked_labels=("neg", "bad")), model)


# HTTPS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signed itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    line = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        cert,
        *names,
    ]
    subprocess.run(line, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def https(tiny_bundle: Path, certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Real gunicorn with TLS and a key; its address."""
    port = free_port()
    cert, key = map(str, certificate)
    tls = {"INFERER_TLS_CERT": cert, "INFERER_TLS_KEY": key, "INFERER_API_KEYS": "secret"}
    env = environment(INFERER_BUNDLE=str(tiny_bundle), PORT=str(port), **tls, **BLOCKING)
    log = (tmp_path_factory.mktemp("https") / "log").open("w")
    with log, subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=env, stderr=log) as process:
        try:
            until(lambda: _status(f"https://127.0.0.1:{port}/health/ready", certificate[0]) == 200, 60)
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(30) == 0


def _status(url: str, cert: Path, body: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=str(cert))) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_https_serves_clients_that_check_the_certificate(https: str, certificate: tuple[Path, Path]) -> None:
    """A client that trusts the certificate gets its reply, with the key alone; plain HTTP gets none."""
    body = b'{"text": "good"}'
    assert _status(f"{https}/predict", certificate[0], body, Authorization="Bearer secret") == 200
    assert _status(f"{https}/predict", certificate[0], body) == 401
    assert _status(f"{https.replace('https', 'http')}/health/live", certificate[0]) in (0, 400)


@pytest.mark.slow
def test_nemo_guardrails_sends_its_key_over_https(https: str, certificate: tuple[Path, Path], python: str) -> None:
    """NeMo, which refuses a key over plain HTTP, blocks with key and certificate."""
    more = json.dumps({"api_key_env_var": "GUARD_KEY", "parameters": {"ca_cert": str(certificate[0])}})
    found = answer(python, "-c", NEMO, https, more, *TEXTS, GUARD_KEY="secret")
    assert found == NEMO_BLOCKS


@pytest.mark.parametrize("fault", ["no file", "no certificate", "another key"])
def test_a_certificate_that_cannot_be_used(
    tiny_bundle: Path, certificate: tuple[Path, Path], tmp_path: Path, fault: str
) -> None:
    """A missing file, a file of another kind and a key of another certificate end the start in a line."""
    cert, key = certificate
    (tmp_path / "text.pem").write_text("no certificate")
    given = {"no file": (cert, tmp_path / "none.pem"), "no certificate": (tmp_path / "text.pem", key)}
    if fault == "another key":
        made = ["openssl", "genrsa", "-out", str(tmp_path / "other.pem"), "2048"]
        subprocess.run(made, check=True, capture_output=True)
    cert, key = given.get(fault, (cert, tmp_path / "other.pem"))
    settings = {"INFERER_TLS_CERT": str(cert), "INFERER_TLS_KEY": str(key), "INFERER_BUNDLE": str(tiny_bundle)}
    done = run_to_end(sys.executable, "-m", "gunicorn", "app:app", **settings, PORT=str(free_port()))
    assert done.returncode == 3
    line = done.stderr.splitlines()[-1]
    assert "INFERER_TLS_" in line
    assert "Traceback" not in done.stderr
