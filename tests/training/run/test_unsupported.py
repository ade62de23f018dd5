"""A base model that trains but cannot be exported is told before the training, for the export would refuse it after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.fruit import command, write_base, write_table
from tests.support.server import run_to_end


@pytest.mark.slow
def test_a_base_that_the_export_refuses_is_told_first(tmp_path: Path) -> None:
    """The run warns in one line, with the reason, before its first epoch, and trains."""
    from transformers import ConvBertConfig, ConvBertModel

    base = write_base(tmp_path / "base")
    config = ConvBertConfig(
        vocab_size=55,
        hidden_size=32,
        embedding_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    ConvBertModel(config).save_pretrained(base)
    table = write_table(tmp_path / "fruit.csv")
    given = command(table, base, tmp_path / "out", "--label-column", "colour", "--epochs", "1")
    done = run_to_end(sys.executable, "-m", "training", *given)
    assert done.returncode == 0, done.stderr
    (warned,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warned == (
        "warning: the export refuses architecture 'convbert': its convolution reads padding, so that a text's scores "
        "depend on the longest text of its batch; to serve the model, train another base"
    )
    assert done.stderr.index(warned) < done.stderr.index("epoch 1")
    assert (tmp_path / "out" / "model.safetensors").is_file()
