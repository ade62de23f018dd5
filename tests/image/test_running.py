"""The serving image at work, run as production would: read-only, no capability, no network, bounded memory and CPU."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferer import ModelInferer
from tests.image.container import Container
from tests.image.engine import Podman
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import log_lines

FULL = os.environ.get("SOAK") == "1"
WORDS = ("milk", "huggies", "target", "hand", "bags", "phones", "and", "the", "of", "shoes", "running", "oats")


def model_at(bundle: Path, place: str = "/model") -> str:
    """Return the option that mounts a bundle."""
    return f"--volume={bundle}:{place}:ro"


def ask(container: Container, clients: int, seconds: float, longest: int = 12, path: str = "/predict") -> Result:
    """Load a container from inside its network with texts of 1 to `longest` words."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(64)]
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    within = ("nsenter", "-t", str(container.pid), "-n")
    return run_in_child(Plan(container.port, clients, seconds, bodies, path=path), within)


@pytest.fixture(scope="module")
def running(podman: Podman, image: str, demo_bundle: Path) -> Iterator[Container]:
    """The demo's model on one CPU with 512 MB."""
    with podman.running(image, options=(model_at(demo_bundle), "--cpus=1", "--memory=512m")) as container:
        container.wait_ready()
        yield container


def test_it_answers_with_the_bits_of_the_library(running: Container, demo_bundle: Path) -> None:
    """The container's prediction equals that of ModelInferer outside it, bit for bit."""
    answer = running.predict("huggies").json()
    expected = ModelInferer(demo_bundle, intra_op_threads=1).predict("huggies")
    assert (answer["label"], answer["scores"]) == (expected.label, dict(expected.scores))


def test_it_has_no_rights(running: Container) -> None:
    """Each process runs as user 10001 without any capability, may gain none, and is filtered by seccomp."""
    for pid in running.processes():
        status = running.status(pid)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"


def test_it_needs_no_file_of_its_own(running: Container) -> None:
    """It serves with a read-only root, and writes to /tmp and /dev/shm alone."""
    running.predict("huggies")
    tried = running.podman("exec", running.name, "python", "-c", "open('/app/x', 'w')", check=False)
    assert "Read-only file system" in tried.stderr
    written = running.podman("exec", running.name, "python", "-c", "import os; print(os.listdir('/tmp'))").stdout
    assert written.strip() == "[]"


def test_one_cpu_is_one_run(running: Container) -> None:
    """With --cpus 1 a small model has one run of one thread at a time, and the start line names the limits."""
    line = running.start_line()
    assert (line["cpu_quota"], line["onnxruntime_threads"], line["memory_limit_mb"]) == (1, 1, 512)
    assert line["parallel_runs"] == 1
    assert line["golden_check"].startswith("golden check passed")


