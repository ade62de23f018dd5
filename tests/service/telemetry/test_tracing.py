"""Traces: a real gunicorn, and a real receiver of OTLP over HTTP on loopback."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.process.startup import OTLP_VERSION
from service.settings import SettingsError, from_env
from tests.service.process.test_operation import SLOW_APP
from tests.service.telemetry.collector import Collector, attributes, collecting
from tests.support.apps import until
from tests.support.load import Plan, run_in_child
from tests.support.server import ROOT, Server, all_ready, run_to_end, serving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["tokenize", "queue", "infer"]
TEXT = "good plain unmistakable"


@contextmanager
def traced(bundle: Path, log: Path, **settings: str) -> Iterator[tuple[Server, Collector]]:
    """Run a service that sends its traces to a receiver."""
    with collecting() as collector:
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **settings}
        with serving(bundle, log, **given) as server:
            yield server, collector


def sent_by(server: Server, name: str) -> str:
    """Return the trace id in the log line of the request with the id `name`."""

    def found() -> list[str]:
        return [line["trace_id"] for line in server.logged() if line.get("request_id") == name]

    until(lambda: len(found()) == 1)
    return found()[0]


def trace_of(collector: Collector, trace_id: str) -> tuple[Span, list[Span]]:
    """Return the span of a request, and those of its stages in the order of time, once they have arrived."""
    until(lambda: trace_id in collector.traces)
    spans = collector.traces[trace_id]
    (root,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    stages = sorted((span for span in spans if span is not root), key=lambda span: span.start_time_unix_nano)
    return root, stages


@pytest.mark.slow
def test_a_request_is_a_span_with_one_for_each_stage(shared_bundle: Path, tmp_path: Path) -> None:
    """The spans continue the caller's trace, have its stages in order within the request, and never a text."""
    before = time.time_ns()
    names = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    with traced(shared_bundle, tmp_path / "log", **names) as (server, collector):
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=x1", "x_request_id": "mine-1"}
        assert server.predict({"texts": [TEXT, "bad " * 9]}, **headers).status == 200
        assert sent_by(server, "mine-1") == TRACE
        root, stages = trace_of(collector, TRACE)
    assert (root.name, root.parent_span_id.hex(), root.trace_state) == ("POST /predict", CALLER, "vendor=x1")
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/predict",
        "url.path": "/predict",
        "url.scheme": "http",
        "inferer.request_id": "mine-1",
        "inferer.texts": 2,
        "inferer.tokens": 16,
        "inferer.truncated": 1,
        "inferer.labels": ["pos", "neg"],
    }
    assert [span.name for span in stages] == STAGES
    assert {span.parent_span_id for span in stages} == {root.span_id}
    assert len({span.span_id for span in (root, *stages)}) == 4
    assert attributes(stages[2])["inferer.run.texts"] == 2
    times = [time for span in stages for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert before < root.start_time_unix_nano < times[0]
    assert times[-1] < root.end_time_unix_nano < time.time_ns()
    assert all(first <= second + 1000 for first, second in pairwise(times))  # clocks are rounded
    (path, _, body), *_ = collector.requests
    assert path == "/v1/traces"
    assert b"unmistakable" not in body
    resource = attributes(collector.groups[0].resource)
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("mine", "test")


@pytest.mark.slow
def test_every_request_of_a_load_arrives_as_one_trace(shared_bundle: Path, tmp_path: Path) -> None:
    """With 32 clients and two workers each request has a trace of four spans, the last ones sent at the stop."""
    bodies = [json.dumps({"text": f"good {number}"}).encode() for number in range(100)]
    with traced(shared_bundle, tmp_path / "log", INFERER_WORKERS="2") as (server, collector):
        all_ready(server, 2)
        result = run_in_child(Plan(server.port, 32, 60, bodies, requests=3000))
        assert result.statuses == {200: 3000}
        assert server.stop() == 0
        traces = collector.traces
    assert len(traces) == 3000
    assert all(sorted(span.name for span in spans) == sorted(["POST /predict", *STAGES]) for spans in traces.values())
    assert len({attributes(group.resource)["service.instance.id"] for group in collector.groups}) == 2
    shared = [attributes(span).get("inferer.run.texts", 0) for spans in traces.values() for span in spans]
    assert max(shared) > 1  # callers shared runs


@pytest.mark.slow
def test_refusals_and_failures_are_traced_and_probes_are_not(tiny_bundle: Path, tmp_path: Path) -> None:
    """Errors have spans without stages, the service's own errors are marked, and no probe has a span."""
    (tmp_path / "slow_app.py").write_text(SLOW_APP.format(root=str(ROOT)))
    setting = {"PYTHONPATH": str(tmp_path), "app": "slow_app:app"}
    with traced(tiny_bundle, tmp_path / "log", **setting) as (server, collector):
        for path in ("/health/ready", "/health/live", "/metrics", "/v2/health/ready"):
            assert server.request("GET", path).status == 200
        assert server.predict({"text": ""}, x_request_id="empty").status == 422
        assert server.predict({"text": "bug"}, x_request_id="bug").status == 500
        assert server.request("BREW", "/no/where", x_request_id="brew").status == 404
        roots = {name: trace_of(collector, sent_by(server, name)) for name in ("empty", "brew")}
        (failed,) = {line["trace_id"] for line in server.logged() if line.get("request_id") == "bug"}  # two lines
        roots["bug"] = trace_of(collector, failed)
        assert server.stop() == 0
    assert all(stages == [] for _, stages in roots.values())
    facts = {name: (root.name, root.status.code, attributes(root)) for name, (root, _) in roots.items()}
    assert {name: (called, code, values.get("error.type")) for name, (called, code, values) in facts.items()} == {
        "empty": ("POST /predict", Status.STATUS_CODE_UNSET, None),
        "bug": ("POST /predict", Status.STATUS_CODE_ERROR, "500"),
        "brew": ("_OTHER", Status.STATUS_CODE_UNSET, None),
    }
    assert len(collector.traces) == 3


@pytest.mark.slow
def test_repeated_texts_and_many_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    """Answers from the cache need no stages; a request of many runs has two spans for each."""
    settings = {"INFERER_CACHE_BYTES": "1000000", "INFERER_MAX_BATCH_TOKENS": "8"}
    with traced(tiny_bundle, tmp_path / "log", **settings) as (server, collector):
        for name in ("first", "again"):
            server.predict({"texts": ["good", "bad good good good"]}, x_request_id=name)
        first, again = (trace_of(collector, sent_by(server, name)) for name in ("first", "again"))
    assert [span.name for span in first[1]] == ["tokenize", "queue", "infer", "queue", "infer"]
    assert [attributes(root)["inferer.cached"] for root, _ in (first, again)] == [0, 2]
    assert again[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "flags", "is_sent"),
    [("parentbased_always_on", "00", False), ("always_off", "01", False), ("always_on", "00", True)],
)
def test_sampling(tiny_bundle: Path, tmp_path: Path, sampler: str, flags: str, is_sent: bool) -> None:
    """The caller's decision or the sampler's decides; the log has the trace id either way."""
    with traced(tiny_bundle, tmp_path / "log", OTEL_TRACES_SAMPLER=sampler) as (server, collector):
        server.predict({"text": "good"}, traceparent=f"00-{TRACE}-{CALLER}-{flags}", x_request_id="mine")
        assert sent_by(server, "mine") == TRACE
        metrics = server.request("GET", "/metrics", accept="application/openmetrics-text").body.decode()
        assert server.stop() == 0
    assert (set(collector.traces) == {TRACE}) == is_sent
    assert (TRACE in metrics) == is_sent
    assert is_sent or not collector.requests


