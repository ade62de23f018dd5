"""The golden set of an export: lengths, labels, leads, and no words of the user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inferer.native
from export.checkpoint import load_checkpoint
from export.checks import golden
from inferer import ModelInferer, read_bundle
from inferer.bundle.manifest import SOFTMAX
from inferer.config import Config
from inferer.scoring import activate
from inferer.tokens.encoding import Encoder
from tests.support import architectures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=architectures.TESTED)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of each tested architecture, with fp32 kept."""
    return architectures.bundle(tmp_path_factory, request.param)


def golden_of(bundle: Path) -> list[dict[str, Any]]:
    """Return the golden set of `bundle`, as it stands in the manifest."""
    entries: list[dict[str, Any]] = json.loads((bundle / "inferer.json").read_text(encoding="utf-8"))["golden"]
    return entries


def leads(logits: list[float]) -> float:
    """Return by how much the best score leads the second."""
    second, best = np.sort(activate(np.array(logits), SOFTMAX))[-2:]
    return float(best - second)


def test_the_texts_go_from_one_word_to_the_most_tokens(bundle: Path) -> None:
    """About 32 different texts are stored, most of them short, one or two of exactly max_length tokens."""
    read = read_bundle(bundle)
    encoder = Encoder(bundle / "tokenizer.json", read.max_length)
    texts = [entry.text for entry in read.golden]
    assert 24 <= len(texts) == len(set(texts)) <= 34
    assert sum(" " not in text for text in texts) >= 6
    lengths = [len(encoder.encode_one(text).input_ids) for text in texts]
    assert 1 <= lengths.count(read.max_length) <= 2
    assert np.median(lengths) <= 16


def test_every_label_that_can_be_had_is_the_answer_to_some_text(bundle: Path) -> None:
    """Every label that is clearly the best one of some candidate is the best one of some stored text."""
    model = ModelInferer(bundle, quantize=False)
    checkpoint = load_checkpoint(bundle.with_name(bundle.name.removesuffix("-bundle")), Config())
    encoder = Encoder(bundle / "tokenizer.json", checkpoint.max_length)
    candidates = [text for texts, _ in golden._candidates(checkpoint, encoder) for text in texts]
    logits = [model.logits(text).tolist() for text in candidates]
    best = {int(np.argmax(row)) for row in logits if leads(row) > 0.05}
    assert len(best) > 1
    assert best == {int(np.argmax(entry["fp32"])) for entry in golden_of(bundle)}


def test_best_scores_lead_clearly(bundle: Path) -> None:
    """Nearly all best scores lead by more than 0.05, in fp32 and int8, and most are not near 1, where nothing shows."""
    entries = golden_of(bundle)
    clear = [min(leads(entry["fp32"]), leads(entry["int8"])) > 0.05 for entry in entries]
    assert np.mean(clear) >= 0.9
    assert np.median([leads(entry["fp32"]) for entry in entries]) < 0.95


def test_the_logits_are_those_of_the_bundles_models(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored logits are those of the two models in the bundle, without the native operators."""
    monkeypatch.setattr(inferer.native, "LIBRARY", bundle / "none")
    int8, fp32 = ModelInferer(bundle), ModelInferer(bundle, quantize=False)
    assert int8.golden_check.outcome == fp32.golden_check.outcome == "passed"
    for entry in golden_of(bundle):
        np.testing.assert_allclose(fp32.logits(entry["text"]), entry["fp32"], atol=1e-5)
        np.testing.assert_allclose(int8.logits(entry["text"]), entry["int8"], atol=1e-3)


def test_a_bundle_of_fp32_has_fp32_logits_alone(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A bundle of scheme fp32 has a golden set without int8 logits, and passes."""
    source = architectures.checkpoint(tmp_path_factory, "bert")
    assert architectures.run_export(source, tmp_path / "b", "--scheme", "fp32") == 0
    assert {entry["int8"] for entry in golden_of(tmp_path / "b")} == {None}
    assert ModelInferer(tmp_path / "b").golden_check.outcome == "passed"


@pytest.mark.parametrize("max_length", [3, 4, 16])
def test_few_tokens_leave_at_least_single_words(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, max_length: int
) -> None:
    """A model with a small max_length has a golden set of the short texts that fit."""
    source = architectures.checkpoint(tmp_path_factory, "bert")
    assert architectures.run_export(source, tmp_path / "b", "--max-length", max_length) == 0
    assert len(golden_of(tmp_path / "b")) >= 8
    assert ModelInferer(tmp_path / "b").golden_check.outcome == "passed"


def test_the_same_texts_are_chosen_every_time(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports of a checkpoint, from wherever they are run, choose the same texts."""
    source = architectures.checkpoint(tmp_path_factory, "bert")
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(source, tmp_path / "elsewhere")
    assert architectures.run_export(copy, tmp_path / "b") == 0
    texts = [entry["text"] for entry in golden_of(architectures.bundle(tmp_path_factory, "bert"))]
    assert [entry["text"] for entry in golden_of(tmp_path / "b")] == texts


def test_the_choice_is_cheap(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 320 candidates run in fp32, nine in ten of at most 20 tokens, and at most 3 a place in int8."""
    runs: dict[str, list[int]] = {}

    class Counting(golden.Session):  # type: ignore[misc, valid-type, name-defined]
        def __init__(self, model: Path, *arguments: Any, **options: Any) -> None:
            super().__init__(model, *arguments, **options)
            self.runs = runs.setdefault(model.name, [])

        def run(self, encoding: Any) -> np.ndarray:
            self.runs.append(len(encoding.input_ids))
            logits: np.ndarray = super().run(encoding)
            return logits

    monkeypatch.setattr(golden, "Session", Counting)
    bundle = architectures.bundle(tmp_path_factory, "bert")
    checkpoint = load_checkpoint(architectures.checkpoint(tmp_path_factory, "bert"), Config())
    encoder = Encoder(bundle / "tokenizer.json", checkpoint.max_length)
    chosen = golden.choose_golden(checkpoint, encoder, bundle / "model.onnx", bundle / "model_quantized.onnx")
    fp32, int8 = runs["model.onnx"], runs["model_quantized.onnx"]
    assert len(fp32) <= 320
    assert np.quantile(fp32, 0.9) <= 20
    assert len(int8) <= 3 * len(chosen)
