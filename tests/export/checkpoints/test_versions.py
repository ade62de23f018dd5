"""Checkpoints saved by other versions of transformers: the bundle has their token ids and their logits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inferer import ModelInferer
from inferer.bundle.reader import TOKENIZER
from inferer.tokens.encoding import Encoder
from tests.export.checkpoints.environments import python_with, shared, simple
from tests.support.architectures import run_export
from tests.support.server import run_to_end
from training.model.load import load_classifier
from training.model.tokenizer_file import read_tokenizer

pytestmark = pytest.mark.slow

SAVE = Path(__file__).with_name("save.py")
ARCHITECTURES = (
    "bert",
    "roberta",
    "distilbert",
    "albert",
    "xlm-roberta",
    "camembert",
    "electra",
    "mpnet",
    "deberta-v2",
    "modernbert",
)
EXPORTED = ("transformers==4.57.6", "transformers>=5,<6")  # the last of 4, the newest of 5
LOADED = ("transformers==4.30.2", "transformers==5.0.0")
NEWER = {("transformers==4.30.2", "modernbert")}  # ModernBERT is new in 4.48


def saved(base: Path, version: str) -> Path:
    """Return the checkpoints that `version` saves, in an environment of its own on top of this one's packages."""
    python = python_with(base, version)

    def save(folder: Path) -> None:
        done = run_to_end(python, str(SAVE), str(folder), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr

    return shared(base, f"saved_{simple(version)}", save)


def checkpoint(factory: pytest.TempPathFactory, version: str, architecture: str) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint's folder, and the texts, token ids and logits of the version that saved it."""
    folder = saved(factory.getbasetemp(), version) / architecture
    return folder, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("version", EXPORTED)
def test_a_bundle_has_the_logits_of_the_version_that_saved_the_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, version: str, architecture: str
) -> None:
    """The fp32 bundle reads each text as the saving version did, and its logits are the same."""
    folder, expected = checkpoint(tmp_path_factory, version, architecture)
    assert run_export(folder, tmp_path / "bundle", "--scheme", "fp32") == 0
    served = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    encoder = Encoder(tmp_path / "bundle" / TOKENIZER, served.max_length)
    assert [encoder.encode_one(text).input_ids.tolist() for text in expected["texts"]] == expected["ids"]
    logits = np.stack([served.logits(text) for text in expected["texts"]])
    assert np.abs(logits - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize(("version", "architecture"), sorted({*itertools.product(LOADED, ARCHITECTURES)} - NEWER))
def test_checkpoints_of_older_versions_load_exactly(
    tmp_path_factory: pytest.TempPathFactory, version: str, architecture: str
) -> None:
    """Training, evaluation and export load tokenizer and weights of older versions with the same ids and logits."""
    folder, expected = checkpoint(tmp_path_factory, version, architecture)
    model, tokenizer = load_classifier(folder).eval(), read_tokenizer(folder)
    ids = [tokenizer(text, truncation=True, max_length=64)["input_ids"] for text in expected["texts"]]
    assert ids == expected["ids"]
    assert not any(one.dtype != torch.float32 for one in model.parameters())
    with torch.inference_mode():
        rows = [model(torch.tensor([row]), torch.ones(1, len(row))).logits[0].numpy() for row in ids]
    assert np.abs(np.stack(rows) - expected["logits"]).max() < 1e-4
