"""The guard on int8: measured on the user's texts, held to the user's limits, given up layer by layer.

When int8 misses a limit, the guard climbs a ladder: the whole scheme; the scheme without its most sensitive layers (1,
2, 4, 8, … in fp32, then the fewest between the last that missed and the first that held); fp32. The bundle gets the
first rung that holds, which is the smallest. Each model is measured under its own decision rule: a calibration is
fitted to that model's logits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.engine.quantize import Quantizer
from export.eval_texts import EvalSet
from export.guard.compare import METHOD, compare, divergence
from export.guard.numbers import METHOD as NUMBERS_METHOD
from export.guard.numbers import compare_numbers
from export.options import Limits
from export.predictions import Predictions, TextReader, compute_logits, predictions_from_logits
from export.scores.rule_fitter import FitError, FittedRule, RuleFitter
from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import FP32
from inferer.tokens.texts import TextOrPair
from training.report.intervals import Figure

SAMPLE = 64  # texts: enough to find the layers that matter; each layer costs a quantization and these runs


@dataclass(frozen=True)
class Sensitivity:
    """One layer, and the mean KL(fp32||int8) in nats over `n` texts when only that layer is int8."""

    layer: str
    kl: float
    n: int


@dataclass(frozen=True)
class Rung:
    """One measured int8 model: its fp32 layers, figures and missed limits.

    fit: of its logits [texts, labels]. fp32, int8: both models' predictions, each by its own fit.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest's entry in `rungs`."""
        shown = ("agreement", "accuracy_drop", "spearman")
        return {
            "kept_fp32": list(self.kept),
            "model_bytes": self.model_bytes,
            **{name: asdict(self.figures[name]) for name in shown if name in self.figures},
            "missed": list(self.missed),
        }


@dataclass(frozen=True)
class GuardResult:
    """The guard's findings. chosen: the rung in the bundle; None when only fp32 holds the limits.

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
    def activation(self) -> str | None:
        """Return the activation of the rule."""
        return self.fit.rule.activation

    @property
    def measured(self) -> Rung:
        """Return the rung of the reported figures: the chosen one, or else the whole scheme."""
        return self.chosen or self.rungs[0]

    def quantization(self) -> dict[str, Any]:
        """Return the manifest's `quantization`."""
        if self.chosen is None:
            return {"scheme": FP32, "quantized_matmuls": 0, "kept_fp32": []}
        return {"scheme": self.scheme, "quantized_matmuls": self.chosen.quantized, "kept_fp32": list(self.chosen.kept)}

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
            "groups": len(set(texts.groups)),
            "left_out": texts.left_out,
            "measured": {"scheme": self.scheme, "kept_fp32": list(self.measured.kept)},
            "in_bundle": self.chosen is not None,
            "figures": {name: asdict(figure) for name, figure in self.measured.figures.items()},
            "intervals": NUMBERS_METHOD if self.problem_type == REGRESSION else METHOD,
            "limits": self.limits.as_dict(),
            "rungs": [rung.as_dict() for rung in self.rungs],
            "sensitivity": [asdict(one) for one in self.sensitivity],
        }