@pytest.mark.slow
def test_exemplars_only_in_openmetrics(tiny_bundle: Path, tmp_path: Path) -> None:
    """The durations point at a trace where the scraper asks for OpenMetrics; the plain format has none."""
    with traced(tiny_bundle, tmp_path / "log") as (server, _):
        server.predict({"text": "good"}, traceparent=f"00-{TRACE}-{CALLER}-01")
        until(lambda: TRACE in server.request("GET", "/metrics", accept="application/openmetrics-text").body.decode())
        assert TRACE not in server.request("GET", "/metrics").body.decode()


@contextmanager
def hanging() -> Iterator[str]:
    """Listen and never reply; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """Yield the address of a port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def failing() -> Iterator[str]:
    """Answer every batch with 500; yields the address."""
    with collecting(500) as collector:
        yield collector.url


@pytest.mark.slow
@pytest.mark.parametrize("broken", [hanging, refusing, failing])
def test_a_broken_collector_costs_no_request(tiny_bundle: Path, tmp_path: Path, broken: Any) -> None:
    """With a collector that hangs, refuses or fails all requests are answered, and a stop takes seconds."""
    with broken() as url:
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "2", **small}
        with serving(tiny_bundle, tmp_path / "log", **settings) as server:
            result = run_in_child(Plan(server.port, 8, 60, [b'{"text":"good"}'], requests=500))
            assert result.statuses == {200: 500}
            assert max(result.latencies_ms[200]) < 2000
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.stop() == 0
            assert time.monotonic() - started < 15
            lines = server.logged()  # each is JSON
    told = [line["message"] for line in lines if line["logger"].startswith("opentelemetry")]
    assert any("Queue full" in message for message in told)


