"""Start, failure to start, errors, readiness and stop of a real gunicorn."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from inferer.cpu import instruction_flags
from service.process.startup import example_text
from tests.support import tiny
from tests.support.apps import until
from tests.support.server import ROOT, Server, all_ready, environment, free_port, log_lines, run_to_end, serving

# The real application with a model that is as slow as the text says, or fails.
SLOW_APP = """
import sys, time
sys.path.insert(0, {root!r})
from inferer import ModelInferer, RunError
import os
from pathlib import Path
from service.app import create_app
from service.settings import from_env

class Slow(ModelInferer):
    broken = False

    def probe(self):
        if self.broken:
            raise RunError("still broken")
        super().probe()

    def predict_timed(self, texts, options, *limits):
        for text in texts:
            if text.startswith("sleep"):
                time.sleep(float(text.split()[1]))
            if text == "break":
                self.broken = True
            if text == "mend":
                self.broken = False
            if text == "stumble" or self.broken:
                raise RunError("the model run failed: on purpose")
            if text == "bug":
                raise ZeroDivisionError("secret detail")
        return super().predict_timed(texts, options, *limits)

settings = from_env(os.environ)
app = create_app(settings, Slow(settings.bundle, intra_op_threads=1))
"""


# The real application, with a line in a file for every session made.
COUNTING_APP = """
import os, sys
sys.path.insert(0, {root!r})
from inferer import session

class Counting(session.Session):
    def __init__(self, *args, **kwargs):
        with open({made!r}, "a") as file:
            file.write(str(os.getpid()) + "\\n")
        super().__init__(*args, **kwargs)

import inferer.model
inferer.model.Session = Counting
from app import app
"""


# The real application on a machine that shows no VNNI.
EXACT_APP = """
import sys
sys.path.insert(0, {root!r})
from inferer import session
session.int8_may_saturate = lambda: True
from app import app
"""


@pytest.fixture
def slow_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an application with a slow model, importable by gunicorn."""
    (tmp_path / "slow_app.py").write_text(textwrap.dedent(SLOW_APP).format(root=str(ROOT)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "slow_app:app"


def gunicorn(**settings: str) -> tuple[int, str]:
    """Run gunicorn to its end; return its exit code and output."""
    done = run_to_end(sys.executable, "-m", "gunicorn", "app:app", PORT=str(free_port()), timeout_s=60, **settings)
    return done.returncode, done.stdout + done.stderr


def said(output: str) -> list[str]:
    """Return the messages that say why the server cannot start; every line of the log is JSON."""
    lines = log_lines(output)
    return [line["message"] for line in lines if line["level"] == "critical" and line["logger"] == "inferer"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"INFERER_BUNDLE": "models/nowhere"}, "bundle models/nowhere: does not exist"),
        ({"INFERER_BUNDLE": "."}, "neither a bundle"),
        ({"INFERER_MAX_TEXTS": "many"}, "INFERER_MAX_TEXTS: 'many' is not allowed; expected a whole number from 1"),
        ({"INFERER_BUNDEL": "x"}, "INFERER_BUNDEL is unknown; did you mean INFERER_BUNDLE?"),
    ],
)
def test_a_server_that_cannot_start_logs_one_line_and_exits_3(settings: dict[str, str], words: str) -> None:
    """A wrong setting or bundle stops the start with exit code 3 and one line with the reason, no traceback."""
    code, output = gunicorn(**settings)
    assert code == 3
    assert len(said(output)) == 1
    assert words in said(output)[0]
    assert "Traceback" not in output


def test_a_damaged_bundle_stops_the_start(tiny_bundle: Path, tmp_path: Path) -> None:
    """A bundle with a changed byte stops the start, in one line that names the file."""
    damaged = Path(shutil.copytree(tiny_bundle, tmp_path / "damaged"))
    with (damaged / "model_quantized.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    code, output = gunicorn(INFERER_BUNDLE=str(damaged))
    assert code == 3
    assert "model_quantized.onnx is damaged" in said(output)[0]
    assert len(said(output)) == 1


def test_a_bundle_that_only_the_worker_finds_wrong_stops_the_start(tiny_bundle: Path, tmp_path: Path) -> None:
    """A model that cannot be loaded stops the start with exit code 3 and one line, without a traceback."""
    broken = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    manifest = json.loads((broken / "inferer.json").read_text())
    (broken / "model_quantized.onnx").write_bytes(b"not a model")
    tiny.seal(broken, manifest)
    code, output = gunicorn(INFERER_BUNDLE=str(broken))
    assert code == 3
    assert "model_quantized.onnx cannot be loaded" in said(output)[0]
    assert len(said(output)) == 1
    assert "Traceback" not in output


def failing(folder: Path) -> Path:
    """Write a bundle with correct hashes whose golden logits differ from the model's."""
    altered = {**tiny.GOLDEN[0], "int8": [0.0, 2.0, 0.0]}
    return tiny.write_bundle(folder, golden=[altered, *tiny.GOLDEN[1:]])


def test_a_failed_golden_check_stops_the_start(tmp_path: Path) -> None:
    """A failed golden check stops the start with exit code 3 and one line with the remedy."""
    code, output = gunicorn(INFERER_BUNDLE=str(failing(tmp_path / "b")))
    assert code == 3
    (line,) = said(output)
    assert "golden check failed on 1 of 4 texts" in line
    assert "INFERER_GOLDEN_CHECK=warn" in line
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("mode", "outcome", "words", "warnings"),
    [("warn", "failed", "golden check failed on 1 of 4 texts", 1), ("off", "off", "golden check off", 0)],
)
def test_a_failed_golden_check_may_be_served(
    tmp_path: Path, mode: str, outcome: str, words: str, warnings: int
) -> None:
    """With INFERER_GOLDEN_CHECK warn or off such a bundle serves; the start line and /info have the outcome."""
    with serving(failing(tmp_path / "b"), tmp_path / "log", INFERER_GOLDEN_CHECK=mode) as server:
        assert server.predict({"text": "good"}).json()["label"] == "pos"
        assert server.request("GET", "/info").json()["golden_check"]["outcome"] == outcome
        log = [line["message"] for line in server.logged()]
    assert len([line for line in log if "serving b: " in line and words in line]) == 1
    assert len([line for line in log if "where it was exported" in line]) == warnings


