"""The table of architectures in docs/export.md: its rows, its promises, and a sample of it made anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks.architectures.table import CASES, PROMISED, PROMISED_FAST, REFUSED, measure, write_checkpoint
from export.checkpoint import TESTED_TYPES
from tests.support.architectures import STEP
from tests.support.server import ROOT, run_to_end
from training.unsupported import UNSUPPORTED

ROW = re.compile(r"\| .+ \(`(\S+)`\) \| (.+) \| (.+) \|")
ROWS = {
    found.group(1): (found.group(2), found.group(3))
    for found in map(ROW.fullmatch, (ROOT / "docs" / "export.md").read_text(encoding="utf-8").splitlines())
    if found
}


def test_the_table_has_a_row_per_architecture_of_the_script() -> None:
    """The table has the rows of the script, 25 at least."""
    assert list(ROWS) == list(CASES)
    assert len(ROWS) >= 25


def test_the_table_promises_what_the_export_promises() -> None:
    """The promised rows are the types that the export promises, and the refused ones include all it refuses by name."""
    promised = {name for name, (kind, _) in ROWS.items() if kind in (PROMISED, PROMISED_FAST)}
    assert promised == set(TESTED_TYPES)
    refused = {name for name, (kind, _) in ROWS.items() if kind == REFUSED}
    assert refused >= set(CASES) & set(UNSUPPORTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (kind, _) in ROWS.items() if kind == REFUSED])
def test_what_is_refused_is_refused_with_the_sentence_of_the_table(tmp_path: Path, name: str) -> None:
    """The command refuses a checkpoint of the architecture with the table's sentence."""
    row = measure(name, tmp_path)
    assert (row.kind, row.sentence) == ROWS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "ernie", "gpt2", "squeezebert"])
def test_what_exports_gives_torchs_logits(tmp_path: Path, name: str) -> None:
    """The command exports the architecture as the table says; `measure` fails where logits differ from torch's."""
    row = measure(name, tmp_path)
    assert (row.kind, row.said()) == ROWS[name]


@pytest.mark.slow
def test_sparse_big_bird_is_refused_by_its_length(tmp_path: Path) -> None:
    """BigBird exports for the lengths at which it attends to every token, and is refused beyond them."""
    said = measure("big_bird", tmp_path, num_random_blocks=1, block_size=4)
    assert (said.kind, said.sentence) == (
        REFUSED,
        "attention_type is 'block_sparse', which reads random parts of a text of more than 28 tokens, and max_length "
        "is 64; export with --max-length 28",
    )


@pytest.mark.slow
def test_positions_by_the_length_of_a_batch_are_refused(tmp_path: Path) -> None:
    """Rotary positions of type "dynamic" would turn by the longest text of a batch, so they are refused by name."""
    layers = {"full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
    layers["sliding_attention"] = {"rope_type": "default", "rope_theta": 1e4}
    said = measure("modernbert", tmp_path, rope_parameters=layers)
    assert (said.kind, said.sentence) == (
        REFUSED,
        "rope_type is 'dynamic', which turns positions by the length of the longest text of a batch",
    )


@pytest.mark.slow
def test_a_model_that_does_not_run_ends_in_one_line(tmp_path: Path) -> None:
    """A model that fails in torch is refused by name, without the tracebacks that torch logs."""
    write_checkpoint("deberta-v2", tmp_path / "broken", attention_head_size=16)
    done = run_to_end(sys.executable, "-m", "export", str(tmp_path / "broken"), str(tmp_path / "bundle"))
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and not STEP.fullmatch(line.strip())]
    assert done.returncode == 2
    assert [line.partition(" cannot be exported: ")[0] for line in said] == ["export: architecture 'deberta-v2'"]
