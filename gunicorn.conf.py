"""The process model and nothing else: `gunicorn app:app` finds this file by its name."""

import os
import signal

from inferer.bundle import read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config
from inferer.errors import InfererError
from service.settings import SettingsError, from_env
from service.start import cannot_start

try:
    _settings = from_env(os.environ)
except SettingsError as error:
    cannot_start(error)


def _address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = _address(_settings.host, _settings.port)

# Threads: health answers while a model runs, and a long run does not miss the worker's heartbeat.
worker_class = "service.worker.Worker"  # gthread, but for where it closes
workers = _settings.worker_count
threads = _settings.worker_threads
worker_connections = max(1000, 2 * threads)  # gthread keeps connections alive only beyond its threads
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
accesslog = "-"
# Headers that only matter when gunicorn speaks TLS or serves below a prefix; a client on this machine could set them.
forwarder_headers = ""
secure_scheme_headers = {}
access_log_format = "%(m)s %({inferer.path}e)s %(s)s %(B)sB %(M)sms id=%({x-request-id}o)s"
loglevel = "info"


def _interrupt(signum, frame):
    raise KeyboardInterrupt


def on_starting(server):
    """Check the bundle before any worker tries it; a PyTorch checkpoint is converted here, once."""
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


def post_worker_init(worker):
    """Say what is being served, and let /health/ready know when this worker is told to stop."""
    state = worker.wsgi.extensions["inferer"]
    state.is_draining = lambda: not worker.alive
    model, settings = state.inferer, state.settings
    worker.log.info(
        "serving %s: %s, %s, %d labels, %d tokens; %d worker(s) x %d threads, %d onnxruntime thread(s); %s",
        settings.name,
        f"{model.scheme} (exact and slower: {model.exact_because})" if model.exact_because else model.scheme,
        model.problem_type,
        len(model.labels),
        model.max_length,
        settings.worker_count,
        settings.worker_threads,
        model.intra_op_threads,
        model.golden_check,
    )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    key = ' -H "x-api-key: $KEY"' if settings.api_keys else ""
    worker.log.info(
        "try it: curl -s http://%s/predict%s -H 'content-type: application/json' -d '{\"text\": \"huggies\"}'",
        _address(host, settings.port),
        key,
    )
