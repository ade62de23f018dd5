"""The guard on int8: measured on the user's own texts, held to the user's limits, and given up layer by layer.

When a limit is missed a ladder is climbed: the scheme whole, then without its most sensitive layers (the
worst 1, 2, 4, 8, … stay fp32, then the fewest between the last that missed and the first that held), then
fp32. What is written is the first rung that holds, which is the smallest. Each rung, and fp32, is measured under the
rule that it would be served with: where scores are calibrated, that is fitted to its own answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.eval_texts import EvalSet
from export.guard.compare import METHOD, compare
from export.guard.limits import Limits
from export.guard.sensitivity import Quantizer, Sensitivity, rank_layers, sample_of
from export.logits import TextReader, compute_logits
from export.predictions import Predictions, predictions_from_logits
from export.scores.rule_fitter import FitError, FittedRule, Fitting
from inferer.bundle.manifest import MULTI_LABEL
from inferer.bundle.reader import FP32
from training.report.intervals import Figure


@dataclass(frozen=True)
class Rung:
    """One int8 model that was measured: the layers left in fp32, its figures, and the limits that it misses.

    fit: how its logits [texts, labels] become labels; fp32, int8: both models' answers, each by its own fit.
    """

    kept: tuple[str, ...]
    quantized: int
    model_bytes: int
    figures: Mapping[str, Figure]
    missed: tuple[str, ...]
    fit: FittedRule
    logits: np.ndarray
    fp32: Predictions
    int8: Predictions


@dataclass(frozen=True)
class Subject:
    """What is measured: the fp32 model, how to quantize it, its linear layers by name, how texts are read, a fit made.

    int8 is where the whole scheme stands when the guard begins, and the chosen model when it ends.
    """

    fp32: Path
    int8: Path
    scheme: str
    layers: tuple[str, ...]
    quantizer: Quantizer
    reader: TextReader
    problem_type: str
    fit: Fitting


@dataclass(frozen=True)
class Guard:
    """What the guard found. `chosen` is the rung whose model is in the bundle; None when only fp32 holds.

    fit, logits [texts, labels]: of the model in the bundle.
    """

    texts: EvalSet
    scheme: str
    problem_type: str
    limits: Limits
    rungs: tuple[Rung, ...]
    chosen: Rung | None
    sensitivity: tuple[Sensitivity, ...]
    fit: FittedRule
    logits: np.ndarray

    @property
    def multi(self) -> bool:
        """Return whether the model is multi-label."""
        return self.problem_type == MULTI_LABEL

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
            "truncation": texts.truncation,
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
    ExportError for a model whose logits are not finite, FitError where no model can be fitted.
    """
    problem_type = subject.problem_type
    fp32 = compute_logits(subject.fp32, subject.reader, texts.texts, "asking fp32")
    rungs: list[Rung] = []

    fp32_fit: FittedRule | None = None
    fp32_fault: FitError | None = None
    try:
        fp32_fit = subject.fit(subject.fp32, "fp32")
    except FitError as error:
        fp32_fault = error

    def fitted(model: Path, what: str) -> tuple[FittedRule, tuple[str, ...]]:
        try:
            return subject.fit(model, what), ()
        except FitError:
            if not limits.given:
                raise
            if fp32_fit is None:
                raise fp32_fault from None  # the ladder, which leads to fp32, cannot mend it
            return fp32_fit, ("calibration",)

    def measure(model: Path, kept: tuple[str, ...], quantized: int) -> Rung:
        what = f"int8, {len(kept)} kept fp32" if kept else "int8"
        logits = compute_logits(model, subject.reader, texts.texts, f"asking {what}")
        fit, unfitted = fitted(model, what)
        pair = predictions_from_logits(fp32, (fp32_fit or fit).rule), predictions_from_logits(logits, fit.rule)
        figures = compare(*pair, texts.truth, problem_type)
        missed = (*limits.missed(figures), *unfitted)
        rung = Rung(kept, quantized, model.stat().st_size, figures, missed, fit, logits, *pair)
        rungs.append(rung)
        return rung

    def found(chosen: Rung | None, ranked: Sequence[Sensitivity] = ()) -> Guard:
        if chosen is None and fp32_fit is None:
            raise fp32_fault
        served = (chosen.fit, chosen.logits) if chosen is not None else (fp32_fit, fp32)
        return Guard(texts, subject.scheme, problem_type, limits, tuple(rungs), chosen, tuple(ranked), *served)

    whole = measure(subject.int8, (), quantized)
    if not whole.missed:
        return found(whole)
    with tempfile.TemporaryDirectory(dir=subject.int8.parent) as folder:
        scratch = Path(folder)
        places = sample_of(len(texts.texts))
        sample = ([texts.texts[i] for i in places], fp32[places], problem_type)
        ranked = rank_layers(subject.layers, subject.quantizer, scratch, subject.reader, sample)

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
            return found(None, ranked)
        (scratch / "held.onnx").replace(subject.int8)
    return found(next(rung for rung in rungs if len(rung.kept) == fewest), ranked)


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
