"""Who may import whom, and what the served process never brings in."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, run_to_end

PACKAGES = ("inferer", "service", "export", "training", "bulk", "benchmarks", "tests", "app")
# The picture in docs/architecture.md: a package and those of ours that it may import.
MAY_IMPORT = {
    "app": {"service"},
    "service": {"inferer"},
    "inferer": set(),
    "export": {"inferer", "training"},
    "training": set(),
    "bulk": {"inferer"},
}
# What export may take from training: nothing that brings in torch.
TORCH_FREE_TRAINING = {
    "training.address",
    "training.base_model",
    "training.data",
    "training.csv_file",
    "training.duplicates",
    "training.errors",
    "training.f1",
    "training.intervals",
    "training.hub_data",
    "training.json_lines",
    "training.labelled",
    "training.metrics",
    "training.output",
    "training.parquet_file",
    "training.read_data",
    "training.source",
    "training.table",
    "training.text_folder",
}
# … but the heads that a checkpoint may have, which are torch's.
HEADS = {"training.heads"}
INFERER_NEEDS = {"numpy", "onnxruntime", "tokenizers", "tqdm"}


def imports(file: Path) -> set[str]:
    """Return the modules that `file` imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides its direction"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(package: str) -> list[Path]:
    """Return the Python files of one of our packages."""
    return [ROOT / "app.py"] if package == "app" else sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    """A package imports only those of ours that it may know."""
    for file in files_of(package):
        ours = {name.split(".")[0] for name in imports(file)} & set(PACKAGES) - {package}
        assert ours <= MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def test_export_takes_only_torch_free_parts_of_training() -> None:
    """Export imports only the torch-free parts of training."""
    taken = {
        ".".join(name.split(".")[:2])
        for file in files_of("export")
        for name in imports(file)
        if name.startswith("training.")
    }
    assert taken
    assert taken <= TORCH_FREE_TRAINING | HEADS


def test_inferer_needs_only_its_four_libraries() -> None:
    """Inferer imports only numpy, onnxruntime, tokenizers, tqdm and the standard library."""
    for file in files_of("inferer"):
        outside = {name.split(".")[0] for name in imports(file)} - set(sys.stdlib_module_names) - {"inferer"}
        assert outside <= INFERER_NEEDS, f"{file.relative_to(ROOT)} imports {outside - INFERER_NEEDS}"


def test_only_session_imports_onnxruntime() -> None:
    """Of inferer's files, session.py alone imports onnxruntime."""
    users = {file.name for file in files_of("inferer") if any(n.startswith("onnxruntime") for n in imports(file))}
    assert users == {"session.py"}


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise AssertionError("imported " + name)
sys.meta_path.insert(0, Block())
"""


def test_app_answers_with_torch_transformers_and_optimum_blocked(tiny_bundle: Path) -> None:
    """Importing app and answering a request need no torch, transformers, optimum, export or training."""
    code = BLOCK.format(blocked=("torch", "transformers", "optimum", "onnx", "export", "training", "sklearn")) + (
        "from app import app\n"
        "reply = app.test_client().post('/predict', json={'text': 'good'})\n"
        "assert reply.status_code == 200, reply.text\n"
        "print(reply.json['label'])\n"
    )
    done = run_to_end(sys.executable, "-c", code, INFERER_BUNDLE=str(tiny_bundle))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "pos"


@pytest.mark.parametrize("module", ["inferer", "inferer.cpu", "service", "service.settings"])
def test_what_gunicorn_reads_before_the_fork_is_free_of_onnxruntime(module: str) -> None:
    """A module that gunicorn.conf.py needs before the fork does not bring in onnxruntime."""
    code = BLOCK.format(blocked=("onnxruntime",)) + f"import {module}\nprint('imported')\n"
    done = run_to_end(sys.executable, "-c", code)
    assert done.stdout.strip() == "imported", done.stderr


def test_gunicorn_configuration_is_free_of_onnxruntime() -> None:
    """gunicorn.conf.py does not bring onnxruntime into the master, before the fork."""
    code = BLOCK.format(blocked=("onnxruntime",)) + "import runpy; runpy.run_path('gunicorn.conf.py'); print('read')\n"
    done = run_to_end(sys.executable, "-c", code)
    assert done.stdout.strip() == "read", done.stderr


def test_public_names_are_what_all_says() -> None:
    """The public names of inferer are those of __all__, and each of them can be imported."""
    import inferer

    for name in inferer.__all__:
        assert getattr(inferer, name).__name__ == name
    assert sorted(inferer.__all__) == dir(inferer)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = inferer.nothing
