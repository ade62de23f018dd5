"""The Makefile: its messages, and its state after an interruption. `.ci/fresh_clone` runs `make serve` for real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from inferer.command.stages import HUGE_PAGES
from tests.support.server import ROOT, environment, run_to_end


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile, marks of finished installs, and a stand-in Python that the test writes."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for kind in ("inference", "tracing", "training", "dev", "base_model", "audit"):
        shutil.copy(ROOT / f"requirements_{kind}.txt", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for mark in (".created", ".inference", ".tracing", ".training", ".dev"):
        (tmp_path / ".venv" / mark).touch()
    return tmp_path


def stand_in(project: Path, script: str) -> None:
    """Let .venv/bin/python be a shell script."""
    python = project / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\n" + script)
    python.chmod(0o755)


def test_help_lists_every_target() -> None:
    """`make help` lists each target that is promised."""
    listed = run_to_end("make", "help").stdout
    for target in ("help", "setup", "serve", "train", "export", "test", "lint", "bench", "image", "audit"):
        assert f"make {target}" in listed


def test_a_model_that_is_not_there_is_told_before_anything_is_installed(project: Path) -> None:
    """A mistyped MODEL ends at once, with its name, and installs nothing."""
    for mark in (".created", ".inference", ".training"):
        (project / ".venv" / mark).unlink()
    stand_in(project, "echo installing >&2; exit 9\n")
    done = run_to_end("make", "serve", "MODEL=models/qurey_type", cwd=project)
    assert done.returncode == 2
    assert "MODEL=models/qurey_type: does not exist" in done.stderr
    assert "installing" not in done.stderr


def test_a_bundle_needs_no_training_packages(project: Path) -> None:
    """Serving a bundle, also one with a space in its path, runs gunicorn without installing torch."""
    (project / ".venv" / ".training").unlink()
    (project / "my model").mkdir()
    (project / "my model" / "inferer.json").touch()
    stand_in(project, 'echo "$@ bundle=$INFERER_BUNDLE port=$PORT"\n')
    done = run_to_end("make", "-s", "serve", "MODEL=my model", "PORT=9001", cwd=project)
    assert done.stdout.strip() == "-m gunicorn app:app bundle=my model port=9001"
    assert "torch" not in done.stderr


@pytest.mark.parametrize("given", [{}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}])
def test_serving_asks_for_huge_pages_unless_told_otherwise(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    """`make serve` sets the same as `inferer serve`; a value of the user's own stays."""
    (project / "model").mkdir()
    (project / "model" / "inferer.json").touch()
    stand_in(project, 'echo "$GLIBC_TUNABLES"\n')
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    done = run_to_end("make", "-s", "serve", "MODEL=model", cwd=project, **given)
    assert done.stdout.split() == [(HUGE_PAGES | given)["GLIBC_TUNABLES"]]


def test_a_checkpoint_needs_the_training_packages(project: Path) -> None:
    """Serving a checkpoint installs the packages for its conversion."""
    (project / ".venv" / ".training").unlink()
    (project / "checkpoint").mkdir()
    stand_in(project, "exit 0\n")
    done = run_to_end("make", "serve", "MODEL=checkpoint", cwd=project)
    assert "torch and transformers" in done.stderr
    assert (project / ".venv" / ".training").exists()


