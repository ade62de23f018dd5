"""The guard on int8: measured on the user's own texts, held to the user's limits, and given up layer by layer.

When a limit is missed a ladder is climbed: the scheme whole, then without its most sensitive layers (the
worst 1, 2, 4, 8, … stay fp32, then the fewest between the last that missed and the first that held), then
fp32. What is written is the first rung that holds, which is the smallest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.eval_file import EvalSet
from export.evaluate import Answers, Rule, answers_of, compare, run_texts
from export.figures import METHOD, Figure
from export.limits import Limits
from export.sensitivity import Quantizer, Sensitivity, rank_layers, sample_of
from inferer.bundle import FP32, MULTI_LABEL
from inferer.encoding import Encoder


@dataclass(frozen=True)
class Rung:
    """One int8 model that was measured: the layers left in fp32, its figures, and the limits that it misses."""

    kept: tuple[str, ...]
    quantized: int
    model_bytes: int
    figures: Mapping[str, Figure]
    missed: tuple[str, ...]
    answers: Answers


@dataclass(frozen=True)
class Subject:
    """What is measured: the fp32 model, how to quantize it, and its linear layers by name.

    int8 is where the whole scheme stands when the guard begins, and the chosen model when it ends.
    """

    fp32: Path
    int8: Path
    scheme: str
    layers: tuple[str, ...]
    quantizer: Quantizer
    encoder: Encoder
    rule: Rule


@dataclass(frozen=True)
class Guard:
    """What the guard found. `chosen` is the rung whose model is in the bundle; None when only fp32 holds."""

    texts: EvalSet
    scheme: str
    multi: bool
    limits: Limits
    fp32: Answers
    rungs: tuple[Rung, ...]
    chosen: Rung | None
    sensitivity: tuple[Sensitivity, ...]

    @property
    def measured(self) -> Rung:
        """Return the rung that the figures are of: the chosen one, or the whole scheme where none was."""
        return self.chosen or self.rungs[0]

    def quantization(self) -> dict[str, Any]:
        """Return the manifest's `quantization`."""
        if self.chosen is None:
            return {"scheme": FP32, "quantized_matmuls": 0, "kept_fp32": []}
        return {
            "scheme": self.scheme,
            "quantized_matmuls": self.chosen.quantized,
            "kept_fp32": list(self.chosen.kept),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest's `guard`: names, counts and figures, never a text."""
        texts = self.texts
        return {
            "file": texts.name,
            "text_column": texts.text_column,
            "labels_from": list(texts.labels_from),
            "rows": texts.rows,
            "evaluated": len(texts.texts),
            "cut": texts.cut,
            "left_out": texts.left_out,
            "measured": {"scheme": self.scheme, "kept_fp32": list(self.measured.kept)},
            "in_bundle": self.chosen is not None,
            "figures": {name: asdict(figure) for name, figure in self.measured.figures.items()},
            "intervals": METHOD,
            "limits": self.limits.as_dict(),
            "rungs": [_rung_as_dict(rung) for rung in self.rungs],
            "sensitivity": [asdict(one) for one in self.sensitivity],
        }


def _rung_as_dict(rung: Rung) -> dict[str, Any]:
    shown = ("agreement", "accuracy_drop")
    return {
        "kept_fp32": list(rung.kept),
        "model_bytes": rung.model_bytes,
        **{name: asdict(rung.figures[name]) for name in shown if name in rung.figures},
        "missed": list(rung.missed),
    }


def guard_int8(subject: Subject, texts: EvalSet, limits: Limits, quantized: int) -> Guard:
    """Measure int8 on `texts`, climb the ladder where `limits` are missed, and leave the chosen model at subject.int8.

    quantized: int8 products of the whole scheme. When only fp32 holds, subject.int8 is gone. Raises
    ExportError for a model whose logits are not finite.
    """
    fp32 = answers_of(run_texts(subject.fp32, subject.encoder, texts.texts, "asking fp32"), subject.rule)
    rungs: list[Rung] = []

    def measure(model: Path, kept: tuple[str, ...], quantized: int) -> Rung:
        what = f"asking int8, {len(kept)} kept fp32" if kept else "asking int8"
        answers = answers_of(run_texts(model, subject.encoder, texts.texts, what), subject.rule)
        figures = compare(fp32, answers, texts.truth, subject.rule.problem_type)
        rung = Rung(kept, quantized, model.stat().st_size, figures, limits.missed(figures), answers)
        rungs.append(rung)
        return rung

    whole = measure(subject.int8, (), quantized)
    guard = Guard(texts, subject.scheme, subject.rule.problem_type == MULTI_LABEL, limits, fp32, (), whole, ())
    if not whole.missed:
        return replace(guard, rungs=tuple(rungs))
    with tempfile.TemporaryDirectory(dir=subject.int8.parent) as folder:
        scratch = Path(folder)
        places = sample_of(len(texts.texts))
        sample = ([texts.texts[i] for i in places], fp32.logits[places], subject.rule.problem_type)
        ranked = rank_layers(subject.layers, subject.quantizer, scratch, subject.encoder, sample)

        def holds(count: int) -> bool:
            kept = tuple(one.layer for one in ranked[:count])
            trial = scratch / "trial.onnx"
            rung = measure(trial, kept, subject.quantizer(trial, kept))
            if not rung.missed:
                trial.replace(scratch / "held.onnx")
            return not rung.missed

        fewest = fewest_kept(len(ranked), holds)
        if fewest is None:
            subject.int8.unlink()
            chosen = None
        else:
            (scratch / "held.onnx").replace(subject.int8)
            chosen = next(rung for rung in rungs if len(rung.kept) == fewest)
    return replace(guard, rungs=tuple(rungs), chosen=chosen, sensitivity=tuple(ranked))


def fewest_kept(layers: int, holds: Callable[[int], bool]) -> int | None:
    """Return the fewest layers to keep in fp32, of `layers`, for which `holds`; None when even all but one do not.

    Doubles from 1 until it holds, then halves the gap to the last that did not, taking for granted that
    keeping more never makes it worse. The last count for which `holds` was true is what is returned.
    """
    missed, count = 0, 1
    while count < layers and not holds(count):
        missed, count = count, (2 * count if 2 * count < layers else max(layers - 1, count + 1))
    if count >= layers:
        return None
    while count - missed > 1:
        middle = (missed + count) // 2
        missed, count = (missed, middle) if holds(middle) else (middle, count)
    return count
