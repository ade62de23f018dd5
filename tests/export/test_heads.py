"""Exports of checkpoints with heads, or choices, of training: the bundle's predictions and facts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from inferer import ModelInferer
from inferer.bundle.manifest import MULTI_LABEL
from inferer.bundle.reader import TOKENIZER
from inferer.session import Session
from inferer.tokens.encoding import Encoder
from tests.support.architectures import (
    LABELS,
    LONG_TEXT,
    POSITIONS,
    TESTED,
    TEXTS,
    checkpoint,
    checkpoint_logits,
    copy_of,
    run_export,
)
from tests.training.model.test_heads import HEADS, with_head
from training.model.heads import FIELD

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Path]]:
    """The checkpoint and the bundle (fp32 kept) of an architecture and a head, made on first use."""
    return {}


def exported(
    made: dict[tuple[str, str], tuple[Path, Path]], factory: pytest.TempPathFactory, architecture: str, head: str
) -> tuple[Path, Path]:
    """Return the checkpoint and the bundle of `architecture` with `head`."""
    if (architecture, head) not in made:
        folder = factory.mktemp(f"{architecture}-{head}")
        source = checkpoint(factory, architecture)
        model = with_head(source, HEADS[head])
        with torch.no_grad():  # far enough apart that int8 keeps the label
            for weight in (model.classifier if head in ("mean", "token") else _last(model)).parameters():
                weight.mul_(20)
        model.save_pretrained(folder / "checkpoint")
        AutoTokenizer.from_pretrained(source).save_pretrained(folder / "checkpoint")
        assert run_export(folder / "checkpoint", folder / "bundle", "--keep-fp32") == 0
        made[architecture, head] = folder / "checkpoint", folder / "bundle"
    return made[architecture, head]


def _last(model: torch.nn.Module) -> torch.nn.Module:
    place = model.classifier
    return place[-1] if isinstance(place, torch.nn.Sequential) else place.out_proj[-1]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("architecture", TESTED)
def test_the_bundle_answers_as_the_checkpoint(
    made: dict[tuple[str, str], tuple[Path, Path]],
    tmp_path_factory: pytest.TempPathFactory,
    architecture: str,
    head: str,
) -> None:
    """A head is exported with its encoder: fp32's logits are torch's, int8's near, the same alone and in batches."""
    source, bundle = exported(made, tmp_path_factory, architecture, head)
    expected = checkpoint_logits(source, TEXTS)
    encoder = Encoder(bundle / TOKENIZER, POSITIONS)
    session = Session(bundle / "model.onnx", 1)
    found = np.stack([session.run(encoder.encode_one(text)) for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert getattr(AutoConfig.from_pretrained(bundle), FIELD) == HEADS[head]
    model = ModelInferer(bundle)
    alone = [model.predict(text).scores for text in TEXTS]
    assert [prediction.scores for prediction in model.predict_batch(TEXTS)] == alone
    scores = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    for row, one in zip(scores, alone, strict=True):
        assert [one[label] for label in LABELS] == pytest.approx(row, abs=0.2)
    manifest = json.loads((bundle / "inferer.json").read_text(encoding="utf-8"))
    assert manifest["quantization"]["quantized_matmuls"] > 0


def test_how_training_cut_texts_is_how_serving_does(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A checkpoint trained with head_tail gives a bundle that reads so; --truncation chooses another."""
    source = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "c", inferer_truncation="head_tail")
    for name, flags, expected in (("own", (), "head_tail"), ("other", ("--truncation", "tail"), "tail")):
        assert run_export(source, tmp_path / name, "--scheme", "fp32", *flags) == 0
        assert json.loads((tmp_path / name / "inferer.json").read_text())["truncation"] == expected
    model = ModelInferer(tmp_path / "own")
    scores = model.predict(LONG_TEXT).scores
    assert scores == model.predict(LONG_TEXT, truncation="head_tail").scores
    assert scores != model.predict(LONG_TEXT, truncation="head").scores
    row = checkpoint_logits(source, [LONG_TEXT])[0]
    assert [scores[label] for label in LABELS] == pytest.approx(np.exp(row) / np.exp(row).sum(), abs=1e-4)


def test_the_threshold_that_training_chose_is_the_bundle_s(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint's inferer_threshold is each label's in the bundle; with --calibrate it is told to be void."""
    source = copy_of(
        checkpoint(tmp_path_factory, "bert"), tmp_path / "c", inferer_threshold=0.2, problem_type=MULTI_LABEL
    )
    assert run_export(source, tmp_path / "bundle", "--scheme", "fp32") == 0
    manifest = json.loads((tmp_path / "bundle" / "inferer.json").read_text())
    assert manifest["thresholds"] == dict.fromkeys(LABELS, 0.2)
    words, rng = LONG_TEXT.replace(",", "").split(), np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 9)) for _ in range(400)]
    logits = checkpoint_logits(source, texts)
    likely = logits >= np.median(logits, axis=0)  # labels that are likelier where their logits are higher
    likely[::5] = ~likely[::5]
    named = ["|".join(label for label, flag in zip(LABELS, row, strict=True) if flag) for row in likely]
    rows = "".join(f"{text},{labels}\n" for text, labels in zip(texts, named, strict=True))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows, encoding="utf-8")
    flags = (
        "--calibrate",
        tmp_path / "rows.csv",
        "--label-column",
        "label",
        "--label-separator",
        "|",
        "--allow-unlabelled",
    )
    capsys.readouterr()
    code = run_export(source, tmp_path / "calibrated", "--scheme", "fp32", *flags)
    said = capsys.readouterr().err
    assert code == 0, said
    assert "note: training chose the threshold 0.2" in said
    manifest = json.loads((tmp_path / "calibrated" / "inferer.json").read_text())
    assert manifest["thresholds"] == dict.fromkeys(LABELS, 0.5)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("inferer_truncation", "middle", "inferer_truncation is 'middle' in config.json, expected head"),
        ("inferer_threshold", 2, "inferer_threshold is 2 in config.json, expected 0 to 1"),
        (FIELD, {"type": "none"}, "inferer_head is {'type': 'none'}, expected a table with type mlp, mean, token"),
    ],
)
def test_what_a_config_cannot_mean_is_refused(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    field: str,
    value: object,
    said: str,
) -> None:
    """A field of config.json that means nothing stops the export with its name and value."""
    source = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "c", **{field: value})
    assert run_export(source, tmp_path / "bundle") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
