"""The fused operators: the graph of before without the library, and the same answers and bits in batches with it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import export.engine.quantize
import inferer.native
from export.engine.fused import DOMAIN
from inferer import ModelInferer
from inferer.bundle.reader import INT8_MODEL, TOKENIZER
from inferer.native.build import build
from inferer.session import Session
from inferer.tokens.encoding import Encoder, Encoding
from tests.support import architectures
from tests.support.architectures import LONG_TEXT, POSITIONS, TEXTS

pytestmark = pytest.mark.slow

TEXTS_OF_ALL_LENGTHS = [*TEXTS, LONG_TEXT, *(" ".join(LONG_TEXT.split()[:words]) for words in range(2, 60, 3))]
# What the export calls, in two layers unless noted; the last normalization of all quantizes nothing.
CALLS = {
    "bert": {"AttentionQuantize": 2, "GeluQuantize": 2, "NormQuantizeBias": 1, "NormQuantizeScaled": 1},
    "distilbert": {"AttentionQuantize": 2, "GeluQuantize": 2, "NormQuantizeBias": 1, "NormQuantizeScaled": 1},
    "albert": {"AttentionQuantize": 3, "NormQuantizeBias": 3, "NormQuantize": 2},  # three layers; its GELU is tanh's
    "deberta-v2": {"GeluQuantize": 2},  # its attention adds terms by place
    "modernbert": {"GegluQuantize": 2, "AddNormQuantize": 2},  # the queries of the last layer read a norm beside
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built from the sources."""
    folder = tmp_path_factory.mktemp("operators")
    if why_not := build(folder):
        pytest.skip(why_not)
    return folder / "operators.so"


@pytest.fixture
def with_library(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library in use."""
    monkeypatch.setattr(inferer.native, "LIBRARY", library)
    return library


def encodings(model: Path) -> list[Encoding]:
    """Return texts of 3 to POSITIONS tokens."""
    encoder = Encoder(model.parent / TOKENIZER, POSITIONS)
    return [encoder.encode_one(text) for text in TEXTS_OF_ALL_LENGTHS]


def optimized(model: Path, folder: Path, library: Path | None = None) -> Counter[str]:
    """Return the operators that onnxruntime runs for `model`."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    if library is not None:
        options.register_custom_ops_library(str(library))
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("architecture", CALLS)
def test_the_operators_are_called(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A known encoder calls the operators, each of which the model has as a function."""
    model = onnx.load(architectures.bundle(tmp_path_factory, architecture) / INT8_MODEL)
    onnx.checker.check_model(model)
    calls = Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)
    assert {name: calls[name] for name in CALLS[architecture]} == CALLS[architecture]
    assert set(calls) == {function.name for function in model.functions}
    assert calls


@pytest.mark.parametrize("architecture", architectures.TESTED)
def test_without_the_library_nothing_changes(
    architecture: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes that run are those of a model exported without the operators, and every bit is the same."""
    bundle = architectures.bundle(tmp_path_factory, architecture)
    monkeypatch.setattr(export.engine.quantize, "fuse", lambda *_: None)
    assert architectures.run_export(architectures.checkpoint(tmp_path_factory, architecture), tmp_path / "plain") == 0
    plain = tmp_path / "plain" / INT8_MODEL
    assert optimized(bundle / INT8_MODEL, tmp_path) == optimized(plain, tmp_path)
    ours, theirs = Session(bundle / INT8_MODEL, 1, native=False), Session(plain, 1)
    for encoding in encodings(plain):
        assert np.array_equal(ours.run(encoding), theirs.run(encoding))


def test_the_kernels_take_the_place_of_the_functions(
    library: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With the library onnxruntime runs every call by its kernel."""
    model = architectures.bundle(tmp_path_factory, "bert") / INT8_MODEL
    called = Counter(node.op_type for node in onnx.load(model).graph.node if node.domain == DOMAIN)
    runs = optimized(model, tmp_path, library)
    assert {name: runs[name] for name in called} == called
    assert not runs["QuantizeLinear"]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("architecture", architectures.TESTED)
@pytest.mark.usefixtures("with_library")
def test_the_library_gives_the_same_answers_and_no_bit_depends_on_the_batch(
    architecture: str, exact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Logits are near those without the library, and a text's bits are the same in any batch and on two threads."""
    model = architectures.bundle(tmp_path_factory, architecture) / INT8_MODEL
    pad = 1 if architecture in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    one, two = (Session(model, threads, exact=exact, pad_id=pad) for threads in (1, 2))
    without = Session(model, 1, exact=exact, pad_id=pad, native=False)
    assert (one.native, without.native) == (True, False)
    texts = encodings(model)
    alone = np.stack([one.run(text) for text in texts])
    others = np.stack([without.run(text) for text in texts])
    assert np.abs(alone - others).max() < 0.05 * np.abs(others).max()
    chooser = np.random.default_rng(0)
    for session in (one, two):
        for size in (2, 3, 16, len(texts)):
            order = chooser.permutation(len(texts))
            for rows in (order[start : start + size] for start in range(0, len(order), size)):
                assert np.array_equal(session.run_batch([texts[row] for row in rows]), alone[rows])


@pytest.mark.usefixtures("with_library")
def test_a_bundle_passes_its_golden_check_with_the_library(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The golden logits are those without the library; they pass with it, and texts share runs."""
    model = ModelInferer(architectures.bundle(tmp_path_factory, "bert"), intra_op_threads=1)
    assert (model.native, model.golden_check.outcome, model.alone_because) == (True, "passed", None)
    assert model.golden_check.largest_difference is not None
    assert 0 < model.golden_check.largest_difference < 0.01


@pytest.mark.parametrize("content", [None, b"", b"no library", "other"])
def test_a_library_that_does_not_load_is_named_once(
    content: bytes | str | None,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A missing library is not mentioned, one that does not load is named in one line, and the model runs."""
    file = tmp_path / "operators.so"
    if content == "other":  # a library without the entry point
        shutil.copy(np._core._multiarray_umath.__file__, file)
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(inferer.native, "LIBRARY", file)
    bundle = architectures.bundle(tmp_path_factory, "bert")
    for _ in range(2):
        model = ModelInferer(bundle, intra_op_threads=1)
        assert (model.native, model.golden_check.outcome) == (False, "passed")
    assert len(caplog.messages) == (content is not None)
    assert all(line.startswith(f"{file} is not used, models run slower without it: ") for line in caplog.messages)


def test_without_a_compiler_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build says why it made nothing: no compiler, or one that fails."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build(tmp_path / "a") == "no C++ compiler: no-such-compiler is not in PATH"
    monkeypatch.setenv("CXX", "false")
    assert build(tmp_path / "a") == "false fails: exit status 1"
    assert not (tmp_path / "a").exists()
