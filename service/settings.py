"""The settings of a deployment: the variables INFERER_*, PORT, Vertex AI's AIP_* and OpenTelemetry's OTEL_*.

gunicorn's configuration imports this module before the fork, so it must stay free of onnxruntime and of Flask's app.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.batching import MAX_BATCH_TOKENS, MOST_BATCH_TOKENS
from inferer.bundle.golden import ENFORCE, MODES
from inferer.cpu import MOST_THREADS, available_cpus
from inferer.errors import shown
from service.telemetry.logs import FORMATS, LOG_FORMAT

_PREFIX = "INFERER_"
_DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "models" / "query_type"

# Kubernetes sets these in every pod for a Service called `inferer`.
_FROM_KUBERNETES = re.compile(r"INFERER_(SERVICE_HOST|SERVICE_PORT.*|PORT(_.*)?)")

_MONITORING_PATHS = (
    "/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready", "/metrics",
)  # fmt: skip

# The replies of KServe v1: as in the native API, or the score of each label, which NeMo Guardrails reads.
PREDICTIONS, SCORES = "predictions", "scores"

# The requests that get a line in the log.
ALL, ERRORS, OFF = ACCESS_LOGS = ("all", "errors", "off")

# Threads beyond the in-flight cap, for requests over the cap, health checks and slow senders.
_SPARE_THREADS = 16

# With "auto": the Python of one process, under its lock, keeps about as many CPUs busy with a small model.
_CPUS_OF_A_PROCESS = 2

# More workers take turns on the CPUs, and each holds a model.
_WORKERS_PER_CPU = 8
_MAX_WORKERS = _WORKERS_PER_CPU * available_cpus()


class SettingsError(Exception):
    """Wrong variables; the message names each with its value and the expected values."""


@dataclass(frozen=True)
class Settings:
    """The settings of one deployment. Field `x` is the variable INFERER_X; `port` is PORT and `aip_*` are AIP_*.

    workers 0: "auto", one per two CPUs, or per intra_op_threads if that is more. threads, intra_op_threads,
    parallel_runs 0: derived from the others (see `worker_threads`, `runs_at_once`). log_format "": text on a terminal,
    else JSON. access_log: the requests that get a line. tracing: whether OTEL_* asks for spans; OpenTelemetry's SDK
    reads the rest of these variables itself.
    """

    bundle: Path = _DEFAULT_BUNDLE
    model_name: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    threads: int = 0
    intra_op_threads: int = 0
    parallel_runs: int = 0
    batching: bool = True
    max_batch_tokens: int = MAX_BATCH_TOKENS
    max_in_flight: int = 64
    max_in_flight_bytes: int = 64_000_000
    max_connections_per_address: int = 0
    deadline_ms: int = 10_000
    max_body_bytes: int = 2_000_000
    max_texts: int = 256
    max_text_chars: int = 100_000
    max_tokens_per_request: int = 500_000
    cache_bytes: int = 0
    api_keys: tuple[str, ...] = ()
    cache_dir: Path | None = None
    golden_check: str = ENFORCE
    load_timeout_s: int = 120
    log_format: str = ""
    access_log: str = ALL
    log_texts: bool = False
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    kserve_v1: str = PREDICTIONS
    blocked_labels: tuple[str, ...] = ()
    block_threshold: float = 0.5
    aip_predict_route: str = ""
    aip_health_route: str = ""
    tracing: bool = False

    @property
    def name(self) -> str:
        """Return the model's name as clients see it."""
        return self.model_name or self.bundle.resolve().name

    @property
    def machine_paths(self) -> tuple[str, ...]:
        """Return the paths that monitors GET every few seconds; these have their own threads and log failures only."""
        of_model = (f"/v2/models/{self.name}/ready", f"/v1/models/{self.name}")
        return tuple(dict.fromkeys((*_MONITORING_PATHS, *of_model, *filter(None, [self.aip_health_route]))))

    @property
    def worker_count(self) -> int:
        """Return the number of worker processes."""
        return self.workers or max(1, available_cpus() // max(_CPUS_OF_A_PROCESS, self.intra_op_threads))

    @property
    def cpus_per_worker(self) -> int:
        """Return the CPUs of each worker's model: the workers share them."""
        return max(1, available_cpus() // self.worker_count)

    @property
    def runs_at_once(self) -> int | None:
        """Return how many model runs a worker has side by side; None: as fits the model."""
        if self.parallel_runs or not self.intra_op_threads:
            return self.parallel_runs or None
        return max(1, self.cpus_per_worker // self.intra_op_threads)

    @property
    def worker_threads(self) -> int:
        """Return gunicorn's threads per worker, more than the in-flight cap so that a 429 never queues."""
        return self.threads or self.max_in_flight + _SPARE_THREADS


# A parser raises ValueError or KeyError; with it, the expected values in words.
_Parser = tuple[Callable[[str], Any], str]


def _integer(low: int, high: int) -> _Parser:
    def parse(value: str) -> int:
        if not re.fullmatch("[0-9]{1,19}", value) or not low <= int(value) <= high:  # int() takes more spellings
            raise ValueError
        return int(value)

    return parse, f"a whole number from {low} to {high}"


def _one_of(allowed: tuple[str, ...]) -> _Parser:
    return {value: value for value in allowed}.__getitem__, f"one of {', '.join(allowed)}"


def _matching(pattern: str, expected: str) -> _Parser:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return parse, expected


def _list_of(pattern: str, expected: str) -> _Parser:
    parse, _ = _matching(pattern, expected)
    return lambda value: tuple(parse(item.strip()) for item in value.split(",")), expected


def _origins(value: str) -> tuple[str, ...]:
    parse, _ = _list_of(r"https?://[A-Za-z0-9.\-\[\]:]+/*", "")
    return ("*",) if value == "*" else tuple(origin.rstrip("/") for origin in parse(value))


def _host(value: str) -> str:
    host = value.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError
    return host


def _share(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:  # false for NaN too
        raise ValueError
    return number


def _path(value: str) -> Path:
    if not value:
        raise ValueError
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # an unknown user's home
        raise ValueError from error


def _file(value: str) -> Path:
    if not Path(value).is_file():
        raise ValueError
    return Path(value)


# Werkzeug would redirect from a path with an empty segment or a trailing slash.
_ROUTE = r"/|(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+"

_VARIABLES: dict[str, _Parser] = {
    "INFERER_BUNDLE": (_path, "the path of a bundle's folder"),
    "INFERER_MODEL_NAME": _matching(r"[A-Za-z0-9._-]{1,100}", "letters, digits, '.', '_' and '-'"),
    "INFERER_HOST": (_host, "an address to listen on"),
    "PORT": _integer(1, 65535),
    "INFERER_WORKERS": (
        lambda value: 0 if value == "auto" else _integer(1, _MAX_WORKERS)[0](value),
        f"'auto' or a whole number from 1 to {_MAX_WORKERS}, {_WORKERS_PER_CPU} per CPU",
    ),
    "INFERER_THREADS": _integer(1, 5000),
    "INFERER_INTRA_OP_THREADS": _integer(1, MOST_THREADS),
    "INFERER_PARALLEL_RUNS": _integer(1, MOST_THREADS),
    "INFERER_BATCHING": ({"on": True, "off": False}.__getitem__, "on or off"),
    "INFERER_MAX_BATCH_TOKENS": _integer(1, MOST_BATCH_TOKENS),
    "INFERER_MAX_IN_FLIGHT": _integer(1, 4000),
    "INFERER_MAX_IN_FLIGHT_BYTES": _integer(1_000_000, 10**12),
    "INFERER_MAX_CONNECTIONS_PER_ADDRESS": _integer(0, 100_000),
    "INFERER_DEADLINE_MS": _integer(1, 3_600_000),
    "INFERER_MAX_BODY_BYTES": _integer(1, 10**9),
    "INFERER_MAX_TEXTS": _integer(1, 100_000),
    "INFERER_MAX_TEXT_CHARS": _integer(1, 10**9),
    "INFERER_MAX_TOKENS_PER_REQUEST": _integer(1, 10**9),
    "INFERER_CACHE_BYTES": _integer(0, 10**12),
    "INFERER_API_KEYS": _list_of(
        r"[!-~]{1,1000}", "keys of at most 1000 characters, separated by commas, without spaces"
    ),
    "INFERER_CACHE_DIR": (_path, "the path of a folder"),
    "INFERER_GOLDEN_CHECK": _one_of(MODES),
    "INFERER_LOAD_TIMEOUT_S": _integer(1, 3600),
    LOG_FORMAT: _one_of(FORMATS),
    "INFERER_ACCESS_LOG": _one_of(ACCESS_LOGS),
    "INFERER_LOG_TEXTS": ({"1": True, "0": False}.__getitem__, "1 or 0"),
    "INFERER_TLS_CERT": (_path, "the path of a certificate chain in PEM"),
    "INFERER_TLS_KEY": (_path, "the path of the certificate's key in PEM"),
    "INFERER_KSERVE_V1": _one_of((PREDICTIONS, SCORES)),
    "INFERER_BLOCKED_LABELS": _list_of(r"[^,]{1,200}", "labels of the model, separated by commas"),
    "INFERER_BLOCK_THRESHOLD": (_share, "a number from 0 to 1"),
    "INFERER_CORS_ORIGINS": (_origins, "origins such as https://example.org separated by commas, or *"),
}
VARIABLES = tuple(_VARIABLES)

# Vertex AI sets these in a container. AIP_HTTP_PORT takes precedence over PORT.
_FROM_VERTEX: dict[str, _Parser] = {
    "AIP_PREDICT_ROUTE": _matching(_ROUTE, "a path such as /predict, without a slash at its end"),
    "AIP_HEALTH_ROUTE": _matching(_ROUTE, "a path such as /health, without a slash at its end"),
    "AIP_HTTP_PORT": _integer(1, 65535),
}


# OpenTelemetry's, checked where tracing is on: the SDK would go on with its defaults after a wrong one.
def _otlp(setting: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_TRACES_{setting}", f"OTEL_EXPORTER_OTLP_{setting}"


_ENDPOINTS, _HEADERS = _otlp("ENDPOINT"), _otlp("HEADERS")
_RATIO = "traceidratio"
_SAMPLERS = tuple(f"{parent}{name}" for parent in ("", "parentbased_") for name in ("always_on", "always_off", _RATIO))
_FROM_OTEL: dict[str, _Parser] = {
    "OTEL_TRACES_EXPORTER": _one_of(("otlp", "none")),
    **dict.fromkeys(_ENDPOINTS, _matching(r"https?://[^\s/]\S*", "a URL such as http://localhost:4318")),
    **dict.fromkeys(_HEADERS, _list_of(r"[^=,\s]+=[^,]*", "pairs such as name=value, separated by commas")),
    **dict.fromkeys(_otlp("PROTOCOL"), _one_of(("http/protobuf",))),
    **dict.fromkeys(_otlp("COMPRESSION"), _one_of(("none", "gzip", "deflate"))),
    **dict.fromkeys(_otlp("TIMEOUT"), _integer(1, 3600)),
    **dict.fromkeys((*_otlp("CERTIFICATE"), *_otlp("CLIENT_CERTIFICATE"), *_otlp("CLIENT_KEY")), (_file, "a file")),
    "OTEL_PROPAGATORS": _list_of("tracecontext|baggage|none", "some of tracecontext, baggage, none"),
    "OTEL_TRACES_SAMPLER": _one_of(_SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": (_share, "a number from 0 to 1"),
    "OTEL_BSP_SCHEDULE_DELAY": _integer(1, 3_600_000),
    "OTEL_BSP_MAX_QUEUE_SIZE": _integer(1, 1_000_000),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _integer(1, 1_000_000),
}


def _wants_tracing(environ: Mapping[str, str]) -> bool:
    """Return whether an exporter or an endpoint for spans is given, and neither the SDK nor the exporter is off."""
    given = {name: environ.get(name, "").strip() for name in (*_ENDPOINTS, "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED")}
    if given["OTEL_SDK_DISABLED"].lower() == "true" or given["OTEL_TRACES_EXPORTER"] == "none":
        return False
    return any(given[name] for name in (*_ENDPOINTS, "OTEL_TRACES_EXPORTER"))


def _check_batch(environ: Mapping[str, str]) -> None:
    """Raise SettingsError for a batch of spans that the queue can never hold."""
    queue, batch = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    most, size = int(environ.get(queue) or 2048), int(environ.get(batch) or 512)  # the SDK's own
    if size > most:
        raise SettingsError(f"{batch}: {size} is more than the {most} of {queue}; a batch is a part of the queue")


def from_env(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`; raises SettingsError naming every wrong variable."""
    problems = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in _VARIABLES and not _FROM_KUBERNETES.fullmatch(name):
            near = difflib.get_close_matches(name, VARIABLES, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(VARIABLES)}"
            problems.append(f"{name} is unknown; {hint}")
    values: dict[str, Any] = {"tracing": _wants_tracing(environ)}
    variables = {**_VARIABLES, **_FROM_VERTEX, **(_FROM_OTEL if values["tracing"] else {})}
    for name, (parse, expected) in variables.items():
        if name not in environ or (name not in _VARIABLES and not environ[name].strip()):
            continue
        field = "port" if name == "AIP_HTTP_PORT" else name.removeprefix(_PREFIX).lower()
        try:
            value = parse(environ[name].strip())
            if name not in _FROM_OTEL:
                values[field] = value
        except (ValueError, KeyError):
            # Even a malformed key is a secret.
            found = "the value" if name in ("INFERER_API_KEYS", *_HEADERS) else shown(environ[name])
            problems.append(f"{name}: {found} is not allowed; expected {expected}")
    if problems:
        raise SettingsError("; ".join(problems))
    settings = Settings(**values)
    if settings.tracing:
        _check_batch(environ)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("CERT", "KEY") if settings.tls_key is None else ("KEY", "CERT")
        raise SettingsError(f"INFERER_TLS_{given} is set and INFERER_TLS_{missing} is not; TLS needs both")
    if settings.threads and settings.threads <= settings.max_in_flight:
        raise SettingsError(
            f"INFERER_THREADS: {settings.threads} is not allowed; expected more than INFERER_MAX_IN_FLIGHT "
            f"({settings.max_in_flight}), or requests queue unseen instead of getting a 429"
        )
    return settings
