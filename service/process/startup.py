"""Start-up of master and workers: the supported gunicorn, exit with one line on failure, and the start lines."""

from __future__ import annotations

import json
import logging
import shlex
import ssl
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from gunicorn import __version__ as installed_gunicorn

from inferer.cpu import available_cpus, cpu_quota, instruction_flags
from inferer.tokens.texts import SIDES, sides_of
from service.process.resources import memory_limit, process_limits, resident_memory
from service.settings import Settings, SettingsError
from service.telemetry.logs import fields, one_line

# worker.py and reload.py change undocumented parts of gunicorn; 26.2, 26.0 and 25.3 let pipelined requests hang.
GUNICORN_VERSION = "27.0.1"
# spans.py sends by a private part of the exporter.
OTLP_VERSION = "1.45.2"

# For the rest: onnxruntime, the log, the exit timer.
_SPARE_THREADS = 4 + available_cpus()

# A shorter key can be guessed: 22 random characters of base64 have 128 bits, and these have at least 64.
_KEY_CHARACTERS = 16


def exit_cannot_start(problem: object) -> NoReturn:
    """Log `problem` in one line and exit with code 3."""
    # Not through logging: the settings of the log may be the problem.
    print(one_line(logging.CRITICAL, f"cannot start: {problem}"), file=sys.stderr)
    raise SystemExit(3) from None  # gunicorn's own code for "a worker could not boot": the master stops


def check_gunicorn() -> None:
    """Exit unless the installed gunicorn is the tested one."""
    if installed_gunicorn != GUNICORN_VERSION:
        exit_cannot_start(
            f"gunicorn {installed_gunicorn} is installed; this service needs gunicorn=={GUNICORN_VERSION}"
        )


def warn_of_short_keys(log: Any, keys: Sequence[str]) -> None:
    """Log a warning if one of `keys` is short enough to be guessed."""
    if short := sum(len(key) < _KEY_CHARACTERS for key in keys):
        log.warning(
            f"INFERER_API_KEYS: {short} of {len(keys)} keys have fewer than {_KEY_CHARACTERS} characters and can be "
            "guessed; `openssl rand -hex 32` makes a good one"
        )


def try_threads(count: int) -> None:
    """Start `count` threads and end them; exit with one line where a limit is in the way.

    A pool starts its threads one by one, and a worker that fails under load would restart again and again. The threads
    of the trial do not stay: with all of them a lone client's requests take 3 % longer.
    """
    count += _SPARE_THREADS
    release = threading.Event()
    pool = ThreadPoolExecutor(count)
    try:
        for _ in range(count):
            pool.submit(release.wait)
    except RuntimeError:
        exit_cannot_start(
            f"the worker needs {count} threads and may not start them; "
            f"{', '.join(process_limits()) or 'the system is short of memory or processes'}. "
            "Raise the limit, or lower INFERER_MAX_IN_FLIGHT, INFERER_THREADS or INFERER_WORKERS"
        )
    finally:
        release.set()
        pool.shutdown()


def address(host: str, port: int) -> str:
    """Return host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_start(worker: Any) -> None:
    """Log the model and settings of `worker`, and a curl command to try."""
    state = worker.wsgi.extensions["inferer"]
    model, settings = state.inferer, state.settings
    memory, limit = resident_memory() // 2**20, memory_limit()
    facts = {
        "model": settings.name,
        "bundle": str(settings.bundle),
        "scheme": model.scheme,
        "exact_because": model.exact_because,
        "native_operators": model.native,
        "problem_type": model.problem_type,
        "labels": len(model.labels),
        "max_length": model.max_length,
        "batching": "on" if model.batcher.shared else model.alone_because,
        "workers": settings.worker_count,
        "threads": settings.worker_threads,
        "parallel_runs": model.parallel_runs,
        "onnxruntime_threads": model.intra_op_threads,
        "cpu_quota": cpu_quota(),
        "cpu_flags": list(instruction_flags()),
        "memory_mb": memory,
        "memory_limit_mb": None if limit is None else limit // 2**20,
        "golden_check": str(model.golden_check),
        "tracing": settings.tracing,
    }
    exact = f" (exact and slower: {model.exact_because})" if model.exact_because else ""
    labels = "1 label" if len(model.labels) == 1 else f"{len(model.labels)} labels"
    native = "on" if model.native else "off"
    batching = "on" if model.batcher.shared else f"off ({model.alone_because})"
    quota = "none" if facts["cpu_quota"] is None else f"{facts['cpu_quota']:g}"
    allowed = "no limit" if limit is None else f"{limit // 2**20} MB"
    worker.log.info(
        f"serving {settings.name}: {model.scheme}{exact}, {model.problem_type}, {labels}, "
        f"{model.max_length} tokens; native operators {native}; batching {batching}; "
        f"{settings.worker_count} worker(s) x {settings.worker_threads} threads; "
        f"{model.parallel_runs} run(s) side by side x {model.intra_op_threads} onnxruntime thread(s); "
        f"CPU quota {quota}, {' '.join(instruction_flags()) or 'int8 flags unknown'}; memory {memory} MB of {allowed}; "
        f"{model.golden_check}{'; traces on' if settings.tracing else ''}",
        extra=fields(**facts),
    )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    key = ' -H "x-api-key: $KEY"' if settings.api_keys else ""
    texts = [golden.text for golden in model.bundle.golden]
    example = dict(zip(SIDES, map(example_text, zip(*map(sides_of, texts), strict=True)), strict=False))
    body = shlex.quote(json.dumps(example))
    scheme = "http" if settings.tls_cert is None else "https"
    key += "" if settings.tls_cert is None else f" --cacert {shlex.quote(str(settings.tls_cert))}"
    url = f"{scheme}://{address(host, settings.port)}/predict"
    worker.log.info("try it: curl -s %s%s -H 'content-type: application/json' -d %s", url, key, body)


def check_tls(settings: Settings) -> None:
    """Raise SettingsError for a certificate and a key that cannot be used together."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    for name, path in (("CERT", settings.tls_cert), ("KEY", settings.tls_key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(f"INFERER_TLS_{name}: {path} cannot be read: {error.strerror}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (ssl.SSLError, ValueError) as error:
        pair = f"{settings.tls_cert} and {settings.tls_key}"
        raise SettingsError(f"INFERER_TLS_CERT, INFERER_TLS_KEY: {pair} cannot be used together: {error}") from error


def check_tracing(settings: Settings) -> None:
    """Raise SettingsError where tracing is on and its packages are missing, or another version than the tested one."""
    if not settings.tracing:
        return
    name = "opentelemetry-exporter-otlp-proto-http"
    try:
        found = f"{name} {version(name)} is installed"
    except PackageNotFoundError:
        found = f"{name} is not installed"
    if found != f"{name} {OTLP_VERSION} is installed":
        needed = f"traces need {name}=={OTLP_VERSION}, which pip install 'inferer[tracing]' brings"
        raise SettingsError(f"OTEL_* asks for traces, and {found}; {needed}; OTEL_TRACES_EXPORTER=none turns them off")


def example_text(texts: Sequence[str]) -> str:
    """Return the first of `texts` that is short, printable and has a letter, to paste into a shell."""
    fitting = (text for text in texts if len(text) <= 60 and text.isprintable() and any(map(str.isalpha, text)))
    return next(fitting, "some text")
