"""The servers of the comparison: command, environment and settings of each, with one and with two workers.

A server gets the settings that its documents recommend, its log goes to a file with a line per request where it has
such a log, and the threads of its runtime share the cores between the workers. `best of` its variants counts.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.environments import FOLDER, MissingError, last_line, python_of, size
from inferer.cpu import available_cpus
from tests.support.server import ROOT, environment, free_port

INSIDE = Path(__file__).with_name("inside")
OURS = "ours"
START_TIMEOUT_S = 120
_RESUME_S = 0.3
_SETTLE_S, _SETTLE_TIMEOUT_S = 0.2, 30
LEAST_FREE_BYTES = 2_000_000_000
# No server refuses a request: ours answers 429 beyond its cap, by default of 64, while the others let clients wait.
# A worker that is stopped between two loads is not dead.
_CAP = {"INFERER_MAX_IN_FLIGHT": "160", "GUNICORN_CMD_ARGS": "--timeout 100000"}


@dataclass(frozen=True)
class Peer:
    """One server. command: from python, port and workers; files: what of a model it loads, for the size on disk."""

    environment: str
    command: Callable[[str, int, int], list[str]]
    files: tuple[str, ...]
    variants: dict[str, dict[str, str]]
    convert: str | None = None  # its own format, made by benchmarks.peers.models
    path: str = "/predict"
    body: Callable[[str], object] = field(default=lambda text: {"text": text})
    answer: Callable[[Any], dict[str, Any]] = field(default=lambda reply: reply)
    cwd: Path = INSIDE


def _gunicorn(app: str) -> Callable[[str, int, int], list[str]]:
    options = ["--worker-class", "gthread", "--threads", "32", "--keep-alive", "75", "--access-logfile", "-"]
    options += ["--timeout", "0"]  # a worker that is stopped between two loads is not dead
    return lambda python, port, workers: [
        *(python, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--workers", str(workers), *options)
    ]


def _uvicorn(python: str, port: int, workers: int) -> list[str]:
    app = "fastapi_optimum:app"
    return [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]


def _bentoml(python: str, port: int, _: int) -> list[str]:
    return [python, "-m", "bentoml", "serve", "bento:Classifier", "--host", "127.0.0.1", "--port", str(port)]


def variants_on(cpus: int) -> dict[str, dict[str, str]]:
    """Return the variants of a server: one worker with a thread per run, one with all cores per run, two workers."""
    return {
        "1 worker": {"WORKERS": "1", "THREADS": "1"},
        "1 worker, all threads": {"WORKERS": "1", "THREADS": str(cpus)},
        "2 workers": {"WORKERS": "2", "THREADS": str(max(1, cpus // 2))},
    }


_VARIANTS = variants_on(available_cpus())
# OpenVINO has hints for the same: runs side by side, or one run with all threads.
_OPENVINO = {
    "1 worker": {**_VARIANTS["1 worker, all threads"], "HINT": "THROUGHPUT"},
    "1 worker, all threads": {**_VARIANTS["1 worker, all threads"], "HINT": "LATENCY"},
    "2 workers": {**_VARIANTS["2 workers"], "HINT": "LATENCY"},
}
_LOADED = ("checkpoint/tokenizer.json", "ort_int8.onnx")

PEERS: dict[str, Peer] = {
    OURS: Peer(
        "ours",
        lambda python, _port, _workers: [python, "-m", "gunicorn", "app:app"],
        ("bundle",),
        {
            "1 worker": {"INFERER_WORKERS": "1", **_CAP},
            "2 workers": {"INFERER_WORKERS": "2", **_CAP},
        },
        cwd=ROOT,
    ),
    "ours, batching off": Peer(
        "ours",
        lambda python, _port, _workers: [python, "-m", "gunicorn", "app:app"],
        ("bundle",),
        {
            "1 worker": {"INFERER_WORKERS": "1", "INFERER_BATCHING": "off", **_CAP},
            "2 workers": {"INFERER_WORKERS": "2", "INFERER_BATCHING": "off", **_CAP},
        },
        cwd=ROOT,
    ),
    "Flask + ORT int8": Peer("flask", _gunicorn("flask_ort:app"), _LOADED, _VARIANTS),
    "Flask + transformers": Peer("pipeline", _gunicorn("flask_pipeline:app"), ("checkpoint",), _VARIANTS),
    "FastAPI + Optimum int8": Peer("optimum", _uvicorn, ("optimum",), _VARIANTS, convert="optimum"),
    "LitServe": Peer("litserve", lambda python, _port, _workers: [python, "lit.py"], _LOADED, _VARIANTS),
    "BentoML": Peer(
        *("bentoml", _bentoml, _LOADED, _VARIANTS),
        body=lambda text: {"text": [text]},
        answer=lambda reply: reply[0],
    ),
    "MLServer": Peer(
        "mlserver",
        lambda python, _port, _workers: [str(Path(python).with_name("mlserver")), "start", "."],
        _LOADED,
        _VARIANTS,
        path="/v2/models/classifier/infer",
        body=lambda text: {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]},
        answer=lambda reply: json.loads(reply["outputs"][0]["data"][0]),
    ),
    "Flask + OpenVINO": Peer(
        *("openvino", _gunicorn("flask_openvino:app"), ("checkpoint/tokenizer.json", "openvino"), _OPENVINO),
        convert="openvino",
    ),
}


@dataclass
class Running:
    """A server that answers. start_s: from its start to its first answer; answers: to the texts it was asked first."""

    peer: Peer
    port: int
    process: psutil.Process
    start_s: float
    answers: list[dict[str, Any]]

    @property
    def url(self) -> str:
        """Return the address of its question."""
        return f"http://127.0.0.1:{self.port}{self.peer.path}"

    def tree(self) -> list[psutil.Process]:
        """Return its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU seconds of its processes so far."""
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pause(self) -> None:
        """Stop its processes: an idle server polls, and takes time from the one that has load."""
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def resume(self) -> None:
        """Let it go on, workers first: a parent that wakes before them would find them without a sign of life."""
        parent, *children = self.tree()
        for process in (*children, parent):
            if process == parent:
                time.sleep(_RESUME_S)
            with contextlib.suppress(psutil.Error):
                process.resume()

    def settle(self) -> None:
        """Return once it rests: clients that are gone leave requests behind, which would slow the next server."""
        end = time.monotonic() + _SETTLE_TIMEOUT_S
        before = self.cpu_s()
        while time.monotonic() < end:
            time.sleep(_SETTLE_S)
            now = self.cpu_s()
            if now - before <= _SETTLE_S / 10:
                return
            before = now

    def memory(self) -> dict[str, int]:
        """Return the memory of its processes: pss shares out common pages, rss counts them in each process."""
        pss = rss = 0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                found = process.memory_full_info()
                pss, rss = pss + found.pss, rss + found.rss
        return {"pss_bytes": pss, "rss_bytes": rss}


@contextlib.contextmanager
def running(name: str, variant: str, folder: Path, texts: list[str], log: Path) -> Iterator[Running]:
    """Run a server on the model in `folder` until the block ends; raise MissingError where it does not answer."""
    peer = PEERS[name]
    if psutil.virtual_memory().available < LEAST_FREE_BYTES:
        raise MissingError(f"{name}, {variant}: fewer than {LEAST_FREE_BYTES / 1e9:g} GB of memory are free")
    port = free_port()
    settings = dict(peer.variants[variant])
    workers = int(settings.get("WORKERS", "1"))
    python = python_of(peer.environment)
    if name.startswith(OURS):
        settings |= {"INFERER_BUNDLE": str(folder / "bundle"), "INFERER_LOG_FORMAT": "json"}
    else:
        settings["PYTHONPATH"] = str(INSIDE)
    cwd = peer.cwd
    if name == "MLServer":
        cwd = _mlserver_folder(port, workers)
    env = environment(MODEL=str(folder), PORT=str(port), HF_HUB_OFFLINE="1", BENTOML_DO_NOT_TRACK="true", **settings)
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(peer.command(python, port, workers), cwd=cwd, env=env, stdout=out, stderr=out)
    try:
        first = _first_answer(peer, port, texts[0], process, log, f"{name}, {variant}")
        start_s = time.monotonic() - began
        answers = [first, *(ask(peer, port, text) for text in texts[1:])]
        server = Running(peer, port, psutil.Process(process.pid), start_s, answers)
        try:
            yield server
        finally:
            server.resume()
    finally:
        _stop(process)


def _mlserver_folder(port: int, workers: int) -> Path:
    """Return a folder with MLServer's settings; one worker is in the server's own process, as its documents advise."""
    folder = FOLDER / "mlserver-settings" / str(port)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings |= {"parallel_workers": workers if workers > 1 else 0, "metrics_dir": str(folder)}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "classifier", "implementation": "ml_server.Classifier", "max_batch_size": 32}
    (folder / "model-settings.json").write_text(json.dumps(model | {"max_batch_time": 0.005}))
    return folder


def ask(peer: Peer, port: int, text: str) -> dict[str, Any]:
    """Return the answer to one text: the label and the score of each."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            *("POST", peer.path, json.dumps(peer.body(text)).encode(), {"Content-Type": "application/json"})
        )
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise HTTPException(f"{reply.status}: {body[:200].decode(errors='replace')}")
    return peer.answer(json.loads(body))


def _first_answer(
    peer: Peer, port: int, text: str, process: subprocess.Popen[bytes], log: Path, name: str
) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    said = "it did not listen"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = f"it ended with {process.returncode}: {last_line(log.read_text(errors='replace'))}"
            break
        try:
            return ask(peer, port, text)
        except (OSError, HTTPException) as error:
            said = str(error) or type(error).__name__
            time.sleep(0.05)
    raise MissingError(f"{name} does not start: {said}; its log is {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.kill()
    process.wait()


def disk_bytes(name: str, folder: Path) -> int:
    """Return the size of a server's environment and of the files of its model."""
    peer = PEERS[name]
    files = [folder / file for file in peer.files if (folder / file).exists()]
    own = 0
    if name.startswith(OURS):
        own = sum(size(ROOT / part) for part in ("inferer", "service"))
    return size(FOLDER / peer.environment) + sum(map(size, files)) + own
