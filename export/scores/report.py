"""What the manifest says of a bundle's scores: how they were fitted, on which rows, and what that did on others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.predictions import predictions_from_logits
from export.scores.calibration_rows import CalibrationSet, Rows
from export.scores.figures import METHOD, ScoreOutcomes, abstention_figures, calibration_figures, score_outcomes
from export.scores.rule_fitter import FittedRule, RuleFitter


@dataclass(frozen=True)
class ScoreReport:
    """The manifest's `calibration` and `abstention`: plain types, never a text; None where there is nothing to say.

    before, after: what the figures of the calibration were made of, to be drawn.
    """

    calibration: dict[str, Any] | None = None
    abstention: dict[str, Any] | None = None
    before: ScoreOutcomes | None = None
    after: ScoreOutcomes | None = None


@dataclass(frozen=True)
class ServedModel:
    """The model of the bundle: its scheme, its fit, and its logits [texts, labels] of the rows to report on."""

    scheme: str
    fit: FittedRule
    logits: np.ndarray


def score_report(served: ServedModel, fitter: RuleFitter, rows: CalibrationSet | None, reported: Rows) -> ScoreReport:
    """Return what the fit did to the scores of the served model on the rows `reported`.

    rows: which rows were fitted on; None where nothing was calibrated.
    """
    fit, logits = served.fit, served.logits
    after = predictions_from_logits(logits, fit.rule)
    abstention = None
    if fit.abstain_threshold is not None:
        figures = abstention_figures(after, reported.truth, fit.abstain_threshold)
        abstention = {
            "below": fit.abstain_threshold,
            "asked": fitter.options.abstaining,
            "fitted_rows": None if fitter.options.abstain_accuracy is None else len(rows.fitted.texts),
            "reported_file": reported.file,
            "reported_rows": len(reported.texts),
            "figures": {name: asdict(figure) for name, figure in figures.items()},
            "intervals": METHOD,
        }
    if rows is None:
        return ScoreReport(None, abstention)
    plain, kind = fitter.plain, fitter.plain.problem_type
    figures = calibration_figures(logits, reported.truth, plain, fit.rule)
    calibration = {
        "method": "temperature" if fit.platt is None else "platt",
        "temperature": fit.temperature,
        "model": served.scheme,
        "file": rows.given.name,
        "rows": rows.given.rows,
        "cut": rows.given.cut,
        "left_out": rows.given.left_out,
        "fitted_rows": len(rows.fitted.texts),
        "reported_file": reported.file,
        "reported_rows": len(reported.texts),
        "held_back": rows.held_back,
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        "intervals": METHOD,
        "tuning": fitter.options.tuning,
        "labels": None if fit.platt is None else _labels(fit, fitter, rows),
        "notes": list(fit.notes),
    }
    before = score_outcomes(predictions_from_logits(logits, plain), reported.truth, kind)
    return ScoreReport(calibration, abstention, before, score_outcomes(after, reported.truth, kind))


def _labels(fit: FittedRule, fitter: RuleFitter, rows: CalibrationSet) -> dict[str, dict[str, Any]]:
    """Return for each label how many fitted and reported texts carry it, its scale and bias, its threshold."""
    columns = zip(
        fitter.labels,
        rows.fitted.truth.sum(axis=0).tolist(),
        rows.reported.truth.sum(axis=0).tolist(),
        fitter.plain.thresholds,
        fit.rule.thresholds,
        strict=True,
    )
    return {
        label: {
            "fitted": fitted,
            "reported": reported,
            **asdict(fit.platt[label]),
            "threshold_before": before,
            "threshold": after,
        }
        for label, fitted, reported, before, after in columns
    }
