"""The serving set alone: requirements_inference.txt in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inferer import ModelInferer
from tests.support.server import ROOT, environment, log_lines, run_to_end, serving

pytestmark = pytest.mark.slow


def make_venv(folder: Path, *install: str) -> str:
    """Make a virtual environment in `folder`, install into it, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=environment())
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *install]
    done = run_to_end(*command, timeout_s=600)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def serving_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with requirements_inference.txt alone, its hashes checked."""
    folder = tmp_path_factory.mktemp("served") / "venv"
    return make_venv(folder, "--require-hashes", "-r", str(ROOT / "requirements_inference.txt"))


def test_the_served_set_has_no_torch_and_no_transformers(serving_python: str) -> None:
    """requirements_inference.txt brings the serving packages, and neither torch, transformers, optimum nor onnx."""
    listed = json.loads(run_to_end(serving_python, "-m", "pip", "list", "--format", "json").stdout)
    names = {package["name"].lower() for package in listed}
    assert {"flask", "gunicorn", "onnxruntime", "tokenizers", "numpy"} <= names
    assert not names & {"torch", "transformers", "optimum", "optimum-onnx", "onnx", "scikit-learn", "accelerate"}


def test_import_app_and_a_prediction_work_with_the_served_set_alone(serving_python: str, demo_bundle: Path) -> None:
    """With requirements_inference.txt alone, `import app` and a prediction work."""
    code = "from app import app; print(app.test_client().post('/predict', json={'text': 'huggies'}).json['label'])"
    done = run_to_end(serving_python, "-W", "error", "-c", code, INFERER_BUNDLE=str(demo_bundle))
    assert done.stdout.strip() == "brand", done.stderr


def test_gunicorn_and_the_command_line_work_with_the_served_set_alone(
    serving_python: str, demo_bundle: Path, tmp_path: Path
) -> None:
    """With requirements_inference.txt alone, gunicorn and `python -m inferer` predict as ModelInferer does here."""
    expected = ModelInferer(demo_bundle).predict("hand bags").as_dict()
    with serving(demo_bundle, tmp_path / "log", python=serving_python) as server:
        assert server.predict({"text": "hand bags"}).json() == expected
    done = run_to_end(serving_python, "-m", "inferer", str(demo_bundle), "hand bags", "--json")
    assert json.loads(done.stdout) == expected


def test_traces_without_their_packages_are_refused(serving_python: str, demo_bundle: Path) -> None:
    """Where OTEL_* asks for traces, the served set alone ends the start with the package to install."""
    settings = {"INFERER_BUNDLE": str(demo_bundle), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = run_to_end(serving_python, "-m", "gunicorn", "app:app", **settings)
    assert done.returncode == 3
    (line,) = log_lines(done.stdout + done.stderr)
    assert "opentelemetry-exporter-otlp-proto-http is not installed; traces need" in line["message"]
    assert "pip install 'inferer[tracing]'" in line["message"]


def test_a_checkpoint_without_the_export_packages_says_what_to_install(
    serving_python: str, tmp_path: Path, demo_bundle: Path
) -> None:
    """Without torch, a checkpoint in place of a bundle ends with the packages to install, and no traceback."""
    checkpoint = demo_bundle.parent.parent / "checkpoints" / "query_type"
    done = run_to_end(serving_python, "-m", "inferer", str(checkpoint), "x", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "pip install .[export]" in done.stderr
    assert "torch" in done.stderr
    assert "Traceback" not in done.stderr
