"""Checks of docs/production.md: its tables are those of benchmarks/results/container.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docs.pages import page
from tests.support.server import ROOT

PAGE = page("docs/production.md")
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks/results/container.json").read_text(encoding="utf-8"))
MODELS = ("MiniLM-L6", "BERT-base")


def cells(label: str) -> list[str]:
    """Return the cells of the table row that begins with `label`."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


@pytest.mark.parametrize("model", MODELS)
def test_the_table_by_length_is_what_was_measured(model: str) -> None:
    """Texts per second by length are the measured ones."""
    by = RESULT["models"][model]["by_tokens"]
    assert cells("tokens") == list(by)
    assert cells(f"{model}, texts per second") == [f"{one['texts_a_second']:.0f}" for one in by.values()]


@pytest.mark.parametrize("model", MODELS)
def test_the_table_by_clients_is_what_was_measured(model: str) -> None:
    """Texts per second and percentiles by the number of clients are the measured ones."""
    by = RESULT["models"][model]["by_clients"]
    assert cells("clients") == list(by)
    expected = [f"{one['texts_a_second']:.0f} ({one['p50_ms']:.0f}, {one['p99_ms']:.0f})" for one in by.values()]
    assert cells(f"{model}, texts per second (p50, p99)") == expected


def test_starts_and_memory_are_what_was_measured() -> None:
    """Times to ready, memory and the image's size are the measured ones, and the image is within its bound."""
    models = [RESULT["models"][name] for name in MODELS]
    assert cells("from the container's start to ready") == [f"{model['ready_s']:.1f} s" for model in models]
    labels = {"memory of the processes after the start": "after_start", "memory under the load above": "under_load"}
    for label, key in labels.items():
        assert cells(label) == [f"{model['memory_mb'][key]:.0f} MB" for model in models]
    assert f"{RESULT['image_mb_above_base']:.0f} MB above `python:3.11-slim`" in PAGE
    assert RESULT["image_mb_above_base"] <= 220
