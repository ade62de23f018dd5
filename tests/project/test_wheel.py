"""The wheel in empty environments, run from a folder with packages of the same names as ours."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

import inferer
from inferer import ModelInferer
from tests.project.test_environment import make_venv
from tests.support.apps import until
from tests.support.fruit import command, write_base, write_table
from tests.support.server import ROOT, environment, free_port, run_to_end, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make wheel` builds it, in a copy of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "models", "checkpoints", "tests", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    done = run_to_end(*pip, str(folder / "source"))
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with packages that have the names of ours, and that fail when they are imported."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("inferer", "service", "export", "training"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise AssertionError('the package of the working folder')\n")
    for name in ("app", "flask", "tokenizers", "onnxruntime"):
        (folder / f"{name}.py").write_text("raise AssertionError('a module of the working folder')\n")
    return folder


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel and its own needs."""
    return Path(make_venv(tmp_path_factory.mktemp("bare") / "venv", str(wheel))).parent


def with_packages_of_the_tests(wheel: Path, folder: Path) -> Path:
    """Return the scripts of a new environment with the wheel, and with the packages that the tests run with."""
    scripts = Path(make_venv(folder, "--no-deps", str(wheel))).parent
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel and the needs of every extra."""
    return with_packages_of_the_tests(wheel, tmp_path_factory.mktemp("full") / "venv")


def test_the_wheel_has_the_version_of_the_package(bare: Path, elsewhere: Path) -> None:
    """`inferer --version`, the wheel's metadata and `inferer.__version__` agree."""
    assert run_to_end(str(bare / "inferer"), "--version", cwd=elsewhere).stdout == f"inferer {inferer.__version__}\n"
    code = "from importlib.metadata import version; print(version('inferer'))"
    assert run_to_end(str(bare / "python"), "-P", "-c", code).stdout.strip() == inferer.__version__


def test_the_wheel_alone_predicts(bare: Path, elsewhere: Path, demo_bundle: Path) -> None:
    """With its own needs alone the wheel predicts on the command line and from Python, without Flask and torch."""
    expected = ModelInferer(demo_bundle).predict("hand bags").as_dict()
    done = run_to_end(str(bare / "inferer"), "predict", str(demo_bundle), "hand bags", "--json", cwd=elsewhere)
    assert json.loads(done.stdout) == expected, done.stderr
    code = (
        "import importlib.util as u, sys; from inferer import ModelInferer; "
        "print(ModelInferer(sys.argv[1]).predict('diapers').label, [n for n in ('flask', 'torch') if u.find_spec(n)])"
    )
    done = run_to_end(str(bare / "python"), "-P", "-c", code, str(demo_bundle), cwd=elsewhere)
    assert done.stdout.strip() == "category []", done.stderr


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("train", "--data", "x.csv"), "torch", "training"),
        (("evaluate", "checkpoint"), "torch", "training"),
        (("export", "checkpoint", "bundle"), "torch", "export"),
        (("serve", "bundle"), "flask", "serve"),
        (("predict", "x.csv", "--model", "bundle"), "pyarrow", "bulk"),
    ],
)
def test_a_command_without_its_packages_names_the_extra(
    bare: Path, elsewhere: Path, arguments: tuple[str, ...], package: str, extra: str
) -> None:
    """A command without its packages ends with one line that names the extra, and with exit code 2."""
    done = run_to_end(str(bare / "inferer"), *arguments, cwd=elsewhere)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert package in line
    assert f"the extra '{extra}'" in line


def test_the_wheel_serves(full: Path, elsewhere: Path, demo_bundle: Path, tmp_path: Path) -> None:
    """`inferer serve BUNDLE --port N` serves and reloads in any folder, and ends with 0 on SIGTERM."""
    expected = ModelInferer(demo_bundle).predict("hand bags").as_dict()
    port = free_port()
    (elsewhere / "titles").symlink_to(demo_bundle)
    serve = [str(full / "inferer"), "serve", "titles", "--port", str(port)]
    with running(serve, port, tmp_path / "log", elsewhere, environment()) as server:
        assert server.predict({"text": "hand bags"}).json() == expected
        assert server.request("GET", "/").status == 200  # the page's files are in the wheel
        server.process.send_signal(signal.SIGHUP)
        until(lambda: any(str(line["message"]).startswith("SIGHUP: ") for line in server.logged()), 60)
        assert any(str(line["message"]).startswith("SIGHUP: serving ") for line in server.logged())
        assert server.stop() == 0


def test_the_wheel_scores_a_table(full: Path, elsewhere: Path, demo_bundle: Path) -> None:
    """`inferer predict TABLE --model BUNDLE` scores a table in any folder."""
    (elsewhere / "queries.csv").write_text("text\nhand bags\n")
    arguments = ("queries.csv", "--model", str(demo_bundle), "--text-column", "text", "--output", "scored.csv")
    done = run_to_end(str(full / "inferer"), "predict", *arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    label = ModelInferer(demo_bundle).predict("hand bags").label
    assert (elsewhere / "scored.csv").read_text().splitlines()[1].startswith(f"hand bags,{label},")


def test_the_wheel_trains_exports_and_evaluates(full: Path, elsewhere: Path, tmp_path: Path) -> None:
    """`inferer train`, `export`, `evaluate` and `predict` work one after the other from any folder."""
    base, table = write_base(tmp_path / "base"), write_table(tmp_path / "fruit.csv")
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    steps = [
        ["train", *command(table, base, checkpoint, "--label-column", "colour", "--epochs", "1")],
        ["export", str(checkpoint), str(bundle)],
        ["evaluate", str(bundle), "--data", str(table), "--text-column", "text", "--label-column", "colour"],
        ["predict", str(bundle), "red apple"],
    ]
    for step in steps:
        done = run_to_end(str(full / "inferer"), *step, cwd=elsewhere)
        assert done.returncode == 0, (step[0], done.stderr)
    assert done.stdout.startswith("red apple\n")


def test_the_editable_install_is_this_checkout() -> None:
    """`make setup` installs the project editable: its metadata is there, and its command is beside Python."""
    assert version("inferer") == inferer.__version__
    tool = Path(sys.executable).parent / "inferer"
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == f"inferer {inferer.__version__}\n"