@pytest.mark.slow
def test_without_tracing_nothing_of_opentelemetry_is_imported(tiny_bundle: Path) -> None:
    """Without OTEL_*, and with OTEL_TRACES_EXPORTER=none, a served request imports no module of OpenTelemetry."""
    code = (
        "import sys\n"
        "from app import app\n"
        "headers = {'traceparent': '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'}\n"
        "assert app.test_client().post('/predict', json={'text': 'good'}, headers=headers).status_code == 200\n"
        "print(sorted(name for name in sys.modules if 'opentelemetry' in name))\n"
    )
    off = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    for given in ({}, off):
        done = run_to_end(sys.executable, "-c", code, INFERER_BUNDLE=str(tiny_bundle), **given)
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("given", "is_on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "no URL"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_when_tracing_is_on(given: dict[str, str], is_on: bool) -> None:
    """An exporter or an endpoint turns it on; "none" and a disabled SDK turn it off, and nothing else is read then."""
    assert from_env(given).tracing == is_on


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "expected one of otlp, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "expected one of http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "expected a URL such as http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "expected one of none, gzip, deflate"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "expected a whole number"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/where", "expected a file"),
        ("OTEL_PROPAGATORS", "b3", "expected some of tracecontext, baggage, none"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "10", "expected a number from 0 to 1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "expected a whole number"),
    ],
)
def test_wrong_variables_are_named(name: str, value: str, expected: str) -> None:
    """A variable with a wrong value is named with its value and the expected ones."""
    with pytest.raises(SettingsError, match=re.escape(f"{name}: {value!r} is not allowed; ")) as error:
        from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", name: value})
    assert expected in str(error.value)


def test_headers_for_the_collector_are_a_secret() -> None:
    """Malformed headers, which may hold a token, are refused without their value."""
    given = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_HEADERS": "Bearer s3cret"}
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_HEADERS: the value is not allowed") as error:
        from_env(given)
    assert "s3cret" not in str(error.value)


def test_a_batch_larger_than_the_queue_is_refused() -> None:
    """A batch that the queue can never hold is refused in a sentence."""
    given = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    with pytest.raises(SettingsError, match="OTEL_BSP_MAX_EXPORT_BATCH_SIZE: 512 is more than the 100 of"):
        from_env(given)


def test_the_version_is_the_tested_one_everywhere() -> None:
    """startup.py, the locked set and the extra name the same version: spans.py uses a private part of the exporter."""
    name = f"opentelemetry-exporter-otlp-proto-http=={OTLP_VERSION}"
    assert f"\n{name} " in (ROOT / "requirements_tracing.txt").read_text()
    assert f'"{name}"' in (ROOT / "pyproject.toml").read_text()
