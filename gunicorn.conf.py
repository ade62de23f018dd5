"""The process model and nothing else: `gunicorn app:app` finds this file by its name."""

import os
import sys

from inferer.bundle import read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config
from inferer.errors import InfererError
from service.settings import SettingsError, from_env

_CANNOT_START = 3


def _stop(problem):
    print(f"inferer: cannot start: {problem}", file=sys.stderr)
    raise SystemExit(_CANNOT_START)


try:
    _settings = from_env(os.environ)
except SettingsError as error:
    _stop(error)

bind = f"{_settings.host}:{_settings.port}" if ":" not in _settings.host else f"[{_settings.host}]:{_settings.port}"

# Threads: health answers while a model runs, and a long run does not miss the worker's heartbeat.
worker_class = "gthread"
workers = _settings.worker_count
threads = _settings.worker_threads
# Each worker makes its own session after the fork: a session's threads do not survive one.
preload_app = False

timeout = 120  # above loading plus the longest request
graceful_timeout = 25  # below an orchestrator's usual 30 s
keepalive = 75  # above a load balancer's usual 60 s idle time, so that it closes first
backlog = 128  # what is in it when the server stops is reset, so it is kept small
max_requests = 0  # a recycled worker would load the model again
_memory = "/dev/shm"  # a heartbeat file on a slow disk would stall the worker
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None
control_socket_disable = True  # it would be opened in $HOME, which a container may not write to
accesslog = "-"
access_log_format = "%(m)s %(U)s %(s)s %(B)sB %(M)sms id=%({x-request-id}o)s"
loglevel = "info"


def on_starting(server):
    """Check the bundle before any worker tries it; a PyTorch checkpoint is converted here, once."""
    try:
        folder = bundle_for(_settings.bundle, Config(), cache_dir=_settings.cache_dir)
        read_bundle(folder)
    except InfererError as error:
        _stop(error)


def post_worker_init(worker):
    """Say what is being served, and let /health/ready know when this worker is told to stop."""
    state = worker.wsgi.extensions["inferer"]
    state.is_draining = lambda: not worker.alive
    model, settings = state.inferer, state.settings
    worker.log.info(
        "serving %s: %s, %s, %d labels, %d tokens; %d worker(s) x %d threads, %d onnxruntime thread(s)",
        settings.name,
        model.scheme,
        model.problem_type,
        len(model.labels),
        model.max_length,
        settings.worker_count,
        settings.worker_threads,
        model.intra_op_threads,
    )
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    worker.log.info(
        "try it: curl -s http://%s:%d/predict -H 'content-type: application/json' -d '{\"text\": \"huggies\"}'",
        host,
        settings.port,
    )
