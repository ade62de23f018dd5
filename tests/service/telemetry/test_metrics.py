"""/metrics with one worker and with several, on real gunicorn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from inferer import ModelInferer
from service.app import create_app
from service.settings import Settings
from tests.support.apps import comes_to, metric, until
from tests.support.metrics import NAMES
from tests.support.server import ROOT, Server, serving, workers

TEXTS = ["good", "bad", "bad bad", "good " * 9]  # the last has 11 tokens, of which 8 are read


def ask_everything(server: Server) -> None:
    """Send the requests that `assert_counted` expects."""
    for text in TEXTS:
        assert server.predict({"text": text}).status == 200
    assert server.predict({"texts": TEXTS}).status == 200
    assert server.predict({"text": ""}).status == 422
    assert server.request("GET", "/nowhere/at/all").status == 404
    assert server.request("GET", "//metrics").status == 404


def assert_counted(server: Server, model: ModelInferer) -> None:
    """Assert that each of those requests was counted, once."""
    comes_to(server, 5, "inferer_requests_total", route="/predict", status="200")
    comes_to(server, 1, "inferer_requests_total", route="/predict", status="422")
    comes_to(server, 2, "inferer_requests_total", route="unmatched", status="404")
    comes_to(server, 6, "inferer_request_duration_seconds_count", route="/predict")
    for stage in ("tokenize", "queue", "infer"):
        comes_to(server, 5, "inferer_stage_duration_seconds_count", stage=stage)
    comes_to(server, 4, "inferer_predictions_total", label="pos")
    comes_to(server, 4, "inferer_predictions_total", label="neg")
    comes_to(server, 0, "inferer_predictions_total", label="other")
    comes_to(server, 2, "inferer_truncated_total")
    comes_to(server, 2 * (3 + 3 + 4 + 11), "inferer_input_tokens_sum")
    comes_to(server, 8, "inferer_confidence_count")
    best = 2 * sum(model.predict(text).score for text in TEXTS)
    comes_to(server, pytest.approx(best), "inferer_confidence_sum")
    comes_to(server, 8, "inferer_batch_size_sum")
    comes_to(server, 0, "inferer_in_flight_requests")
    comes_to(server, 0, "inferer_queue_size")
    facts = {"model": "tiny", "scheme": "int8-tensor", "problem_type": "single_label_classification"}
    comes_to(server, 1, "inferer_model_info", **facts)


def test_one_worker_counts_every_request_once(tiny_bundle: Path, model: ModelInferer, tmp_path: Path) -> None:
    """One worker counts requests, texts, labels, tokens and runs once each, and reports its process."""
    with serving(tiny_bundle, tmp_path / "log") as server:
        ask_everything(server)
        assert_counted(server, model)
        assert metric(server, "process_resident_memory_bytes") > 10**7


@pytest.mark.slow
def test_several_workers_are_counted_together(tiny_bundle: Path, model: ModelInferer, tmp_path: Path) -> None:
    """Any of several workers reports the sum over all, a dead one included; the files are removed at the end."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_WORKERS="3") as server:
        until(lambda: len(workers(server)) == 3)
        folder = _folder(server)
        ask_everything(server)
        for _ in range(5):
            assert_counted(server, model)
        os.kill(workers(server)[0], signal.SIGKILL)
        until(lambda: len(workers(server)) == 3)
        assert_counted(server, model)
        assert list(folder.glob("*.db"))
        (folder / "counter_1.db").touch()  # as a worker leaves it in its first moment
        assert_counted(server, model)
    assert not folder.exists()


def test_the_folder_of_a_killed_server_is_removed(tmp_path: Path) -> None:
    """Making a folder removes those of killed servers; those of running servers stay."""
    source = (
        "import sys; from service.process.resources import make_metrics_folder; "
        "print(make_metrics_folder(sys.argv[1]), flush=True); sys.stdin.read()"
    )
    run = [sys.executable, "-c", source, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        servers, folders = [], []
        for number in range(3):
            if number == 2:
                servers[0].kill()
                servers[0].wait()
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            servers.append(stack.enter_context(subprocess.Popen(run, cwd=ROOT, **pipes)))
            folders.append(Path(servers[-1].stdout.readline().strip()))
            if number == 0:
                (tmp_path / "inferer-metrics-unfinished").mkdir()
        assert sorted(tmp_path.iterdir()) == sorted([*folders[1:], tmp_path / "inferer-metrics-unfinished"])


def _folder(server: Server) -> Path:
    """Return the folder that holds the metrics of all workers: it is among the files that a worker has mapped."""
    found: list[Path] = []

    def is_mapped() -> bool:  # only once the worker has loaded
        mapped = Path(f"/proc/{workers(server)[0]}/maps").read_text().split()
        found[:] = [Path(name).parent for name in mapped if "inferer-metrics-" in name]
        return bool(found)

    until(is_mapped)
    return found[0]


def test_every_name_is_there_from_the_start_and_no_other_of_ours(server: Server) -> None:
    """The metrics are those of tests.support.metrics.NAMES, each with help and a type."""
    text = server.request("GET", "/metrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    totals = {family.name + "_total" if family.type == "counter" else family.name for family in families.values()}
    assert {name for name in totals if name.startswith("inferer_")} == NAMES
    assert all(family.documentation for family in families.values())


def test_a_refusal_by_the_view_is_counted(tiny_bundle: Path) -> None:
    """A request that the view refuses, as others hold the memory, is counted as overloaded."""
    settings = Settings(max_in_flight_bytes=1_000_000)
    app = create_app(settings, ModelInferer(tiny_bundle, intra_op_threads=1))
    state = app.extensions["inferer"]
    texts = {"texts": ["good" * 10_000]}
    with state.capacity.memory(160_000) as other:
        assert other.counted == 960_000
        with app.test_client().post("/predict", json=texts) as reply:
            assert reply.status_code == 429
            assert "requests in flight hold the memory that they may, 1000000 bytes" in reply.json["error"]
    assert b'inferer_rejected_total{reason="overloaded"} 1.0' in state.metrics.exposition("")[0]
    with app.test_client().post("/predict", json=texts) as reply:
        assert reply.status_code == 200
    with state.capacity.memory(1_000_000) as alone:  # more than all may hold together, but alone
        assert alone.counted == 6_000_000


def test_open_metrics_on_request(server: Server) -> None:
    """With an Accept header for OpenMetrics the reply parses as OpenMetrics."""
    reply = server.request("GET", "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(reply.body.decode())} >= {"inferer_requests", "inferer_batch_size"}


def test_metrics_need_the_key_and_health_does_not(tiny_bundle: Path, tmp_path: Path) -> None:
    """With a key set, /metrics needs it, in a header that Prometheus can send."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="first,second") as server:
        assert server.request("GET", "/metrics").status == 401
        assert server.request("GET", "/metrics", authorization="Bearer second").status == 200
        assert server.request("GET", "/health/ready").status == 200


def test_docs_name_every_metric() -> None:
    """docs/run.md explains each metric."""
    text = (ROOT / "docs" / "run.md").read_text()
    assert not {name for name in NAMES if f"`{name}" not in text}
