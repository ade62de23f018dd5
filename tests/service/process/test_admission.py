"""Admission on a real gunicorn: in-flight cap, queue, deadlines, and clients that are slow, silent or gone."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inferer import ModelInferer
from tests.support.apps import HeldApp, comes_to, metric, until, waiting
from tests.support.server import ROOT, Server, raw, serving, whole, workers

KEY = "a-key-of-more-than-sixteen-letters"

# The real application, with a line in a file for each request: the name of its thread.
NOTING_APP = """
import sys, threading
sys.path.insert(0, {root!r})
from service.process.worker import Worker

handle_one = Worker._handle_one

def noting(self, conn):
    with open({noted!r}, "a") as file:
        file.write(threading.current_thread().name + "\\n")
    return handle_one(self, conn)

Worker._handle_one = noting
from app import app
"""


def test_concurrent_requests_share_runs(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """Requests that arrive during a run share the next one, and each gets the prediction that it gets alone."""
    texts = ["good", "bad bad", "odd", "good bad odd", "plain", "odd odd"]
    model = ModelInferer(shared_bundle)
    with serving(shared_bundle, tmp_path / "log", held.name) as server, ThreadPoolExecutor(8) as pool:
        with held.held():
            first = pool.submit(server.predict, {"text": "good"})
            until(lambda: held.runs == [1])
            others = [pool.submit(server.predict, {"text": text}) for text in texts]
            waiting(server, len(texts))
        assert first.result().json() == model.predict("good").as_dict()
        assert [other.result().json() for other in others] == [model.predict(text).as_dict() for text in texts]
        assert held.runs == [1, len(texts)]
        comes_to(server, 2, "inferer_batch_size_count")
        comes_to(server, 1 + len(texts), "inferer_batch_size_sum")
        comes_to(server, 0, "inferer_queue_size")


@pytest.mark.parametrize("why", ["off", "scheme"])
def test_without_batching_each_text_runs_alone(
    shared_bundle: Path, tiny_bundle: Path, held: HeldApp, tmp_path: Path, why: str
) -> None:
    """With INFERER_BATCHING=off, or a scheme whose predictions depend on the batch, each run has one text."""
    bundle = shared_bundle if why == "off" else tiny_bundle
    settings = {"INFERER_BATCHING": "off"} if why == "off" else {}
    with serving(bundle, tmp_path / "log", held.name, **settings) as server, ThreadPoolExecutor(8) as pool:
        with held.held():
            asked = [pool.submit(server.predict, {"texts": ["good", "bad"]}) for _ in range(3)]
            until(lambda: held.runs)
        assert [one.result().status for one in asked] == [200] * 3
        assert held.runs == [1] * 6


def test_503_when_the_deadline_passes_in_the_queue(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """A request whose deadline passes in the queue gets 503 at once, with Retry-After, and never runs."""
    with serving(shared_bundle, tmp_path / "log", held.name) as server, ThreadPoolExecutor(2) as pool:
        with held.held():
            running = pool.submit(server.predict, {"text": "good"}, x_request_timeout_ms="300")
            until(lambda: held.runs == [1])
            late = server.predict({"text": "bad"}, x_request_timeout_ms="100")
            assert late.status == 503
            assert late.json()["error_type"] == "DeadlineExceeded"
            told = re.search(
                r"the deadline passed before the last run for this request, (\d+) ms", late.json()["error"]
            )
            assert told
            assert 100 <= int(told[1]) < 300
            assert late.headers["retry-after"] == "1"
            assert not running.done()
        assert running.result().status == 200, "a run that began in time gives its answer"
        assert held.runs == [1]
        comes_to(server, 1, "inferer_rejected_total", reason="deadline")
        assert server.request("GET", "/health/ready").status == 200


def test_the_settings_deadline_holds_and_the_header_can_only_shorten_it(
    shared_bundle: Path, held: HeldApp, tmp_path: Path
) -> None:
    """INFERER_DEADLINE_MS bounds every wait, also for requests that ask for longer."""
    with (
        serving(shared_bundle, tmp_path / "log", held.name, INFERER_DEADLINE_MS="200") as server,
        ThreadPoolExecutor(2) as pool,
        held.held(),
    ):
        pool.submit(server.predict, {"text": "good"})
        until(lambda: held.runs == [1])
        for headers in ({}, {"x_request_timeout_ms": "60000"}):
            assert server.predict({"text": "bad"}, **headers).status == 503


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", ""])
def test_422_for_an_invalid_timeout(server: Server, value: str) -> None:
    """The error for a wrong X-Request-Timeout-Ms has the header, its value and the allowed ones."""
    reply = server.predict({"text": "good"}, x_request_timeout_ms=value)
    assert reply.status == 422
    assert (
        reply.json()["error"] == f"header X-Request-Timeout-Ms: {value!r}: expected a whole number from 1 to 999999999"
    )


def test_a_client_that_went_away_while_waiting_costs_no_run(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """The text of a client that left the queue does not run; the text behind it does."""
    with serving(shared_bundle, tmp_path / "log", held.name) as server, ThreadPoolExecutor(2) as pool:
        with held.held():
            first = pool.submit(server.predict, {"text": "good"})
            until(lambda: held.runs == [1])
            gone = raw(server, b'{"text": "bad"}')
            waiting(server, 1)
            gone.close()
            stays = pool.submit(server.predict, {"text": "odd"})
            waiting(server, 2)
        assert (first.result().status, stays.result().json()["label"]) == (200, "other")
        assert held.runs == [1, 1]
        comes_to(server, 1, "inferer_rejected_total", reason="caller_gone")


def test_a_client_that_only_closed_its_sending_side_gets_503(
    shared_bundle: Path, held: HeldApp, tmp_path: Path
) -> None:
    """A client that half-closed while it waited gets a 503 that says so, not a reset."""
    with serving(shared_bundle, tmp_path / "log", held.name) as server, ThreadPoolExecutor(1) as pool:
        with held.held():
            pool.submit(server.predict, {"text": "good"})
            until(lambda: held.runs == [1])
            client = raw(server, b'{"text": "bad"}')
            client.shutdown(socket.SHUT_WR)
            waiting(server, 1)
        with client:
            reply = whole(client)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"the client closed its side before the last run for this request" in reply


def test_429_costs_no_place_and_comes_before_anything_else(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """At capacity a prediction gets 429 at once and counts once; afterwards a place is free again."""
    settings = {"INFERER_MAX_IN_FLIGHT": "3"}
    with serving(shared_bundle, tmp_path / "log", held.name, **settings) as server, ThreadPoolExecutor(4) as pool:
        with held.held():
            busy = [pool.submit(server.predict, {"text": "good"}) for _ in range(3)]
            until(lambda: metric(server, "inferer_in_flight_requests") == 3)
            for _ in range(5):
                refused = server.predict({"text": "good"})
                assert (refused.status, refused.headers["retry-after"]) == (429, "1")
                assert refused.json()["error_type"] == "Overloaded"
                assert refused.json()["request_id"] == refused.headers["x-request-id"]
            assert server.request("GET", "/info").status == 200
        assert [one.result().status for one in busy] == [200] * 3
        assert server.predict({"text": "good"}).status == 200
        comes_to(server, 5, "inferer_rejected_total", reason="overloaded")
        comes_to(server, 5, "inferer_requests_total", route="/predict", status="429")
        comes_to(server, 4, "inferer_requests_total", route="/predict", status="200")
        comes_to(server, 0, "inferer_in_flight_requests")


def test_incomplete_requests_fewer_than_the_threads_delay_no_others(shared_bundle: Path, tmp_path: Path) -> None:
    """Incomplete requests take no place in flight, and others get their replies meanwhile."""
    settings = {"INFERER_MAX_IN_FLIGHT": "2", "INFERER_THREADS": "10"}
    with serving(shared_bundle, tmp_path / "log", **settings) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(raw(server, b'{"text": ', length=15)) for _ in range(5)]
        for _ in range(4):
            head = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            head.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        assert server.predict({"text": "good"}).json()["label"] == "pos"
        comes_to(server, 0, "inferer_in_flight_requests")
        slow[0].sendall(b'"bad"}')
        assert b'"label":"neg"' in whole(slow[0])


def test_silent_connections_hold_no_thread(shared_bundle: Path, tmp_path: Path) -> None:
    """Silent connections, far more than threads, delay no request."""
    settings = {"INFERER_MAX_IN_FLIGHT": "1", "INFERER_THREADS": "2"}
    with serving(shared_bundle, tmp_path / "log", **settings) as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(60)]
        assert server.predict({"text": "good"}).status == 200
        silent[30].sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert silent[30].recv(10_000).startswith(b"HTTP/1.1 200")


def test_silent_connections_do_not_hold_up_a_stop(shared_bundle: Path, tmp_path: Path) -> None:
    """A stopping server does not wait its full grace period for silent connections."""
    with serving(shared_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert server.predict({"text": "good"}).status == 200
        assert server.stop(timeout_s=15) == 0


def test_a_connection_that_asked_for_health_takes_no_thread_of_operations_for_more(
    shared_bundle: Path, held: HeldApp, tmp_path: Path
) -> None:
    """Predictions on connections that carried a health check before leave health checks their threads."""
    with serving(shared_bundle, tmp_path / "log", held.name) as server, contextlib.ExitStack() as stack:
        with held.held():
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(6)]
            body = b'{"text": "good"}'
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            for client in clients:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"live" in whole(client)
                client.sendall(head + b"Content-Length: 16\r\n\r\n" + body)
            comes_to(server, 6, "inferer_in_flight_requests")
            assert server.request("GET", "/health/live").status == 200
        for client in clients:
            assert b'"label":"pos"' in whole(client)


def test_health_and_metrics_answer_when_every_thread_is_busy(
    shared_bundle: Path, held: HeldApp, tmp_path: Path
) -> None:
    """With all threads taken by slow senders and held predictions, health checks and metrics still reply."""
    settings = {"INFERER_MAX_IN_FLIGHT": "2", "INFERER_THREADS": "4", "AIP_HEALTH_ROUTE": "/healthy"}
    paths = (
        "/health/live", "/health/ready", "/health", "/metrics", "/ping", "/healthy", "/v2/health/live",
        "/v2/health/ready", "/v2/models/shared/ready", "/v1/models/shared",
    )  # fmt: skip
    with (
        serving(shared_bundle, tmp_path / "log", held.name, **settings) as server,
        ThreadPoolExecutor(2) as pool,
        contextlib.ExitStack() as stack,
    ):
        with held.held():
            busy = [pool.submit(server.predict, {"text": "good"}) for _ in range(2)]
            until(lambda: metric(server, "inferer_in_flight_requests") == 2)
            for _ in range(6):  # more than the threads that are left
                stack.enter_context(raw(server, b'{"text": ', length=15))
            for path in paths:
                assert server.request("GET", path).status == 200
            assert not any(one.done() for one in busy)
        assert [one.result().status for one in busy] == [200, 200]


def test_incomplete_health_checks_hold_no_operations_thread(shared_bundle: Path, tmp_path: Path) -> None:
    """Health checks without the end of their head, or without the body that they announce, delay no other one."""
    with serving(shared_bundle, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        for sent in [b"GET /health HTTP/1.1\r\nHost:", b"GET /health HTTP/1.1\r\nContent-Length: 1\r\n\r\n"] * 5:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(sent)
        started = time.monotonic()
        assert server.request("GET", "/health/live").status == 200
        assert time.monotonic() - started < 3, "gunicorn waits 5 s for the rest"
        assert server.predict({"text": "good"}).status == 200


def test_a_refused_connection_stays_usable(shared_bundle: Path, held: HeldApp, tmp_path: Path) -> None:
    """Two requests sent at once at capacity both get 429 with its headers, and later the connection is served."""
    asked = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: mine\r\n"
        b'Content-Length: 15\r\n\r\n{"text": "bad"}'
    )
    env = {"INFERER_MAX_IN_FLIGHT": "1", "INFERER_CORS_ORIGINS": "http://o"}
    with (
        serving(shared_bundle, tmp_path / "log", held.name, **env) as server,
        ThreadPoolExecutor(1) as pool,
        socket.create_connection(("127.0.0.1", server.port), 20) as client,
    ):
        with held.held():
            busy = pool.submit(server.predict, {"text": "good"})
            comes_to(server, 1, "inferer_in_flight_requests")
            client.sendall(asked + asked)
            replies = b""
            while replies.count(b'"request_id":"mine"}') < 2:
                replies += client.recv(10_000)
            head = replies.partition(b"\r\n\r\n")[0].split(b"\r\n")
            assert head[0] == b"HTTP/1.1 429 Too Many Requests"
            assert {b"Retry-After: 1", b"X-Request-Id: mine", b"Vary: Origin"} < set(head)
        assert busy.result().status == 200
        comes_to(server, 0, "inferer_in_flight_requests")
        client.sendall(asked)
        assert b'"label":"neg"' in whole(client)


def test_one_thread_refuses_and_computes_nothing(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All refusals have one thread, and a connection's next request, a valid one, has a thread of the others."""
    noted = tmp_path / "noted"
    (tmp_path / "noting_app.py").write_text(NOTING_APP.format(root=str(ROOT), noted=str(noted)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        serving(shared_bundle, tmp_path / "log", "noting_app:app", INFERER_API_KEYS=KEY) as server,
        ThreadPoolExecutor(16) as pool,
    ):

        def statuses(*keys: str) -> list[int]:
            """Send a request per key on one connection, each in one piece, and return the statuses."""
            body = b'{"text": "good"}'
            found = []
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                for key in keys:
                    head = (
                        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {key}\r\n"
                    )
                    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                    found.append(int(whole(client).split()[1]))
            return found

        assert statuses("wrong", KEY) == [401, 200]
        refused, accepted = noted.read_text().splitlines()[-2:]
        assert refused == "refusals_0"
        assert not accepted.startswith("refusals")
        assert list(pool.map(statuses, ["wrong"] * 64)) == [[401]] * 64
        assert set(noted.read_text().splitlines()[-64:]) == {"refusals_0"}


@pytest.mark.parametrize("length", [b"9" * 6000, b"1, 1", b"-1", b"x", b""])
def test_an_invalid_content_length_affects_only_its_own_request(
    tiny_bundle: Path, tmp_path: Path, length: bytes
) -> None:
    """An invalid Content-Length, or one of thousands of digits, leaves the worker as it was."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        (before,) = workers(server)
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
            assert client.recv(100).startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
        assert server.request("GET", "/health/live").status == 200
        assert workers(server) == [before]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nX-API-Key sekret\r\n\r\n", b"400 Bad Request"),
        (b"sekret sekret\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"sekret" * 1000 + b" HTTP/1.1\r\n\r\n", b"414 URI Too Long"),
    ],
)
def test_malformed_http_gets_a_json_error_and_is_not_logged(
    tiny_bundle: Path, tmp_path: Path, sent: bytes, status: bytes
) -> None:
    """Malformed HTTP gets a JSON error with an id; neither the log nor the reply repeats any of it."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(sent)
            reply = whole(client)
        head, _, body = reply.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        error = json.loads(body)
        assert (error["error_type"], len(error["request_id"])) == ("BadRequest", 32)
        until(lambda: any("malformed HTTP" in line["message"] for line in server.logged()))
        assert b"X-Content-Type-Options: nosniff\r\n" in head
        assert "sekret" not in server.log.read_text()
        assert b"sekret" not in reply


def test_predictions_under_load_have_the_bits_of_a_text_alone(demo_bundle: Path, tmp_path: Path) -> None:
    """Through HTTP under load, with clients that are late or leave, every 200 has the bits of the text alone."""
    rng = random.Random(0)
    words = ["milk", "huggies", "target", "hand", "bags", "phones", "and", "the", "of", "shoes", "running"]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(60)]
    model = ModelInferer(demo_bundle, batching=False)
    alone = {text: model.predict(text).as_dict() for text in texts}
    with serving(demo_bundle, tmp_path / "log") as server:

        def client(number: int) -> list[tuple[str, int, object]]:
            own = random.Random(number)
            answers = []
            for _ in range(12):
                text = own.choice(texts)
                if own.random() < 0.15:
                    raw(server, json.dumps({"text": text}).encode()).close()
                    continue
                headers = {"x_request_timeout_ms": "3"} if own.random() < 0.2 else {}
                reply = server.predict({"text": text}, **headers)
                answers.append((text, reply.status, reply.json()))
            return answers

        with ThreadPoolExecutor(16) as pool:
            answers = [answer for part in pool.map(client, range(16)) for answer in part]
        assert {status for _, status, _ in answers} <= {200, 503}
        assert all(body == alone[text] for text, status, body in answers if status == 200)
        assert sum(status == 200 for _, status, _ in answers) > 50
        runs, sizes = metric(server, "inferer_batch_size_count"), metric(server, "inferer_batch_size_sum")
        assert sizes > runs, "no run was shared"