def test_exact_mode_is_reported(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In exact mode the start line and /info have the reason."""
    (tmp_path / "exact_app.py").write_text(textwrap.dedent(EXACT_APP).format(root=str(ROOT)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(tiny_bundle, tmp_path / "log", "exact_app:app") as server:
        quantization = server.request("GET", "/info").json()["quantization"]
        assert quantization["exact_because"] == "this CPU shows no VNNI instructions"
        said = "serving tiny: int8-tensor (exact and slower: this CPU shows no VNNI instructions), single_label"
        until(lambda: said in server.log.read_text())


def test_the_start_lines_have_the_model_and_a_curl_command(server: Server) -> None:
    """The start lines have the model, the workers and threads, and a curl command."""
    (line,) = [line for line in server.logged() if line["message"].startswith("serving ")]
    served = r"serving tiny: int8-tensor( \(exact and slower: this CPU shows no VNNI instructions\))?, single_label"
    assert re.match(served, line["message"])
    for words in (
        "_classification, 3 labels, 8 tokens; native operators off; ",
        "; batching off (int8-tensor takes one scale for a whole batch); 1 worker(s) x 80 threads; ",
        f" run(s) side by side x {line['onnxruntime_threads']} onnxruntime thread(s); ",
        "golden check passed on 4 texts, scores differ by at most 0.0000",
    ):
        assert words in line["message"]
    assert (line["model"], line["scheme"], line["workers"], line["threads"]) == ("tiny", "int8-tensor", 1, 80)
    assert line["memory_mb"] > 10
    assert line["cpu_flags"] == list(instruction_flags())
    assert {"cpu_quota", "memory_limit_mb", "onnxruntime_threads", "parallel_runs", "native_operators"} <= set(line)
    (how,) = [line["message"] for line in server.logged() if line["message"].startswith("try it: ")]
    assert f"curl -s http://127.0.0.1:{server.port}/predict" in how
    assert how.endswith("""-d '{"text": "good"}'""")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a\nb", "x" * 200, "42", 'size\'s "large" é'], 'size\'s "large" é'),
        (["first", "second"], "first"),
        (["\x1b[31m", "", "\u202e"], "some text"),
    ],
)
def test_the_example_text_is_short_and_printable(texts: list[str], expected: str) -> None:
    """The start line suggests the first short, printable golden text, else a neutral one."""
    assert example_text(texts) == expected


def test_each_worker_loads_the_model_once_after_the_fork(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker creates one session, in its own process, for any number of requests."""
    made = tmp_path / "made"
    (tmp_path / "counting_app.py").write_text(textwrap.dedent(COUNTING_APP).format(root=str(ROOT), made=str(made)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(tiny_bundle, tmp_path / "log", "counting_app:app", INFERER_WORKERS="2") as server:
        all_ready(server, 2)
        for _ in range(40):
            assert server.predict({"text": "good"}).status == 200
        pids = made.read_text().split()
        assert len(pids) == len(set(pids)) == 2
        assert str(server.process.pid) not in pids


def test_500_hides_the_details_and_logs_them_under_the_request_id(
    tiny_bundle: Path, slow_app: str, tmp_path: Path
) -> None:
    """An unexpected error hides its details from the client; the log has them with the request's id."""
    with serving(tiny_bundle, tmp_path / "log", slow_app) as server:
        reply = server.predict({"text": "bug"}, x_request_id="find-me")
        assert reply.status == 500
        assert reply.json() == {
            "error": "an internal error; the log has the details under this request id",
            "error_type": "Internal",
            "request_id": "find-me",
        }
        until(lambda: "request find-me failed" in server.log.read_text())
        (line,) = [line for line in server.logged() if line["message"] == "request find-me failed"]
        assert line["request_id"] == "find-me"
        assert "ZeroDivisionError: secret detail" in line["exception"]
        assert server.request("GET", "/health/ready").status == 200


def test_readiness_follows_the_last_model_run(tiny_bundle: Path, slow_app: str, tmp_path: Path) -> None:
    """After a failed model run the worker is not ready until a run or its own probe succeeds."""
    with serving(tiny_bundle, tmp_path / "log", slow_app) as server:
        assert server.predict({"text": "break"}).status == 500
        for _ in range(3):  # the probe fails too while the model is broken
            reply = server.request("GET", "/health/ready")
            assert (reply.status, reply.json()["error_type"]) == (503, "Unhealthy")
        assert server.request("GET", "/health/live").status == 200
        assert server.predict({"text": "mend"}).status == 200
        assert server.request("GET", "/health/ready").status == 200


def test_readiness_comes_back_without_requests(tiny_bundle: Path, slow_app: str, tmp_path: Path) -> None:
    """A worker whose last run failed reports it once, probes itself, and is ready again when the probe succeeds."""
    with serving(tiny_bundle, tmp_path / "log", slow_app) as server:
        assert server.predict({"text": "stumble"}).status == 500
        assert server.request("GET", "/health/ready").status == 503
        assert server.request("GET", "/health/ready").status == 200


def test_sigterm_while_a_checkpoint_is_converted_leaves_no_child(tmp_path: Path) -> None:
    """On SIGTERM during a conversion the server and the conversion end without a traceback."""
    checkpoint = ROOT / "checkpoints" / "query_type"
    env = environment(INFERER_BUNDLE=str(checkpoint), INFERER_CACHE_DIR=str(tmp_path / "cache"), PORT=str(free_port()))
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "gunicorn", "app:app"]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 30
    while not children.read_text().split() and time.monotonic() < deadline:
        time.sleep(0.05)
    (child,) = children.read_text().split()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not list((tmp_path / "cache").glob("*/inferer.json"))


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:"), ("0.0.0.0", "127.0.0.1:"), ("::1", "[::1]:")]
)
def test_the_printed_curl_can_be_used(tiny_bundle: Path, tmp_path: Path, host: str, address: str) -> None:
    """The curl command in the start line works as printed, with a key where needed and quotes in the text."""
    port = free_port()
    log = tmp_path / "log"
    settings = {
        "INFERER_HOST": host,
        "INFERER_API_KEYS": "secret",
        "INFERER_LOG_TEXTS": "1",
        "PORT": str(port),
    }
    with log.open("wb") as out:
        command = [sys.executable, "-m", "gunicorn", "app:app"]
        quoted = {**tiny.GOLDEN[0], "text": 'it\'s "good" $HOME'}
        bundle = tiny.write_bundle(tmp_path / "quoted", golden=[quoted, *tiny.GOLDEN[1:]])
        env = environment(INFERER_BUNDLE=str(bundle), INFERER_GOLDEN_CHECK="off", **settings)
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while "try it: " not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if "Cannot assign requested address" in log.read_text() or "unsupported" in log.read_text():
            pytest.skip("this machine has no IPv6")
        messages = [line["message"] for line in log_lines(log.read_text())]
        (line,) = (message.removeprefix("try it: ") for message in messages if message.startswith("try it: "))
        assert f"http://{address}{port}/predict" in line
        assert "secret" not in line
        done = run_to_end("bash", "-c", line, KEY="secret")
        assert json.loads(done.stdout)["num_tokens"] == 5
        until(lambda: '"input"' in log.read_text())
        assert [line["input"] for line in log_lines(log.read_text()) if "input" in line] == [[quoted["text"]]]
    finally:
        process.terminate()
        process.wait(30)


def test_503_while_draining_on_a_kept_alive_connection(tiny_bundle: Path, slow_app: str, tmp_path: Path) -> None:
    """A draining worker reports that it is not ready, and still finishes its requests."""
    with serving(tiny_bundle, tmp_path / "log", slow_app) as server, ThreadPoolExecutor(1) as pool:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/health/ready")
        assert connection.getresponse().read() == b'{"status":"ready"}'
        busy = pool.submit(server.predict, {"text": "sleep 2"})
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.request("GET", "/health/ready")
        reply = connection.getresponse()
        assert reply.status == 503
        assert json.loads(reply.read())["error_type"] == "Unhealthy"
        connection.close()
        assert busy.result().status == 200
        assert server.process.wait(20) == 0


def test_clients_that_do_not_close_delay_no_others(tiny_bundle: Path, tmp_path: Path) -> None:
    """Clients that ask for a close and keep their side open do not delay a health check."""
    with serving(tiny_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        for _ in range(10):  # with gunicorn's own worker each of them takes 2 s of all others' time
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        asking = HTTPConnection("127.0.0.1", server.port, timeout=10)
        asking.request("GET", "/health/live")
        assert asking.getresponse().status == 200
        asking.close()
