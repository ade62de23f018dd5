"""A PyTorch checkpoint given to ModelInferer: exported once in a child process, then found in the cache."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inferer import BundleError, CheckpointError, ConfigError, ModelInferer
from inferer.checkpoint import bundle_for, default_cache_dir
from inferer.config import Config, read_config
from tests.support import architectures
from tests.support.architectures import LABELS, LONG_TEXT, TEXTS, copy_of, write_json
from tests.support.server import ROOT, environment, run_to_end

pytestmark = pytest.mark.slow

# Two server workers that start on the same checkpoint: each prints its logits and what it has imported.
WORKER = """
import json, sys
from inferer import ModelInferer
model = ModelInferer(config=json.loads(sys.argv[2]), checkpoint_path=sys.argv[1], quantize=True, cache_dir=sys.argv[3])
heavy = sorted({"torch", "transformers", "optimum", "onnx", "export", "training"} & set(sys.modules))
print(json.dumps({"logits": [model.logits(text).tolist() for text in sys.argv[4:]], "heavy": heavy}))
"""
WORKER_TIMEOUT_S = 120


class ChildStartedError(RuntimeError):
    """A child process was started unexpectedly."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint that two threads gave to ModelInferer at once, and the models that they got."""

    path: Path
    cache: Path
    models: tuple[ModelInferer, ...]
    children: int


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint folder; not to be changed."""
    return architectures.checkpoint(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that `python -m export` makes of it, with the fp32 model."""
    return architectures.bundle(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Converted:
    """The checkpoint folder, given to ModelInferer by two threads at once."""
    cache = tmp_path_factory.mktemp("cache")
    children = []
    real = subprocess.Popen

    def counting(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        children.append(arguments)
        return real(*arguments, **options)

    together = threading.Barrier(2)

    def build(_: int) -> ModelInferer:
        together.wait()
        return ModelInferer(bert, cache_dir=cache)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(subprocess, "Popen", counting)
        models = tuple(pool.map(build, range(2)))
    return Converted(bert, cache, models, len(children))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> tuple[Path, dict[str, Any]]:
    """The same weights as a bare state dict, and the config that describes it."""
    return architectures.write_state_dict(tmp_path_factory.mktemp("bare"), bert)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a child process fail."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ChildStartedError

    monkeypatch.setattr(subprocess, "Popen", refuse)


def _logits(model: ModelInferer) -> np.ndarray:
    return np.stack([model.logits(text) for text in (*TEXTS, LONG_TEXT)])


def test_a_checkpoint_folder_answers_as_its_bundle(converted: Converted, bundle: Path) -> None:
    """A checkpoint folder given to ModelInferer answers as the bundle exported from it."""
    expected = _logits(ModelInferer(bundle))
    for model in converted.models:
        assert model.labels == LABELS
        assert model.scheme == "int8-token"
        np.testing.assert_array_equal(_logits(model), expected)


def test_two_threads_at_once_convert_once(converted: Converted) -> None:
    """Threads that start on the same checkpoint convert it once, and read one bundle."""
    assert converted.children == 1
    assert len({model.bundle.path for model in converted.models}) == 1
    assert len([folder for folder in converted.cache.iterdir() if folder.is_dir()]) == 1


@pytest.mark.usefixtures("no_child")
def test_a_checkpoint_is_converted_once(converted: Converted, bundle: Path) -> None:
    """A second ModelInferer on the same checkpoint starts no child process, and answers as the first."""
    np.testing.assert_array_equal(
        _logits(ModelInferer(converted.path, cache_dir=converted.cache)), _logits(ModelInferer(bundle))
    )


@pytest.mark.usefixtures("no_child")
def test_the_cache_goes_by_content_and_not_by_place(tmp_path: Path, converted: Converted) -> None:
    """The same checkpoint at another path, as after a new deployment, is found in the cache."""
    elsewhere = Path(shutil.copytree(converted.path, tmp_path / "release-2" / converted.path.name))
    assert bundle_for(elsewhere, Config(), cache_dir=converted.cache) == converted.models[0].bundle.path


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("what", ["weights", "config.json", "tokenizer", "quantize", "config", "format"])
def test_a_change_of_any_input_of_the_bundle_converts_again(
    tmp_path: Path, converted: Converted, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New weights, labels, tokenizer, options or config, or another bundle format, are converted again."""
    folder = Path(shutil.copytree(converted.path, tmp_path / converted.path.name))
    options: dict[str, Any] = {}
    if what == "weights":
        weights = load_file(folder / "model.safetensors")
        weights["classifier.bias"] += torch.tensor([0.0, 0.0, 1e-3])
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    elif what == "config.json":
        config = (folder / "config.json").read_text(encoding="utf-8")
        (folder / "config.json").write_text(config.replace(LABELS[0], "shop"), encoding="utf-8")
    elif what == "tokenizer":
        words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        words["normalizer"]["lowercase"] = False
        write_json(folder / "tokenizer.json", words)
    elif what == "quantize":
        options = {"quantize": False}
    elif what == "format":
        monkeypatch.setattr("inferer.checkpoint.FORMAT_VERSION", 1)
    else:
        options = {"config": {"max_length": 32}}
    with pytest.raises(ChildStartedError):
        ModelInferer(folder, cache_dir=converted.cache, **options)


@pytest.mark.usefixtures("no_child")
def test_a_cached_conversion_needs_no_export_packages(converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that is in the cache is served where torch is not installed."""
    _without(monkeypatch, "torch", "onnxscript")
    assert bundle_for(converted.path, Config(), cache_dir=converted.cache).is_dir()


def test_quantize_false_converts_to_fp32(tmp_path: Path, bert: Path, bundle: Path) -> None:
    """quantize=False on a checkpoint runs fp32, and answers as the fp32 model of an exported bundle."""
    model = ModelInferer(config=None, checkpoint_path=bert, quantize=False, cache_dir=tmp_path)
    assert model.scheme == "fp32"
    np.testing.assert_array_equal(_logits(model), _logits(ModelInferer(bundle, quantize=False)))


def test_workers_at_once_convert_a_state_dict_once_and_never_import_torch(
    tmp_path: Path, bare: tuple[Path, dict[str, Any]], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that start together on a bare state dict convert it once, without torch, and answer as its bundle."""
    file, config = bare
    command = [sys.executable, "-c", WORKER, str(file), json.dumps(config), str(tmp_path), *TEXTS]
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [worker.communicate(timeout=WORKER_TIMEOUT_S) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    answers = [json.loads(output) for output, _ in outputs]
    assert [answer["heavy"] for answer in answers] == [[], []]
    expected = np.stack([ModelInferer(bundle).logits(text) for text in TEXTS])
    for answer in answers:
        np.testing.assert_allclose(np.array(answer["logits"]), expected, atol=1e-6)
    # The user sees the export's progress through the worker that ran it.
    assert sorted(said.count("fp32 ONNX against torch") for _, said in outputs) == [0, 1]

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ChildStartedError

    # The same config from a JSON file, with model_name relative to it, is the same conversion.
    beside = write_json(file.parent / "config.json", {**config, "model_name": Path(config["model_name"]).name})
    monkeypatch.setattr(subprocess, "Popen", refuse)
    model = ModelInferer(config=beside, checkpoint_path=file, quantize=True, cache_dir=tmp_path)
    np.testing.assert_allclose(np.stack([model.logits(text) for text in TEXTS]), expected, atol=1e-6)
    # A state dict with other bytes is another conversion.
    torch.save({name: weight + 1 for name, weight in torch.load(file).items()}, tmp_path / file.name)
    with pytest.raises(ChildStartedError):
        ModelInferer(tmp_path / file.name, config, cache_dir=tmp_path)


def test_a_failing_export_says_why_and_leaves_no_bundle(
    tmp_path: Path, bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error of a failed export has the export's last line, and no folder is left in the cache."""
    silent = copy_of(bert, tmp_path / "silent", problem_type=None)
    with pytest.raises(CheckpointError) as raised:
        ModelInferer(silent, cache_dir=tmp_path / "cache")
    message = str(raised.value)
    assert message.startswith(f"checkpoint {silent}: export failed: export: checkpoint {silent}: problem_type is None")
    assert message.endswith("give --problem-type, single_label_classification or multi_label_classification")
    assert "\n" not in message
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]
    assert "problem_type is None" in capfd.readouterr().err


def test_packages_of_the_same_name_where_the_caller_runs_are_not_taken_for_ours(tmp_path: Path, bert: Path) -> None:
    """A checkpoint is converted though the caller's folder has packages called training and export."""
    for name in ("training", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    code = "import sys; from inferer import ModelInferer; print(ModelInferer(sys.argv[1], cache_dir='cache').scheme)"
    done = run_to_end(sys.executable, "-c", code, str(bert), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout.strip() == "int8-token", done.stderr


def _without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let `packages` look as if they were not installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in packages else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.usefixtures("no_child")
def test_without_the_export_packages_the_error_says_what_to_install(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server without torch, a checkpoint ends in a CheckpointError that names the missing packages."""
    _without(monkeypatch, "torch", "onnxscript")
    expected = r"not installed here \(torch, onnxscript\); run `pip install \.\[export\]`"
    with pytest.raises(CheckpointError, match=expected):
        ModelInferer(bert, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "does not exist"),
        (lambda path: path.mkdir(), "is neither a bundle .* nor a PyTorch checkpoint"),
        (lambda path: path.write_text("a text"), "is neither a bundle .* nor a PyTorch checkpoint"),
    ],
    ids=["nothing", "empty folder", "another file"],
)
def test_a_path_that_is_neither_bundle_nor_checkpoint_is_refused(tmp_path: Path, make: Any, said: str) -> None:
    """Any other path is refused without a conversion, and the message names the fault."""
    make(tmp_path / "thing")
    with pytest.raises(BundleError, match=said):
        ModelInferer(tmp_path / "thing", cache_dir=tmp_path / "cache")


@pytest.mark.usefixtures("no_child")
def test_a_config_without_weights_is_not_a_checkpoint(tmp_path: Path, bert: Path) -> None:
    """A folder with config.json and no weights is refused at once, not sent to the export."""
    folder = copy_of(bert, tmp_path / "weightless")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match="a folder with config.json and weights"):
        ModelInferer(folder, cache_dir=tmp_path / "cache")


@pytest.mark.usefixtures("no_child")
def test_a_wrong_config_is_refused_before_the_conversion(tmp_path: Path, bert: Path) -> None:
    """A misspelled key is refused before any conversion starts, with the nearest key."""
    with pytest.raises(ConfigError, match="did you mean max_seq_length"):
        ModelInferer(bert, {"max_seq_lenght": 32}, cache_dir=tmp_path)


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_a_state_dict_is_known_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    """A bare state dict under each of the usual suffixes is sent to the export."""
    torch.save({"weight": torch.ones(2)}, tmp_path / f"model{suffix}")
    with pytest.raises(ChildStartedError):
        bundle_for(tmp_path / f"model{suffix}", read_config({"model_name": "any"}), cache_dir=tmp_path / "cache")


def test_the_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions are kept in INFERER_CACHE_DIR, else under XDG_CACHE_HOME, else under ~/.cache."""
    monkeypatch.setenv("HOME", os.fspath(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("INFERER_CACHE_DIR", "~/bundles")
    assert default_cache_dir() == tmp_path / "home" / "bundles"
    monkeypatch.setenv("INFERER_CACHE_DIR", "")
    assert default_cache_dir() == tmp_path / "inferer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "inferer"
    monkeypatch.setenv("INFERER_CACHE_DIR", "~no-such-user/x")
    with pytest.raises(ConfigError, match="INFERER_CACHE_DIR: '~no-such-user/x' is not allowed"):
        default_cache_dir()


@pytest.mark.usefixtures("no_child")
def test_without_cache_dir_python_uses_the_variable(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModelInferer and bundle_for without cache_dir convert into INFERER_CACHE_DIR; an argument wins over it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("INFERER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    for call in (lambda: ModelInferer(bert), lambda: bundle_for(bert, Config())):
        with pytest.raises(CheckpointError, match="cannot be converted into .*file/cache: .*Not a directory"):
            call()
    with pytest.raises(ChildStartedError):
        ModelInferer(bert, cache_dir=tmp_path / "cache")
