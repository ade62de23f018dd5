"""The process model: gunicorn's settings and hooks.

gunicorn.conf.py hands them to `gunicorn app:app`, and `inferer serve` names this module.
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

from inferer.bundle.reader import read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config
from inferer.errors import InfererError
from service.process import startup
from service.process.connection_counts import ConnectionCounts
from service.process.reload import Reloader
from service.process.resources import limit_malloc_arenas, make_metrics_folder, max_connections
from service.settings import SettingsError, from_env

startup.check_gunicorn()
limit_malloc_arenas()  # before the fork: workers inherit it
try:
    _settings = from_env(os.environ)
    worker_connections = max_connections(_settings.worker_threads)
    startup.check_tls(_settings)
    startup.check_tracing(_settings)
except SettingsError as error:
    startup.exit_cannot_start(error)

bind = startup.address(_settings.host, _settings.port)
if _settings.tls_cert is not None:
    certfile, keyfile = str(_settings.tls_cert), str(_settings.tls_key)
worker_class = "service.process.worker.Worker"  # gthread, with health checks on threads of their own
logger_class = "service.telemetry.logs.ServiceLogger"
workers = _settings.worker_count
threads = _settings.worker_threads
preload_app = False  # each worker creates its own session: the threads of a session do not survive a fork

timeout = 120  # of a worker's main thread; gunicorn does not apply it before the first heartbeat, load_limits.py does
graceful_timeout = 25  # below an orchestrator's usual 30 s; a longer request is cut off when the server stops
keepalive = 75  # above a load balancer's usual 60 s, so that the balancer closes first
backlog = 128  # small: connections in it are reset when the server stops
max_requests = 0  # a recycled worker would load the model again
_memory = "/dev/shm"  # a heartbeat file on a slow disk would stall the worker
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None
control_socket_disable = True  # gunicorn would open it in $HOME, which may be read-only in a container
# Headers for TLS or a path prefix, neither of which gunicorn handles here; a local client could forge them.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
loglevel = "info"
accesslog = None  # service/middleware.py writes one line per request

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it on import, in the workers
_reloader: Reloader | None = None
_connections = ConnectionCounts()


def on_starting(server: Any) -> None:
    """Check the bundle before any worker loads it; convert a PyTorch checkpoint once."""
    global _reloader
    # gunicorn handles signals only after this hook; SIGTERM must also end a conversion.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        folder = bundle_for(_settings.bundle, Config(), cache_dir=_settings.cache_dir)
        read_bundle(folder)
    except InfererError as error:
        startup.exit_cannot_start(error)
    except KeyboardInterrupt:
        server.log.info("told to stop before serving")
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    startup.warn_of_short_keys(server.log, _settings.api_keys)
    _reloader = Reloader(server, _settings.bundle, folder, _settings.load_timeout_s)
    os.environ.pop(_MULTIPROCESS, None)
    if workers > 1:
        os.environ[_MULTIPROCESS] = str(make_metrics_folder(worker_tmp_dir))


def pre_fork(_server: Any, worker: Any) -> None:
    """Give a worker its place among the counts of connections."""
    worker.place = _connections.place(worker)


def post_worker_init(worker: Any) -> None:
    """Log the start, let /health/ready see when this worker drains, and tell the master that it is ready."""
    worker.wsgi.extensions["inferer"].is_draining = lambda: not worker.alive
    startup.log_start(worker)
    worker.notify()  # a reload waits for this first heartbeat
    os.kill(os.getppid(), signal.SIGCHLD)  # wakes the master to look


def worker_exit(_server: Any, worker: Any) -> None:
    """Send the spans that a worker still has."""
    # A worker that could not load has no application.
    state = getattr(getattr(worker, "wsgi", None), "extensions", {}).get("inferer")
    if state is not None and state.tracer is not None:
        state.tracer.close()


def child_exit(_server: Any, worker: Any) -> None:
    """Drop the gauges and the place of a worker that has exited."""
    _connections.free(worker)
    if _MULTIPROCESS in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:
    """Stop a running check of a bundle and remove the metrics folder."""
    if _reloader is not None:
        _reloader.close()
    if _MULTIPROCESS in os.environ:
        shutil.rmtree(os.environ[_MULTIPROCESS], ignore_errors=True)