class Ladder:
    """The ladder from int8 to fp32 on the user's texts."""

    def __init__(self, quantizer: Quantizer, int8: Path, texts: EvalSet, fitter: RuleFitter, limits: Limits) -> None:
        self._quantizer, self._int8, self._texts = quantizer, int8, texts
        self._fitter, self._limits = fitter, limits
        self._problem_type = fitter.plain.problem_type
        self._rungs: list[Rung] = []
        self._fp32 = compute_logits(quantizer.fp32, fitter.reader, texts.texts, "running fp32")
        self._fp32_fit: FittedRule | FitError
        try:
            self._fp32_fit = fitter.fit(quantizer.fp32, "fp32")
        except FitError as error:
            self._fp32_fit = error

    def climb(self, quantized: int) -> GuardResult:
        """Climb from the int8 model, which has `quantized` int8 products, and leave the chosen model in its place.

        When only fp32 holds, the int8 file is gone. Raises ExportError for logits that are not finite, FitError when
        no model can be fitted.
        """
        whole = self._measure(self._int8, (), quantized)
        if not whole.missed:
            return self._result(whole)
        with tempfile.TemporaryDirectory(dir=self._int8.parent) as folder:
            scratch = Path(folder)
            sample = sample_of(len(self._texts.texts))
            texts = [self._texts.texts[i] for i in sample]
            ranked = rank_layers(
                self._quantizer, scratch, self._fitter.reader, texts, self._fp32[sample], self._problem_type
            )
            fewest = fewest_kept(len(ranked), lambda count: self._holds(ranked[:count], scratch))
            if fewest is None:
                self._int8.unlink()
                return self._result(None, ranked)
            (scratch / "held.onnx").replace(self._int8)
        return self._result(next(rung for rung in self._rungs if len(rung.kept) == fewest), ranked)

    def _holds(self, kept: Sequence[Sensitivity], scratch: Path) -> bool:
        """Return whether int8 with these layers in fp32 holds the limits; then its model is scratch/held.onnx."""
        layers = tuple(one.layer for one in kept)
        trial = scratch / "trial.onnx"
        rung = self._measure(trial, layers, self._quantizer(trial, layers))
        if not rung.missed:
            trial.replace(scratch / "held.onnx")
        return not rung.missed

    def _measure(self, model: Path, kept: tuple[str, ...], quantized: int) -> Rung:
        name = f"int8, {len(kept)} kept fp32" if kept else "int8"
        logits = compute_logits(model, self._fitter.reader, self._texts.texts, f"running {name}")
        fit, unfitted = self._fit(model, name)
        fp32_fit = fit if isinstance(self._fp32_fit, FitError) else self._fp32_fit
        fp32, int8 = predictions_from_logits(self._fp32, fp32_fit.rule), predictions_from_logits(logits, fit.rule)
        if self._problem_type == REGRESSION:
            figures = compare_numbers(fp32, int8, self._texts.truth, self._texts.groups)
        else:
            figures = compare(fp32, int8, self._texts.truth, self._problem_type)
        missed = (*self._limits.missed(figures), *unfitted)
        rung = Rung(kept, quantized, model.stat().st_size, figures, missed, fit, logits, fp32, int8)
        self._rungs.append(rung)
        return rung

    def _fit(self, model: Path, name: str) -> tuple[FittedRule, tuple[str, ...]]:
        """Return the model's fit and no missed limit, or with limits set fp32's fit and "calibration" as missed."""
        try:
            return self._fitter.fit(model, name), ()
        except FitError:
            if not self._limits.given:
                raise
            return self._fit_of_fp32(), ("calibration",)

    def _fit_of_fp32(self) -> FittedRule:
        if isinstance(self._fp32_fit, FitError):
            raise self._fp32_fit  # the ladder leads to fp32, so no rung helps
        return self._fp32_fit

    def _result(self, chosen: Rung | None, ranked: Sequence[Sensitivity] = ()) -> GuardResult:
        return GuardResult(
            texts=self._texts,
            scheme=self._quantizer.scheme,
            problem_type=self._problem_type,
            limits=self._limits,
            rungs=tuple(self._rungs),
            chosen=chosen,
            sensitivity=tuple(ranked),
            fit=self._fit_of_fp32() if chosen is None else chosen.fit,
            logits=self._fp32 if chosen is None else chosen.logits,
        )


def fewest_kept(layers: int, holds: Callable[[int], bool]) -> int | None:
    """Return the fewest of `layers` to keep in fp32 for which `holds`; None when even all but one do not hold.

    Doubles from 1 until it holds, then halves the gap to the last that missed, assuming that keeping more never makes
    it worse. `holds` was last true for the returned count.
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


def sample_of(n: int) -> np.ndarray:
    """Return the places of at most SAMPLE of `n` texts, spread evenly because files are often sorted by label."""
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).round().astype(int))


def rank_layers(
    quantizer: Quantizer,
    scratch: Path,
    reader: TextReader,
    texts: Sequence[TextOrPair],
    fp32: np.ndarray,
    problem_type: str,
) -> list[Sensitivity]:
    """Return every layer with its sensitivity, most sensitive first; equal ones in the model's order.

    scratch: a folder for the trial models. fp32: that model's logits of `texts`. Tensors that a scheme quantizes beside
    the layers (int8-tensor: the embeddings) affect every measurement alike. Source: layer-wise sensitivity by KL
    divergence, as in ZeroQ (Cai et al., arXiv 2001.00281).
    """
    found = []
    bar = tqdm(quantizer.linears, desc="measuring each layer", unit="layer", leave=False, file=sys.stderr, position=1)
    trial = scratch / "one_layer.onnx"
    for layer in bar:
        quantizer(trial, quantizer.linears.keys() - {layer})
        logits = compute_logits(trial, reader, texts, None)
        found.append(Sensitivity(layer, float(divergence(fp32, logits, problem_type).mean()), len(texts)))
    trial.unlink(missing_ok=True)
    return sorted(found, key=lambda one: -one.kl)
