"""The process model and nothing else: `gunicorn app:app` finds this file by its name."""

import os
import shutil
import signal

from inferer.bundle.reader import read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config
from inferer.cpu import cpu_quota, instruction_flags
from inferer.errors import InfererError
from inferer.memory import memory_limit, resident_memory
from service.logs import fields
from service.process import metrics_folder
from service.process.connection_limit import connections
from service.process.reload import Bundles
from service.process.startup import cannot_start
from service.settings import SettingsError, from_env

try:
    _settings = from_env(os.environ)
    worker_connections = connections(_settings.worker_threads)
except SettingsError as error:
    cannot_start(error)


def _address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = _address(_settings.host, _settings.port)

# Threads: health answers while a model runs, and a long run does not miss the worker's heartbeat.
worker_class = "service.process.worker.Worker"  # gthread, with health checks on threads of their own
logger_class = "service.logs.ServiceLogger"
workers = _settings.worker_count
threads = _settings.worker_threads
# Each worker makes its own session after the fork: a session's threads do not survive one.
preload_app = False

timeout = 120  # above loading; a gthread worker keeps its heartbeat while a request runs
graceful_timeout = 25  # below an orchestrator's usual 30 s; a longer request is cut off when the server stops
keepalive = 75  # above a load balancer's usual 60 s idle time, so that it closes first
backlog = 128  # what is in it when the server stops is reset, so it is kept small
max_requests = 0  # a recycled worker would load the model again
_memory = "/dev/shm"  # a heartbeat file on a slow disk would stall the worker
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None
control_socket_disable = True  # it would be opened in $HOME, which a container may not write to
# Headers that only matter when gunicorn speaks TLS or serves below a prefix; a client on this machine could set them.
forwarder_headers = ""
secure_scheme_headers = {}
loglevel = "info"
accesslog = None  # service/middleware.py writes a line a request


_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported, in the workers
_bundles = None


def _interrupt(signum, frame):
    raise KeyboardInterrupt


def on_starting(server):
    """Check the bundle before any worker tries it; a PyTorch checkpoint is converted here, once."""
    global _bundles
    # gunicorn takes up signals only after this; a conversion must not outlive a server told to stop.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        folder = bundle_for(_settings.bundle, Config(), cache_dir=_settings.cache_dir)
        read_bundle(folder)
    except InfererError as error:
        cannot_start(error)
    except KeyboardInterrupt:
        server.log.info("told to stop before serving")
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    _bundles = Bundles(server, _settings, folder)
    os.environ.pop(_MULTIPROCESS, None)
    if workers > 1:  # a fresh folder: what an earlier server counted is not ours
        os.environ[_MULTIPROCESS] = str(metrics_folder.make(worker_tmp_dir))


def child_exit(server, worker):
    """Forget the gauges of a worker that is no more."""
    if _MULTIPROCESS in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def on_exit(server):
    """Remove the metrics' folder."""
    if _MULTIPROCESS in os.environ:
        shutil.rmtree(os.environ[_MULTIPROCESS], ignore_errors=True)


def post_worker_init(worker):
    """Say what is being served, and let /health/ready know when this worker is told to stop."""
    state = worker.wsgi.extensions["inferer"]
    state.is_draining = lambda: not worker.alive
    model, settings = state.inferer, state.settings
    quota, limit = cpu_quota(), memory_limit()
    facts = {
        "model": settings.name,
        "bundle": str(settings.bundle),
        "scheme": model.scheme,
        "exact_because": model.exact_because,
        "problem_type": model.problem_type,
        "labels": len(model.labels),
        "max_length": model.max_length,
        "batching": "on" if model.batcher.shared else model.alone_because,
        "workers": settings.worker_count,
        "threads": settings.worker_threads,
        "onnxruntime_threads": model.intra_op_threads,
        "cpu_quota": quota,
        "cpu_flags": list(instruction_flags()),
        "memory_mb": resident_memory() // 2**20,
        "memory_limit_mb": None if limit is None else limit // 2**20,
        "golden_check": str(model.golden_check),
    }
    worker.log.info(
        "serving %s: %s, %s, %d labels, %d tokens; batching %s; %d worker(s) x %d threads, %d onnxruntime thread(s); "
        "CPU quota %s, %s; memory %d MB of %s; %s",
        settings.name,
        f"{model.scheme} (exact and slower: {model.exact_because})" if model.exact_because else model.scheme,
        model.problem_type,
        len(model.labels),
        model.max_length,
        "on" if model.batcher.shared else f"off ({model.alone_because})",
        settings.worker_count,
        settings.worker_threads,
        model.intra_op_threads,
        "none" if quota is None else f"{quota:g}",
        " ".join(instruction_flags()) or "no int8 flags known",
        facts["memory_mb"],
        "no limit" if limit is None else f"{limit // 2**20} MB",
        model.golden_check,
        extra=fields(**facts),
    )
    _bundles.worker_has_booted()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    key = ' -H "x-api-key: $KEY"' if settings.api_keys else ""
    worker.log.info(
        "try it: curl -s http://%s/predict%s -H 'content-type: application/json' -d '{\"text\": \"huggies\"}'",
        _address(host, settings.port),
        key,
    )