def test_an_old_python_is_refused_by_its_version(project: Path) -> None:
    """A Python before 3.11 is refused with a remedy, and make creates no environment."""
    shutil.rmtree(project / ".venv")
    old = project / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = run_to_end("make", "setup", "PYTHON=./old-python", cwd=project)
    assert "Python 3.11 or later is needed; ./old-python is Python 3.9.2" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_after_the_bundle_is_in_place_nothing_is_taken_away(project: Path, number: signal.Signals) -> None:
    """Make does not delete the last file of a bundle when it is interrupted just after that was renamed into place."""
    checkpoint, model = project / "checkpoints" / "query_type", project / "models" / "query_type"
    checkpoint.mkdir(parents=True)
    (checkpoint / "training.json").touch()
    stand_in(project, f"mkdir -p {model}; echo {{}} > {model}/inferer.json; touch {project}/written; sleep 20\n")
    process = subprocess.Popen(
        ["make", "export"], cwd=project, env=environment(), stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while not (project / "written").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert (model / "inferer.json").exists()


def test_the_demo_is_exported_again_when_the_format_may_have_changed(project: Path) -> None:
    """With a format younger than the demo's bundle the demo is exported anew, and is left alone with an older one."""
    training, bundle, code = (
        project / name
        for name in (
            "checkpoints/query_type/training.json",
            "models/query_type/inferer.json",
            "inferer/bundle/reader.py",
        )
    )
    recipes = [file for file in (project / "recipes").rglob("*") if file.is_file()]  # a fresh clone has new ones
    for file, age in (*((file, 400) for file in recipes), (training, 300), (bundle, 200), (code, 100)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    stand_in(project, f'echo "$@" >> {project}/ran; touch {bundle}\n')
    for _ in range(2):
        assert run_to_end("make", "export", cwd=project).returncode == 0
    ran = (project / "ran").read_text().splitlines()
    assert [line.split()[:2] for line in ran] == [["-m", "export"]]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for docker, first on the PATH, that prints its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text('#!/bin/sh\necho "docker $@"\n')
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "docker build --target inference --build-arg BASE_IMAGE=python:3.11-slim -t inferer ."),
        (
            ("BUNDLE=models/titles", "IMAGE=titles:7"),
            "docker build --target inference --build-arg BASE_IMAGE=python:3.11-slim "
            "--build-arg BUNDLE=models/titles -t titles:7 .",
        ),
        (
            ("TRACING=1",),
            "docker build --target inference --build-arg BASE_IMAGE=python:3.11-slim "
            "--build-arg TRACING=1 -t inferer .",
        ),
        (
            ("TARGET=training",),
            "docker build --target training --build-arg BASE_IMAGE=python:3.11-slim -t inferer-training .",
        ),
    ],
)
def test_an_image_is_built_with_what_was_given(project: Path, arguments: tuple[str, ...], expected: str) -> None:
    """`make image` gives docker the target and the bundle for the image."""
    (project / "models" / "titles").mkdir(parents=True)
    (project / "models" / "titles" / "inferer.json").touch()
    assert run_to_end("make", "-s", "image", *arguments, cwd=project).stdout.strip() == expected


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize("bundle", ["models/titels", "/srv/titles", "checkpoints/titles"])
def test_an_image_needs_a_bundle_under_models(project: Path, bundle: str) -> None:
    """`make image` names a BUNDLE that is not there, or not where an image can take it from, and builds nothing."""
    done = run_to_end("make", "-s", "image", f"BUNDLE={bundle}", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"BUNDLE={bundle}: is not a bundle under models/" in done.stderr


def audited(project: Path, ending: str) -> tuple[int, list[list[str]]]:
    """Run `make audit` with a stand-in for pip-audit; return make's exit code and pip-audit's arguments."""
    tool = project / ".venv" / ".audit" / "bin" / "pip-audit"
    tool.parent.mkdir(parents=True)
    tool.write_text(f'#!/bin/sh\necho "$@" >> {project}/asked\n{ending}\n')
    tool.chmod(0o755)
    (project / ".venv" / ".audit" / ".whole").touch()
    done = run_to_end("make", "audit", cwd=project)
    return done.returncode, [line.split() for line in (project / "asked").read_text().splitlines()]


def test_audit_asks_for_what_is_served_and_what_trains(project: Path) -> None:
    """`make audit` looks up the locked sets, and fails where it cannot look up a package."""
    code, (serving, tracing, training) = audited(project, "exit 0")
    assert code == 0
    assert {"--strict", "--disable-pip", "--require-hashes", "requirements_tracing.txt"} <= set(tracing)
    assert {"--strict", "--disable-pip", "--require-hashes", "requirements_inference.txt"} <= set(serving)
    assert {"--strict", "--disable-pip", "--no-deps", "requirements_training.txt"} <= set(training)


def test_a_vulnerability_fails_the_audit(project: Path) -> None:
    """`make audit` fails when pip-audit does."""
    code, _ = audited(project, "exit 1")
    assert code == 2
