"""LiteLLM's own proxy, in an environment of its own, with the configuration of docs/guardrails.md and a mock model."""

from __future__ import annotations

import json
import subprocess
import textwrap
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks, page, section
from tests.export.checkpoints.environments import python_with
from tests.support.apps import until
from tests.support.server import environment, free_port, serving

# Later versions need a package that the index does not have.
PROXY = "litellm[proxy]==1.108.7"
GUARD_KEY, MASTER_KEY = "guard-0123456789abcdef", "sk-0123456789abcdef0123456789abcdef"
MODELS = """
model_list:
  - model_name: chat
    litellm_params: {model: openai/none, api_key: none, mock_response: Hello from the model.}
"""


def documented(port: int) -> str:
    """Return the configuration of docs/guardrails.md, with the service on `port` of this machine."""
    (block,) = blocks(section(page("docs/guardrails.md"), "## LiteLLM"), "yaml")
    assert "http://guard.internal:8080" in block
    return MODELS + textwrap.dedent(block).replace("http://guard.internal:8080", f"http://127.0.0.1:{port}")


def asked(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Return status and body of the proxy's reply; 0 while nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except ConnectionRefusedError:
        return 0, None
    finally:
        connection.close()


@pytest.mark.slow
def test_a_chat_with_a_blocked_text_ends_at_the_guardrail(
    tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A plain chat is answered, one with a blocked text is a 400 with our reason, and without the service all fail."""
    python = python_with(tmp_path_factory.getbasetemp(), PROXY)
    port = free_port()
    config = tmp_path / "config.yaml"
    blocking = {"INFERER_BLOCKED_LABELS": "neg", "INFERER_BLOCK_THRESHOLD": "0.6", "INFERER_API_KEYS": GUARD_KEY}
    keys = {"GUARD_KEY": GUARD_KEY, "LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    program = Path(python).with_name("litellm")

    def chat(text: str) -> tuple[int, Any]:
        return asked(
            port, "POST", "/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": text}]}
        )

    with serving(tiny_bundle, tmp_path / "log", **blocking) as guard, (tmp_path / "proxy.log").open("wb") as log:
        config.write_text(documented(guard.port), encoding="utf-8")
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        proxy = subprocess.Popen(command, cwd=tmp_path, env=environment(**keys), stdout=log, stderr=log)
        try:
            until(lambda: asked(port, "GET", "/health/liveliness")[0] == 200 or proxy.poll() is not None, 120)
            assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()[-3000:]
            status, reply = chat("good")
            assert (status, reply["choices"][0]["message"]["content"]) == (200, "Hello from the model.")
            status, reply = chat("bad")
            assert (status, reply["error"]["message"]) == (400, "tiny: neg (0.787, blocked from 0.6)")
            guard.stop()
            assert chat("good")[0] == 500
        finally:
            proxy.terminate()
            try:
                proxy.wait(30)
            except subprocess.TimeoutExpired:
                proxy.kill()
                proxy.wait()
