"""Rules for the contents of the serving image; each violation is one sentence."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from inferer.command.stages import HUGE_PAGES
from tests.image.facts import Facts

MAX_SIZE_MB = 220  # above its base, without a model

# The packages that serving imports, and their own needs. Each further package would need an audit.
PACKAGES = {
    "blinker", "click", "flask", "flask-swagger-ui", "flatbuffers", "gunicorn", "itsdangerous", "jinja2", "markupsafe",
    "msgspec", "numpy", "onnxruntime", "packaging", "prometheus-client", "protobuf", "tokenizers", "tqdm", "werkzeug",
}  # fmt: skip
_OURS = (
    "/app/inferer/",
    "/app/__pycache__/app.",
    "/app/service/",
    "/app/app.py",
    "/app/gunicorn.conf.py",
    "/app/requirements_inference.txt",
    "/app/requirements_tracing.txt",
)
_COMPILERS = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cmake|rustc|cargo|go)(-[\d.]+)?")
_SECRETS = re.compile(
    r"\.env(\..+)?|.*\.pem|.*\.key|id_[a-z0-9]+|\.netrc|\.npmrc|\.pypirc|\.git|\.aws|\.docker|credentials"
)
_TESTS = re.compile(r"tests?|test_.*\.py|.*_test\.py")
_SECRET_NAME = re.compile(r"(?i)key|token(?!izers)|secret|passw")
_ENV = {
    "INFERER_HOST": "0.0.0.0",
    "ORT_DISABLE_TELEMETRY": "1",
    "HOME": "/tmp",  # noqa: S108
    "PORT": "8080",
    **HUGE_PAGES,
}
_PACKAGES_FOLDER = "/site-packages/"


def problems(facts: Facts) -> list[str]:
    """Return the faults of an image, one sentence each."""
    return [problem for rule in _RULES for problem in rule(facts)]


def _user(facts: Facts) -> Iterator[str]:
    user = facts.config.get("User") or "root"
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", user):
        yield f"USER is {user}, expected a number above 0, by which Kubernetes sees that it is not root"
    number = int(user.partition(":")[0]) if user[0].isdigit() else 0
    for path, file in facts.added.items():
        writable = file.mode & stat.S_IWOTH or (number and file.uid == number)
        if writable and not stat.S_ISLNK(file.mode):
            yield f"{path} may be written by whom it runs as"


def _command(facts: Facts) -> Iterator[str]:
    for name in ("Cmd", "Entrypoint"):
        words = facts.config.get(name) or []
        if words[:1] in (["/bin/sh"], ["sh"], ["/bin/bash"], ["bash"]):
            yield f"{name.upper()} runs in a shell, which does not hand SIGTERM on: {words}"
    if not (facts.config.get("Cmd") or facts.config.get("Entrypoint")):
        yield "CMD is missing"
    if facts.config.get("StopSignal", "SIGTERM") not in ("SIGTERM", "15", ""):
        yield f"STOPSIGNAL is {facts.config['StopSignal']}, on which requests in hand are not answered"


def _health(facts: Facts) -> Iterator[str]:
    test = (facts.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    if test[0] == "NONE":
        yield "HEALTHCHECK is missing"
    elif "/health/ready" not in " ".join(test):
        yield f"HEALTHCHECK does not ask /health/ready: {test}"


def _environment(facts: Facts) -> Iterator[str]:
    given = dict(line.split("=", 1) for line in facts.config.get("Env", []))
    for name, value in _ENV.items():
        if given.get(name) != value:
            yield f"{name} is {given.get(name)!r}, expected {value!r}"
    for name in given:
        if _SECRET_NAME.search(name):
            yield f"{name} in the environment: a secret would be in every copy of the image"
    if "8080/tcp" not in facts.config.get("ExposedPorts", {}):
        yield "port 8080 is not exposed"


def _packages(facts: Facts) -> Iterator[str]:
    for name in sorted(set(facts.added_packages) - PACKAGES):
        yield f"the package {name} is inside, which serving does not need"
    for name in sorted(PACKAGES - set(facts.added_packages)):
        yield f"the package {name} is missing"


def _files(facts: Facts) -> Iterator[str]:
    for path, file in facts.added.items():
        name = PurePosixPath(path).name
        if stat.S_ISREG(file.mode) and path.startswith("/app/") and not path.startswith(_OURS):
            yield f"{path} is not part of the service"
        if stat.S_ISREG(file.mode) and path.startswith(("/home/", "/root/", "/srv/", "/var/cache/")):
            yield f"{path} was left behind"
        if _SECRETS.fullmatch(name):
            yield f"{path} may hold a secret"
        if file.mode & 0o111 and not stat.S_ISDIR(file.mode) and _COMPILERS.fullmatch(name):
            yield f"{path} is a compiler"
        # Packages may have modules for testing, but no folders of tests.
        if _TESTS.fullmatch(name) and (_PACKAGES_FOLDER not in path or stat.S_ISDIR(file.mode)):
            yield f"{path} is a test"
        if file.has_capabilities or (stat.S_ISREG(file.mode) and file.mode & (stat.S_ISUID | stat.S_ISGID)):
            yield f"{path} gives rights to whoever runs it"
    for path in facts.uncompiled:
        if path not in ("/app/gunicorn.conf.py",):  # gunicorn compiles it itself
            yield f"{path} is not compiled, and cannot be where nothing may be written"


def _size(facts: Facts) -> Iterator[str]:
    model = sum(file.size for path, file in facts.added.items() if path.startswith("/model/"))
    size = (facts.size_above_base - model) / 1e6
    if size > MAX_SIZE_MB:
        yield f"it is {size:.0f} MB above its base without a model, expected at most {MAX_SIZE_MB}"


def _order(facts: Facts) -> Iterator[str]:
    install = [i for i, step in enumerate(facts.history) if "pip install" in step]
    sources = [i for i, step in enumerate(facts.history) if re.search(r"COPY.* in \./(inferer|service)\b", step)]
    if install and sources and max(install) > min(sources):
        yield "packages are installed after the sources are copied: each change of these installs them again"


_RULES: tuple[Callable[[Facts], Iterator[str]], ...] = (
    _user,
    _command,
    _health,
    _environment,
    _packages,
    _files,
    _size,
    _order,
)
