"""The engine, the stand-in base and the serving image, built once for all tests of the image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.base import load_base
from tests.image.engine import Podman, missing
from tests.support.server import ROOT
from tests.support.tiny import write_bundle


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """The engine, or a skip that names its needs."""
    why = missing()
    if why:
        pytest.skip(why)
    podman = Podman.make(tmp_path_factory.mktemp("podman"))
    yield podman
    podman.close()


@pytest.fixture(scope="session")
def base(podman: Podman) -> str:
    """The stand-in for python:3.11-slim."""
    return load_base(podman)


@pytest.fixture(scope="session")
def image(podman: Podman, base: str) -> str:
    """The serving image, without a model, as `make image` builds it."""
    return podman.build("localhost/inferer", base)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A copy of the build context of an untidy user: with secrets, tests and a checkpoint in it."""
    folder = tmp_path / "context"
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "models", "checkpoints")
    )
    (folder / ".env").write_text("INFERER_API_KEYS=geheim\n")
    (folder / "inferer" / "__pycache__").mkdir()
    (folder / "inferer" / "__pycache__" / "old.cpython-39.pyc").touch()
    (folder / "checkpoints" / "titles").mkdir(parents=True)
    (folder / "checkpoints" / "titles" / "model.safetensors").touch()
    write_bundle(folder / "models" / "titles")
    return folder
