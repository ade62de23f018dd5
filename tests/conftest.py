"""Fixtures: the hand-computable bundle, models on it, and the demo of `make test`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from inferer import ModelInferer
from inferer.bundle.manifest import MULTI_LABEL
from tests.support import tiny
from tests.support.apps import HeldApp, held_app
from tests.support.browser import Tab, launched, opened
from tests.support.server import ROOT, Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The same examples every time and no deadline: a busy machine is not a fault of the code.
settings.register_profile("here", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")

# A shell starts background jobs with SIGINT ignored, and the processes that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures for a trained model, real data, a browser or a container. `make check` leaves their tests out, and those that
# put a real gunicorn under load.
_HEAVY = {"demo_bundle", "test_data", "browser", "tab", "podman"}


# The slowest folders, which start first. service/process alone takes as long as another folder.
_LONGEST = ("export", "process", "training", "recipes", "image")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow the tests with a heavy fixture and those of gunicorn's processes; the longest folders first."""
    for item in items:
        heavy = isinstance(item, pytest.Function) and _HEAVY & set(item.fixturenames)
        if heavy or item.path.parent == ROOT / "tests" / "service" / "process":
            item.add_marker("slow")
    items.sort(key=lambda item: [*_LONGEST, _unit(item.nodeid)].index(_unit(item.nodeid)))


def _unit(nodeid: str) -> str:
    """Return the folder of tests that one process runs."""
    folders = nodeid.split("::")[0].split("/")
    return "process" if "process" in folders else folders[1]


class _ByFolder(LoadScopeScheduling):
    """Gives each folder of tests to one process: its tests share converted models, servers and images."""

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFolder:
    """Let `pytest -n` distribute folders, in the order of the tests."""
    config.option.loadscopereorder = False
    return _ByFolder(config, log)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single-label bundle of tests/support/tiny.py."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def inference_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of natural language inference, which reads pairs."""
    return tiny.write_inference_bundle(tmp_path_factory.mktemp("inference") / "bundle")


@pytest.fixture(scope="session")
def rank_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that ranks pairs by one number."""
    return tiny.write_rank_bundle(tmp_path_factory.mktemp("rank") / "bundle")


@pytest.fixture(scope="session")
def multi_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as multi-label, with a threshold of its own for one label."""
    folder = tmp_path_factory.mktemp("bundles") / "multi"
    return tiny.write_bundle(folder, problem_type=MULTI_LABEL, thresholds={"pos": 0.5, "neg": 0.9, "other": 0.5})


@pytest.fixture
def shared_bundle(tmp_path: Path) -> Path:
    """The tiny bundle under a scheme that allows shared runs."""
    return tiny.write_bundle(tmp_path / "shared", quantization={"scheme": "int8-token", "quantized_matmuls": 0})


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeldApp:
    """The application whose model can be held."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return held_app(tmp_path)


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> ModelInferer:
    """A single-label model."""
    return ModelInferer(tiny_bundle, intra_op_threads=1)


@pytest.fixture(scope="session")
def multi(multi_bundle: Path) -> ModelInferer:
    """A multi-label model."""
    return ModelInferer(multi_bundle, intra_op_threads=1)


@pytest.fixture(scope="session")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the tiny single-label bundle, with small limits."""
    log = tmp_path_factory.mktemp("server") / "log"
    limits = {"INFERER_MAX_BODY_BYTES": "20000", "INFERER_MAX_TEXTS": "4", "INFERER_MAX_TEXT_CHARS": "1000"}
    with serving(tiny_bundle, log, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    yield from launched()


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    """The page of the tiny single-label bundle, in a window of its own."""
    with opened(browser, server) as tab:
        yield tab


@pytest.fixture(scope="session")
def multi_server(multi_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the tiny multi-label bundle."""
    with serving(multi_bundle, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The demo's bundle; `make test` builds it first."""
    folder = ROOT / "models" / "query_type"
    if not (folder / "inferer.json").is_file():
        pytest.fail("the demo is missing: run `make export` first, or the tests by `make test`")
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets."""
    folder = os.environ.get("TEST_DATA_DIR")
    if not folder:
        pytest.skip("TEST_DATA_DIR is not set: real data sets are needed")
    return Path(folder)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Restore the handlers of SIGTERM and SIGINT that a command's `main` changes."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
