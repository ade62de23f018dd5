"""Checkpoints that lack a part: the tokenizer, which --tokenizer brings, and a second logit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inferer import ModelInferer
from tests.support import architectures
from tests.support.architectures import TEXTS, refusal, run_export

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


@pytest.fixture
def split(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint without its tokenizer, and the folder of the tokenizer."""
    model = architectures.copy_of(architectures.checkpoint(tmp_path_factory, "bert"), tmp_path / "model")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for file in FILES:
        if (model / file).is_file():
            (model / file).rename(tokenizer / file)
    return model, tokenizer


@pytest.mark.slow
def test_the_tokenizer_of_another_folder_is_used(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, split: tuple[Path, Path]
) -> None:
    """The bundle has the tokenizer of that folder and gives the logits of the whole checkpoint."""
    model, tokenizer = split
    assert run_export(model, tmp_path / "bundle", "--tokenizer", tokenizer, "--scheme", "fp32") == 0
    served = ModelInferer(tmp_path / "bundle")
    expected = architectures.torch_logits(architectures.checkpoint(tmp_path_factory, "bert"), TEXTS)
    np.testing.assert_allclose([served.logits(text) for text in TEXTS], expected, atol=1e-4)


def test_without_a_tokenizer_the_flag_is_named(
    tmp_path: Path, split: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint without a tokenizer is refused, and the message names the flag; so is a folder without one."""
    model, _ = split
    line = refusal(model, tmp_path / "out", capsys)
    assert line.endswith(f"no tokenizer in {model} (tokenizer.json); name a folder that has it: --tokenizer FOLDER")
    assert "no tokenizer in" in refusal(model, tmp_path / "out", capsys, "--tokenizer", model)
    line = refusal(model, tmp_path / "out", capsys, "--tokenizer", tmp_path / "nowhere")
    assert line == f"export: --tokenizer is {tmp_path / 'nowhere'}: no such folder"


def test_a_tokenizer_of_another_model_is_refused(
    tmp_path: Path, split: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A tokenizer with ids beyond the model's embeddings is refused, with the folder that it came from."""
    model, tokenizer = split
    content = json.loads((tokenizer / "tokenizer.json").read_text())
    content["model"]["vocab"]["beyond"] = 5000
    (tokenizer / "tokenizer.json").write_text(json.dumps(content))
    line = refusal(model, tmp_path / "out", capsys, "--tokenizer", tokenizer)
    assert "its tokenizer has the id 5000 ('beyond'), the model has embeddings for 0 to " in line


def test_softmax_over_one_logit_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single-label model with one logit, always of score 1, is refused with the remedy."""
    architectures.write_checkpoint(tmp_path / "one", "bert", labels=("toxic",), problem_type=None)
    line = refusal(tmp_path / "one", tmp_path / "out", capsys, "--problem-type", "single_label_classification")
    assert "gives one logit, and softmax over one logit is always 1; give --problem-type multi_label" in line
