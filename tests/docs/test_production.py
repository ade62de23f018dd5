"""docs/production.md reckons with what was measured: its figures are those of benchmarks/results/container.json."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from tests.support.server import ROOT

PAGE = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks/results/container.json").read_text(encoding="utf-8"))
MODELS = ("MiniLM-L6", "BERT-base")
HEADROOM = 0.6


def cells(label: str) -> list[str]:
    """Return the cells of the table row that begins with `label`."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def rate(model: str, kind: str, key: int) -> float:
    """Return the measured texts a second."""
    found: float = RESULT["models"][model][kind][str(key)]["texts_a_second"]
    return found


@pytest.mark.parametrize("model", MODELS)
def test_the_table_by_length_is_what_was_measured(model: str) -> None:
    """Texts a second by length are the measured ones."""
    by = RESULT["models"][model]["by_tokens"]
    assert cells("tokens") == list(by)
    assert cells(f"{model}, texts a second") == [f"{one['texts_a_second']:.0f}" for one in by.values()]


@pytest.mark.parametrize("model", MODELS)
def test_the_table_by_clients_is_what_was_measured(model: str) -> None:
    """Texts a second and percentiles by the number of clients are the measured ones."""
    by = RESULT["models"][model]["by_clients"]
    assert cells("clients") == list(by)
    expected = [f"{one['texts_a_second']:.0f} ({one['p50_ms']:.0f}, {one['p99_ms']:.0f})" for one in by.values()]
    assert cells(f"{model}, texts a second (p50, p99)") == expected


def test_starts_and_memory_are_what_was_measured() -> None:
    """Times to ready, memory and the image's size are the measured ones, and the image is within its bound."""
    models = [RESULT["models"][name] for name in MODELS]
    assert cells("from the container's start to ready") == [f"{model['ready_s']:.1f} s" for model in models]
    labels = {"memory of the processes after the start": "after_start", "the same under the load above": "under_load"}
    for label, key in labels.items():
        assert cells(label) == [f"{model['memory_mb'][key]:.0f} MB" for model in models]
    assert f"{RESULT['image_mb_above_base']:.0f} MB above `python:3.11-slim`" in PAGE
    assert RESULT["image_mb_above_base"] <= 220


def test_ten_thousand_texts_a_second_are_reckoned_right() -> None:
    """The numbers of CPUs follow from the measured texts a second and the room that is left."""
    minilm = rate("MiniLM-L6", "by_tokens", 16)
    expected = math.ceil(10_000 / (HEADROOM * round(minilm)))
    found = re.search(r"10,000 / \(0\.6 × (\d+)\) = (\d+) CPUs.*?: (\d+) nodes", PAGE, re.DOTALL)
    assert found is not None
    assert [int(number) for number in found.groups()] == [round(minilm), expected, math.ceil(expected / 15)]
    others = {
        "BERT-base takes": rate("BERT-base", "by_tokens", 16),
        "texts of 64 tokens": rate("MiniLM-L6", "by_tokens", 64),
        "64 texts a request,": RESULT["models"]["MiniLM-L6"]["bulk"]["texts_a_second"],
    }
    paragraph = " ".join(PAGE[found.end() :].split())
    for words, measured in others.items():
        said = re.search(rf"{words} ([\d,]+)", paragraph)
        assert said is not None, words
        assert int(said[1].replace(",", "")) == math.ceil(10_000 / (HEADROOM * round(measured))), words
