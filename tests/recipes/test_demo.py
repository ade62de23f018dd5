"""The embedded default: the demo that a newcomer gets from `make serve`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from inferer import ModelInferer
from recipes.query_type.name_lists import read_name_lists
from recipes.query_type.prepare import LISTS
from tests.support.server import ROOT

KNOWN = {
    "Target": "retailer",
    "Walmart": "retailer",
    "Huggies": "brand",
    "Gatorade": "brand",
    "diapers": "category",
    "hand bags": "category",
    "phones": "category",
}


@pytest.fixture(scope="module")
def demo(demo_bundle: Path) -> ModelInferer:
    """The demo's model."""
    return ModelInferer(demo_bundle)


def test_the_lists_are_as_large_as_promised() -> None:
    """Each list is as long as promised, with no name twice (which the reader refuses)."""
    counts = read_name_lists(LISTS).counts()
    assert list(counts) == ["retailer", "brand", "category"]
    assert counts["retailer"] >= 120
    assert counts["brand"] >= 400
    assert counts["category"] >= 400


@pytest.mark.parametrize(("text", "label"), KNOWN.items())
def test_well_known_names_are_right(demo: ModelInferer, text: str, label: str) -> None:
    """The demo classifies well-known names correctly, also in lower case."""
    assert demo.predict(text).label == label
    assert demo.predict(text.lower()).label == label


def test_macro_f1_on_held_out_names(demo: ModelInferer, demo_bundle: Path) -> None:
    """On names held out of training, the served int8 model has a macro-F1 of at least 0.85."""
    checkpoint = ROOT / "checkpoints" / "query_type"
    with (checkpoint / "held_out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [prediction.label for prediction in demo.predict_batch(row["text"] for row in rows)]
    assert f1_score([row["label"] for row in rows], found, average="macro") >= 0.85
    record = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    assert record["held_out"]["n"] == len(rows)
    assert record["held_out"]["macro_f1"] >= 0.85
