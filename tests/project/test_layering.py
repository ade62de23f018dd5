"""The import rules between packages and modules, and the packages that the server never loads."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.server import ROOT, run_to_end

PACKAGES = ("inferer", "service", "export", "training", "bulk", "recipes", "benchmarks", "tests", "app")
# The picture in docs/architecture.md: a package and those of ours that it may import.
MAY_IMPORT = {
    "app": {"service"},
    "service": {"inferer"},
    "inferer": set(),
    "training": {"inferer"},
    "export": {"inferer", "training"},
    "bulk": {"inferer", "training"},
    "recipes": {"inferer", "training"},
}
SOURCES = ("inferer", "service", "training", "export", "bulk", "recipes")
MOST_FILES = 15
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
    """A package imports only the packages of ours below it."""
    for file in files_of(package):
        ours = {name.split(".")[0] for name in imports(file)} & set(PACKAGES) - {package}
        assert ours <= MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def import_graph() -> dict[str, set[str]]:
    """Return module -> the modules of ours that it imports anywhere, under TYPE_CHECKING and in functions too."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for package in SOURCES
        for file in files_of(package)
    }
    return {name: (imports(file) & set(modules)) - {name} for name, file in modules.items()}


def first_cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return the modules of one import cycle in `graph`, the first of them at both ends, or None."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for other in sorted(graph[name]):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := walk(name, []))), None)


def test_modules_import_each_other_in_one_direction() -> None:
    """No module imports itself by way of others, not even for types alone."""
    assert first_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert first_cycle(import_graph()) is None


def test_folders_stay_small_enough_to_search_by_eye() -> None:
    """A folder of sources or tests holds at most 15 Python files."""
    folders = {file.parent for package in (*SOURCES, "benchmarks", "tests") for file in files_of(package)}
    crowded = {
        str(folder.relative_to(ROOT)): n for folder in folders if (n := len([*folder.glob("*.py")])) > MOST_FILES
    }
    assert crowded == {}


def test_inferer_needs_only_its_four_libraries() -> None:
    """Inferer imports only numpy, onnxruntime, tokenizers, tqdm and the standard library."""
    for file in files_of("inferer"):
        outside = {name.split(".")[0] for name in imports(file)} - set(sys.stdlib_module_names) - {"inferer"}
        assert outside <= INFERER_NEEDS, f"{file.relative_to(ROOT)} imports {outside - INFERER_NEEDS}"


# Import names that are not those of their distributions; safetensors comes with transformers.
DISTRIBUTIONS = {
    "flask_swagger_ui": "flask-swagger-ui", "iterstrat": "iterative-stratification", "optimum": "optimum-onnx",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client", "safetensors": "transformers", "sklearn": "scikit-learn",
    "tomli_w": "tomli-w", "werkzeug": "flask",
}  # fmt: skip


def imported_at_once(files: list[Path]) -> set[str]:
    """Return the distributions that importing `files` imports, ours followed to their own imports."""
    seen: set[Path] = set()
    found: set[str] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:  # at the top: not under TYPE_CHECKING, not lazily
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                top = name.split(".")[0]
                if top in SOURCES:
                    path = ROOT / Path(*name.split("."))
                    waiting += [one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()]
                elif top not in sys.stdlib_module_names:
                    found.add(DISTRIBUTIONS.get(top, top))
    return found


SPANS = ROOT / "service" / "telemetry" / "spans.py"
CLEANLAB = ROOT / "training" / "label_errors" / "issues.py"
OPTUNA = ROOT / "training" / "search" / "study.py"
CLUSTERS = {"spark": ROOT / "bulk" / "spark.py", "ray": ROOT / "bulk" / "ray.py"}
EXTRAS = {
    "serve": [file for file in files_of("service") if file != SPANS], "tracing": [SPANS],
    "training": [file for file in files_of("training") if file not in (CLEANLAB, OPTUNA)],
    "label-errors": [CLEANLAB], "auto": [OPTUNA],
    "export": files_of("export"),
    "bulk": [file for file in files_of("bulk") if file not in CLUSTERS.values()],
    **{extra: [file] for extra, file in CLUSTERS.items()},
}  # fmt: skip


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_all_that_its_modules_import(extra: str) -> None:
    """The packages that a stage imports, by way of ours too, are the project's own needs or those of its extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    given = [*project["dependencies"], *extras[extra]]
    given += [name for one in extras[extra] if one.startswith("inferer[") for name in extras[one[8:-1]]]
    brought = {re.split(r"[\[<>=~!;, ]", one)[0] for one in given}
    assert imported_at_once(EXTRAS[extra]) <= brought


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
    """Importing app and serving a request need neither torch, transformers, optimum, export nor training."""
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
    """A module that gunicorn's configuration needs before the fork does not bring in onnxruntime."""
    code = BLOCK.format(blocked=("onnxruntime",)) + f"import {module}\nprint('imported')\n"
    done = run_to_end(sys.executable, "-c", code)
    assert done.stdout.strip() == "imported", done.stderr


def test_gunicorn_configuration_is_free_of_onnxruntime() -> None:
    """Gunicorn's configuration does not bring onnxruntime into the master, before the fork."""
    code = BLOCK.format(blocked=("onnxruntime",)) + "import service.process.gunicorn_config; print('read')\n"
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
