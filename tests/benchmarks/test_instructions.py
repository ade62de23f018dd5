"""The guard on instructions: its verdicts, and the model that it counts on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.instructions.__main__ import KINDS, write_bundle
from benchmarks.instructions.__main__ import verdict as verdict_on
from inferer import ModelInferer

HERE = {"python": "3.11.7", "onnxruntime": "1.31.1"}
STORED = {"surroundings": HERE, "instructions": {"predict": 1000.0, "request": 2000.0}}


def test_more_instructions_than_the_tolerance_fail() -> None:
    """A figure above the tolerance is exit code 1 with its line; below it, and faster, is 0."""
    code, lines = verdict_on(STORED, {"predict": 1029.0, "request": 1000.0}, HERE)
    assert code == 0
    assert "faster" in lines[1]
    code, lines = verdict_on(STORED, {"predict": 1031.0, "request": 2000.0}, HERE)
    assert code == 1
    assert "slower by more than 3 %" in lines[0]


def test_other_versions_are_not_compared() -> None:
    """Figures of another onnxruntime are refused with both versions."""
    code, (line,) = verdict_on(STORED, {"predict": 1.0}, {**HERE, "onnxruntime": "1.32.0"})
    assert code == 2
    assert "onnxruntime 1.32.0, stored with 1.31.1" in line


def test_the_counted_model_answers_with_77_labels(tmp_path: Path) -> None:
    """The model loads by the rules of every bundle, its texts may share runs, and both ways are counted."""
    model = ModelInferer(write_bundle(tmp_path / "bundle"))
    assert model.predict("good").label == "intent_number_0"
    assert len(model.labels) == 77
    assert model.alone_because is None
    assert KINDS == ("predict", "request")
