"""The upgrade test of gunicorn: the behaviour that service/process relies on, on a real server.

Run it before GUNICORN_VERSION changes: other versions started and answered, and let pipelined requests hang.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from service.process.startup import GUNICORN_VERSION
from tests.support.apps import HeldApp, comes_to, until
from tests.support.server import (
    ROOT,
    Server,
    environment,
    free_port,
    log_lines,
    raw,
    run_to_end,
    serving,
    whole,
    workers,
)

BODY = b'{"text": "good"}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\n"


def connect(server: Server) -> socket.socket:
    """Return a new connection."""
    return socket.create_connection(("127.0.0.1", server.port), 20)


def replies(client: socket.socket, count: int) -> list[tuple[bytes, bytes]]:
    """Return the heads and bodies of the next `count` replies."""
    found = []
    with client.makefile("rb") as file:
        for _ in range(count):
            head = b"".join(iter(file.readline, b"\r\n"))
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length, head
            found.append((head, file.read(int(length[1]))))
    return found


def test_the_tested_version_is_the_pinned_one() -> None:
    """startup.py, the served set's lock file and the extra `serve` name the same version."""
    locked = (ROOT / "requirements_inference.txt").read_text()
    assert f"\ngunicorn=={GUNICORN_VERSION} " in locked
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"gunicorn=={GUNICORN_VERSION}" in extras["serve"]


def test_another_version_is_refused(tiny_bundle: Path) -> None:
    """On another gunicorn the server exits with code 3 and one line that names both versions."""
    code = (
        "import sys, gunicorn; gunicorn.__version__ = '26.2.0'; sys.argv[1:] = ['app:app']; "
        "from gunicorn.app.wsgiapp import run; run()"
    )
    done = run_to_end(sys.executable, "-c", code, INFERER_BUNDLE=str(tiny_bundle), timeout_s=60)
    assert done.returncode == 3
    (line,) = log_lines(done.stdout + done.stderr)
    assert "26.2.0" in line["message"]
    assert f"gunicorn=={GUNICORN_VERSION}" in line["message"]


@pytest.mark.parametrize("first", ["prediction", "health"])
def test_pipelined_requests_are_all_answered_in_order(server: Server, first: str) -> None:
    """Requests sent at once on a new or a used connection are all answered, health checks among them, in order."""
    health = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    kinds = [HEAD, health] * 4 if first == "prediction" else [health, HEAD] * 4
    with connect(server) as client:
        for _ in range(2):
            requests = [b"%sX-Request-Id: n%d\r\n\r\n" % (kind, n) for n, kind in enumerate(kinds)]
            client.sendall(b"".join(one + (BODY if one.startswith(HEAD) else b"") for one in requests))
            found = replies(client, len(kinds))
            assert all(b"X-Request-Id: n%d\r\n" % n in head for n, (head, _) in enumerate(found))
            assert all(
                (b"label" if kind is HEAD else b"live") in body for kind, (_, body) in zip(kinds, found, strict=True)
            )


def test_half_a_head_delays_no_others_and_gets_its_reply(server: Server) -> None:
    """Connections that have sent half a head do not delay others, and get their own reply after the rest."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(8)]
        for client in clients:
            client.sendall(HEAD[:30])
        assert server.predict({"text": "good"}).status == 200
        assert server.request("GET", "/health/live").status == 200
        for client in clients:
            client.sendall(HEAD[30:] + b"\r\n" + BODY)
            assert b'"label":"pos"' in whole(client)


def test_slow_readers_delay_no_others_and_get_whole_replies(server: Server) -> None:
    """Clients that stop reading with full buffers do not delay others, and get all replies in the end."""
    count = 100
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(4)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        for _ in range(5):
            assert server.predict({"text": "good"}).status == 200
            assert server.request("GET", "/health/live").status == 200
        expected = server.request("GET", "/openapi.json").body
        for client in clients:
            assert all(body == expected for _, body in replies(client, count))


def test_a_reload_loses_no_connection(tiny_bundle: Path, tmp_path: Path) -> None:
    """After SIGHUP the old worker still answers half-sent requests and kept-alive connections, then exits."""
    with serving(tiny_bundle, tmp_path / "log") as server, connect(server) as kept, connect(server) as half:
        (old,) = workers(server)
        kept.sendall(HEAD + b"\r\n" + BODY)
        assert b'"label":"pos"' in whole(kept)
        half.sendall(HEAD + b"\r\n" + BODY[:5])
        server.process.send_signal(signal.SIGHUP)
        until(lambda: any("in place of" in line["message"] for line in server.logged()))
        for client, rest in ((kept, HEAD + b"\r\n" + BODY), (half, BODY[5:])):
            client.sendall(rest)
            assert b'"label":"pos"' in whole(client)
        until(lambda: old not in workers(server))
        assert server.predict({"text": "good"}).status == 200


def test_tls_by_gunicorn_itself(
    shared_bundle: Path, held: HeldApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under TLS, where gunicorn's threads wait for clients, predictions, keep-alive and the cap work as well."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    names = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert"))
    made = run_to_end("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *names)
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--certfile {tmp_path / 'cert'} --keyfile {tmp_path / 'key'}")
    context = ssl.create_default_context(cafile=tmp_path / "cert")
    port = free_port()
    env = environment(INFERER_BUNDLE=str(shared_bundle), PORT=str(port), INFERER_MAX_IN_FLIGHT="1")
    command = [sys.executable, "-m", "gunicorn", held.name]

    def predict(client: HTTPSConnection) -> int:
        client.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
        reply = client.getresponse()
        reply.read()
        return reply.status

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    stack = contextlib.ExitStack()
    try:
        until(lambda: b"try it" in (tmp_path / "log").read_bytes(), 30)
        connections = [HTTPSConnection("localhost", port, timeout=20, context=context) for _ in range(2)]
        first, second = (stack.enter_context(contextlib.closing(one)) for one in connections)
        assert [predict(first) for _ in range(3)] == [200] * 3
        with ThreadPoolExecutor(1) as pool, held.held():
            running = pool.submit(predict, first)
            until(lambda: held.runs[3:] == [1])
            assert predict(second) == 429
        assert running.result() == 200
        until(lambda: predict(second) == 200)  # the reply is sent before its place is free
    finally:
        stack.close()
        process.terminate()
        assert process.wait(30) == 0


def test_a_drain_finishes_begun_requests(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """After SIGTERM running and half-sent requests get their replies, and the server exits with code 0."""
    with (
        serving(shared_bundle, tmp_path / "log", held.name) as server,
        ThreadPoolExecutor(1) as pool,
        raw(server, BODY[:5], length=16) as half,
    ):
        with held.held():
            running = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            server.process.send_signal(signal.SIGTERM)
            until(lambda: any("signal: term" in line["message"] for line in server.logged()))
            half.sendall(BODY[5:])
        assert running.result().status == 200
        assert b'"label":"pos"' in whole(half)
        assert server.process.wait(30) == 0