def test_two_cpus_are_two_runs(podman: Podman, image: str, tiny_bundle: Path) -> None:
    """With --cpus 2 a small model has two runs side by side: the quota decides, not the machine."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one CPU")
    with podman.running(image, options=(model_at(tiny_bundle), "--cpus=2")) as container:
        container.wait_ready()
        line = container.start_line()
        assert (line["onnxruntime_threads"], line["parallel_runs"]) == (1, 2)


def test_the_healthcheck_fails_when_the_worker_is_frozen(running: Container) -> None:
    """HEALTHCHECK passes, fails while the worker is stopped, and passes again."""
    assert running.healthcheck() == 0
    worker = running.processes()[1]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert running.healthcheck() != 0
    finally:
        os.kill(worker, signal.SIGCONT)
    assert running.healthcheck() == 0


@pytest.mark.parametrize("fault", ["damaged", "absent", "unreadable"])
def test_a_bad_bundle_ends_it_with_one_line(
    podman: Podman, image: str, tiny_bundle: Path, tmp_path: Path, fault: str
) -> None:
    """A damaged, missing or unreadable bundle ends the container with code 3 and one line."""
    options = []
    if fault != "absent":
        bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
        options = [model_at(bundle)]
        weights = bundle / "model_quantized.onnx"
        if fault == "damaged":
            weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
        else:
            weights.chmod(0o600)
    with podman.running(image, options=options) as container:
        assert container.wait_exit() == 3
        lines = log_lines(container.log())
    assert [line["level"] for line in lines if line["level"] != "info"] == ["critical"]
    expected = {"damaged": "model_quantized.onnx is damaged", "absent": "/model", "unreadable": "model_quantized.onnx"}
    assert expected[fault] in lines[-1]["message"]


def test_a_stop_under_load_answers_every_request_that_was_read(podman: Podman, image: str, demo_bundle: Path) -> None:
    """On SIGTERM under load each request already read gets a 200, and the exit code is 0."""
    with podman.running(image, options=(model_at(demo_bundle), "--cpus=1")) as container:
        container.wait_ready()
        results: list[Result] = []
        load = threading.Thread(target=lambda: results.append(ask(container, 16, 6)))
        load.start()
        time.sleep(3)  # time for the load's process to start
        assert container.stop() == 0
        load.join()
        lines = [line for line in log_lines(container.log()) if line.get("route") == "/predict"]
    assert set(results[0].statuses) == {200}
    # The log has each request that was read, and each of these has its reply. The resets had not been read.
    assert results[0].statuses[200] == len(lines) > 0


def test_little_memory_is_enough_for_texts_of_all_lengths(podman: Podman, image: str, demo_bundle: Path) -> None:
    """With 300 MB MiniLM serves many clients with texts from one word to thousands, and is not killed."""
    options = (model_at(demo_bundle), "--memory=300m", "--memory-swap=300m", "--cpus=1")
    with podman.running(image, options=options) as container:
        container.wait_ready()
        result = ask(container, 16, 600 if FULL else 15, longest=400)
        assert container.state()["OOMKilled"] is False
        assert set(result.statuses) <= {200, 429, 503}
        assert result.statuses[200] > 0
        assert (result.resets, result.unanswered) == (0, 0)
        assert container.predict("huggies").status == 200
        assert len([line for line in log_lines(container.log()) if line["message"].startswith("serving ")]) == 1


def test_sagemaker_starts_it_by_serve(podman: Podman, image: str, tiny_bundle: Path) -> None:
    """With the command `serve` it serves the bundle at /opt/ml/model by SageMaker's two routes, and stops with 0."""
    with podman.running(image, "serve", options=(model_at(tiny_bundle, "/opt/ml/model"),)) as container:
        container.wait_ready()
        assert container.request("GET", "/ping").status == 200
        assert container.request("POST", "/invocations", {"text": "good"}).json()["label"] == "pos"
        assert container.stop() == 0


def test_vertex_ai_chooses_port_and_routes(podman: Podman, image: str, tiny_bundle: Path) -> None:
    """AIP_* decide port and routes, and HEALTHCHECK asks on that port."""
    given = {"AIP_HTTP_PORT": "9090", "AIP_PREDICT_ROUTE": "/ask", "AIP_HEALTH_ROUTE": "/well"}
    options = (model_at(tiny_bundle), *(f"--env={name}={value}" for name, value in given.items()))
    with podman.running(image, options=options) as started:
        container = Container(podman, started.name, port=9090)
        container.wait_ready()
        assert container.request("GET", "/well").status == 200
        assert container.request("POST", "/ask", {"instances": ["good"]}).json()["predictions"][0]["label"] == "pos"
        assert container.healthcheck() == 0


def test_any_user_may_run_it(podman: Podman, image: str, tiny_bundle: Path) -> None:
    """It serves as an arbitrary user, as on OpenShift."""
    with podman.running(image, options=(model_at(tiny_bundle), "--user=1234567:0")) as container:
        container.wait_ready()
        assert container.predict("good").status == 200


def test_several_workers_count_together(podman: Podman, image: str, tiny_bundle: Path) -> None:
    """Two workers with a read-only root share their metrics, on /dev/shm."""
    options = (model_at(tiny_bundle), "--env=INFERER_WORKERS=2", "--env=INFERER_INTRA_OP_THREADS=1")
    with podman.running(image, options=options) as container:
        container.wait_ready()
        for _ in range(8):
            assert container.predict("good").status == 200
        counted = container.request("GET", "/metrics").body.decode()
    assert 'inferer_requests_total{route="/predict",status="200"} 8.0' in counted
