"""The choices of a deployment: INFERER_*, PORT and Vertex AI's AIP_*, parsed once, refused by name when wrong.

Imported by gunicorn.conf.py before the fork, so it must stay free of onnxruntime and of Flask's app.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from inferer.batching import MAX_BATCH_TOKENS
from inferer.bundle.golden import ENFORCE, MODES
from inferer.cpu import MOST_THREADS, available_cpus
from inferer.errors import shown
from service.logs import FORMATS, LOG_FORMAT

_PREFIX = "INFERER_"
_DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "models" / "query_type"

# Kubernetes sets these in every pod for a Service called `inferer`; they are not ours.
_FROM_KUBERNETES = re.compile(r"INFERER_(SERVICE_HOST|SERVICE_PORT.*|PORT(_.*)?)")

_BY_MACHINES = (
    "/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready", "/metrics",
)  # fmt: skip

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")

# What a client that finds no place is told to wait.
RETRY_AFTER_S = 1

# Threads beyond the in-flight cap: requests over the cap, health checks and slow senders still find one.
_SPARE_THREADS = 16


class SettingsError(Exception):
    """One or more variables are wrong; the message names each with its value and what is expected."""


@dataclass(frozen=True)
class Settings:
    """One deployment's choices; field `x` is the variable INFERER_X, but for `port`, which is PORT, and the
    two that are AIP_X.

    workers 0 means auto: as many as the CPUs hold with intra_op_threads each. threads and
    intra_op_threads 0 mean: computed from the others (see `worker_threads`, `ort_threads`). log_format "" means:
    text on a terminal, else JSON.
    """

    bundle: Path = _DEFAULT_BUNDLE
    model_name: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    threads: int = 0
    intra_op_threads: int = 0
    batching: bool = True
    max_batch_tokens: int = MAX_BATCH_TOKENS
    max_in_flight: int = 64
    deadline_ms: int = 10_000
    max_body_bytes: int = 2_000_000
    max_texts: int = 256
    max_text_chars: int = 100_000
    api_keys: tuple[str, ...] = ()
    cache_dir: Path | None = None
    golden_check: str = ENFORCE
    log_format: str = ""
    log_texts: bool = False
    cors_origins: tuple[str, ...] = ()
    aip_predict_route: str = ""
    aip_health_route: str = ""

    @property
    def name(self) -> str:
        """Return the model's name as clients see it."""
        return self.model_name or self.bundle.resolve().name

    @property
    def machine_paths(self) -> tuple[str, ...]:
        """Return what machines ask with GET every few seconds: answered before all others, and logged when it fails."""
        of_model = (f"/v2/models/{self.name}/ready", f"/v1/models/{self.name}")
        return tuple(dict.fromkeys((*_BY_MACHINES, *of_model, *filter(None, [self.aip_health_route]))))

    @property
    def worker_count(self) -> int:
        """Return the number of worker processes."""
        return self.workers or max(1, available_cpus() // max(1, self.intra_op_threads))

    @property
    def ort_threads(self) -> int:
        """Return onnxruntime's threads per worker: the CPUs of the quota shared out between the workers."""
        return self.intra_op_threads or max(1, available_cpus() // self.worker_count)

    @property
    def worker_threads(self) -> int:
        """Return gunicorn's threads per worker, above the in-flight cap so that 429 needs no queue."""
        return self.threads or self.max_in_flight + _SPARE_THREADS


def _integer(low: int, high: float = inf) -> tuple[Callable[[str], int], str]:
    def parse(value: str) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse, f"a whole number from {low}" + (f" to {high}" if high < inf else "")


def _one_of(allowed: tuple[str, ...]) -> tuple[Callable[[str], str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError
        return value

    return parse, f"one of {', '.join(allowed)}"


def _auto_or_integer(value: str) -> int:
    return 0 if value == "auto" else _integer(1)[0](value)


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value):
        raise ValueError
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError
    return value.strip()


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in value.split(","))
    if not all(key and key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise ValueError
    return keys


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/") for origin in value.split(","))
    if origins != ("*",) and not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError
    return origins


def _route(value: str) -> str:
    # No slash twice or at the end: Werkzeug would redirect.
    if not re.fullmatch(r"/|(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+", value):
        raise ValueError
    return value


def _switch(on: str, off: str) -> tuple[Callable[[str], bool], str]:
    def parse(value: str) -> bool:
        if value not in (on, off):
            raise ValueError
        return value == on

    return parse, f"{on} or {off}"


def _host(value: str) -> str:
    return _text(value.removeprefix("[").removesuffix("]"))


def _path(value: str) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError as error:  # ~nobody
        raise ValueError from error


# variable -> (parser, what is expected)
_VARIABLES: dict[str, tuple[Callable[[str], Any], str]] = {
    "INFERER_BUNDLE": (_path, "the path of a bundle's folder"),
    "INFERER_MODEL_NAME": (_name, "letters, digits, '.', '_' and '-'"),
    "INFERER_HOST": (_host, "an address to listen on"),
    "PORT": _integer(1, 65535),
    "INFERER_WORKERS": (_auto_or_integer, "'auto' or a whole number from 1"),
    "INFERER_THREADS": _integer(1),
    "INFERER_INTRA_OP_THREADS": _integer(1, MOST_THREADS),
    "INFERER_BATCHING": _switch("on", "off"),
    "INFERER_MAX_BATCH_TOKENS": _integer(1),
    "INFERER_MAX_IN_FLIGHT": _integer(1),
    "INFERER_DEADLINE_MS": _integer(1),
    "INFERER_MAX_BODY_BYTES": _integer(1),
    "INFERER_MAX_TEXTS": _integer(1),
    "INFERER_MAX_TEXT_CHARS": _integer(1),
    "INFERER_API_KEYS": (_keys, "keys separated by commas, without spaces"),
    "INFERER_CACHE_DIR": (_path, "the path of a folder"),
    "INFERER_GOLDEN_CHECK": _one_of(MODES),
    LOG_FORMAT: _one_of(FORMATS),
    "INFERER_LOG_TEXTS": _switch("1", "0"),
    "INFERER_CORS_ORIGINS": (_origins, "origins such as https://example.org separated by commas, or *"),
}
VARIABLES = tuple(_VARIABLES)

# What Vertex AI says to a container, which cannot choose otherwise: its port goes before PORT.
_FROM_VERTEX: dict[str, tuple[str, tuple[Callable[[str], Any], str]]] = {
    "AIP_PREDICT_ROUTE": ("aip_predict_route", (_route, "a path such as /predict, without a slash at its end")),
    "AIP_HEALTH_ROUTE": ("aip_health_route", (_route, "a path such as /health, without a slash at its end")),
    "AIP_HTTP_PORT": ("port", _integer(1, 65535)),
}


def from_env(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`; raises SettingsError naming every variable that is wrong."""
    problems = [
        problem
        for name in sorted(environ)
        if name.startswith(_PREFIX) and name not in _VARIABLES and not _FROM_KUBERNETES.fullmatch(name)
        for problem in [_unknown(name)]
    ]
    values: dict[str, Any] = {}
    fields = {name: (name.removeprefix(_PREFIX).lower(), parser) for name, parser in _VARIABLES.items()}
    for name, (field, (parse, expected)) in {**fields, **_FROM_VERTEX}.items():
        if name not in environ or (name in _FROM_VERTEX and not environ[name]):
            continue
        try:
            values[field] = parse(environ[name].strip())
        except ValueError:
            # A key is a secret even when it is malformed.
            value = "the value" if name == "INFERER_API_KEYS" else shown(environ[name])
            problems.append(f"{name}: {value} is not allowed; expected {expected}")
    if problems:
        raise SettingsError("; ".join(problems))
    settings = Settings(**values)
    if settings.threads and settings.threads <= settings.max_in_flight:
        raise SettingsError(
            f"INFERER_THREADS: {settings.threads} is not allowed; expected more than INFERER_MAX_IN_FLIGHT "
            f"({settings.max_in_flight}), or requests wait unseen instead of being answered 429"
        )
    return settings


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, VARIABLES, 1)
    return f"{name} is unknown" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(VARIABLES)}")
