"""The contents of the serving image, and a dozen ways to spoil it that the rules must catch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.image.checks import problems
from tests.image.engine import Podman
from tests.image.facts import read_facts
from tests.support.server import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
_HEALTH = DOCKERFILE[DOCKERFILE.rindex("HEALTHCHECK") : DOCKERFILE.index("\n\n", DOCKERFILE.rindex("HEALTHCHECK"))]
_SITE = "/usr/local/lib/python3.11/site-packages"


def without(text: str) -> Callable[[str], str]:
    """Return an edit that takes `text` out of the last stage."""
    return instead(text, "")


def instead(text: str, other: str) -> Callable[[str], str]:
    """Return an edit that puts `other` in the place of `text` in the last stage."""

    def edit(dockerfile: str) -> str:
        stage = dockerfile.rindex("\nFROM ")
        assert text in dockerfile[stage:]
        return dockerfile[:stage] + dockerfile[stage:].replace(text, other)

    return edit


def also(*lines: str) -> Callable[[str], str]:
    """Return an edit that adds commands, as root, before the end."""
    return instead("\nUSER 10001:10001", "\n" + "\n".join(lines) + "\nUSER 10001:10001")


BREAKAGES: dict[str, tuple[Callable[[str], str], str]] = {
    "runs as root": (without("USER 10001:10001"), "USER is root"),
    "a user by name": (instead("USER 10001:10001", "USER nobody"), "USER is nobody"),
    "no HEALTHCHECK": (without(_HEALTH), "HEALTHCHECK is missing"),
    "a HEALTHCHECK that is always content": (
        instead(_HEALTH, 'HEALTHCHECK CMD ["true"]'),
        "HEALTHCHECK does not ask /health/ready",
    ),
    "CMD in a shell": (
        instead('["python", "-m", "gunicorn", "app:app"]', "python -m gunicorn app:app"),
        "CMD runs in a shell",
    ),
    "stopped by SIGKILL": (also("STOPSIGNAL SIGKILL"), "STOPSIGNAL is SIGKILL"),
    "torch inside": (
        also(
            f"RUN mkdir {_SITE}/torch-2.13.0.dist-info && echo 'Name: torch' > {_SITE}/torch-2.13.0.dist-info/METADATA"
        ),
        "the package torch is inside",
    ),
    "a compiler": (also("RUN cp /bin/true /usr/bin/gcc"), "/usr/bin/gcc is a compiler"),
    "a secret in a file": (also("RUN echo INFERER_API_KEYS=geheim > /app/.env"), "/app/.env may hold a secret"),
    "a secret in the environment": (also("ENV INFERER_API_KEYS=geheim"), "INFERER_API_KEYS in the environment"),
    "tests inside": (also("RUN mkdir /app/tests && touch /app/tests/test_http.py"), "/app/tests is a test"),
    "a program with root's rights": (also("RUN cp /bin/true /usr/bin/root && chmod u+s /usr/bin/root"), "gives rights"),
    "sources that it may write": (also("RUN chown -R 10001 /app"), "/app/app.py may be written"),
    "sources that are not compiled": (
        without("RUN python -m compileall -q inferer service app.py"),
        "/app/app.py is not compiled",
    ),
    "listens to itself alone": (also("ENV INFERER_HOST=127.0.0.1"), "INFERER_HOST is '127.0.0.1'"),
    "tells its maker": (also("ENV ORT_DISABLE_TELEMETRY=0"), "ORT_DISABLE_TELEMETRY is '0'"),
    "no port": (without("EXPOSE 8080"), "port 8080 is not exposed"),
    "too large": (also("RUN head -c 90000000 /dev/zero > /usr/lib/zeros"), "MB above its base"),
}


def test_the_image_has_what_serving_needs_and_nothing_else(podman: Podman, image: str, base: str) -> None:
    """The image is small, runs as a user that owns no file, and holds neither torch, compiler, test nor secret."""
    assert problems(read_facts(podman, image, base)) == []


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_spoilt_image_is_seen(podman: Podman, image: str, base: str, tmp_path: Path, name: str) -> None:
    """Each way to spoil the Dockerfile is named by the check of its image."""
    edit, expected = BREAKAGES[name]
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(edit(DOCKERFILE), encoding="utf-8")
    spoilt = podman.build("localhost/spoilt", base, dockerfile=dockerfile)
    found = problems(read_facts(podman, spoilt, base))
    assert any(expected in problem for problem in found), found


def test_a_model_is_baked_in_and_nothing_else_of_an_untidy_folder(podman: Podman, base: str, context: Path) -> None:
    """`--build-arg BUNDLE` puts that bundle into the image, and neither .env, tests nor checkpoints come with it."""
    baked = podman.build("localhost/baked", base, context, BUNDLE="models/titles")
    facts = read_facts(podman, baked, base)
    assert problems(facts) == []
    assert {path.rpartition("/")[2] for path in facts.added if path.startswith("/model/")} >= {
        "inferer.json",
        "config.json",
        "tokenizer.json",
        "model_quantized.onnx",
    }
    assert not [path for path in facts.added if "cpython-39" in path or "safetensors" in path]
    with podman.running(baked) as container:
        container.wait_ready()
        assert container.predict("good").status == 200


def test_an_image_with_traces(podman: Podman, base: str, context: Path) -> None:
    """`--build-arg TRACING=1` adds OpenTelemetry; requests are answered with traces on, here without a collector."""
    traced = podman.build("localhost/traced", base, context, BUNDLE="models/titles", TRACING="1")
    with podman.running(traced, options=["--env=OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"]) as container:
        container.wait_ready()
        assert container.predict("good").status == 200


def test_packages_of_the_image_are_those_that_are_pinned(podman: Podman, image: str) -> None:
    """The packages in the image have the versions of requirements_inference.txt."""
    pinned = (ROOT / "requirements_inference.txt").read_text(encoding="utf-8")
    listed = podman.output(image, "python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    for line in listed.split():
        if not line.startswith(("pip==", "setuptools==")):  # the base's
            assert f"{line.lower().replace('_', '-')} " in pinned.replace("_", "-")
