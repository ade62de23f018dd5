"""The manifest's report on scores: their fit, the fitted rows, and its effect on other rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.predictions import predictions_from_logits
from export.scores.calibration_rows import CalibrationSet
from export.scores.figures import METHOD, ScoreOutcomes, abstention_figures, calibration_figures, score_outcomes
from export.scores.rule_fitter import FittedRule, RuleFitter
from training.report.intervals import Figure


@dataclass(frozen=True)
class ScoreReport:
    """The manifest's `calibration` and `abstention` as plain types, never a text; None where not used.

    outcomes: scores and truth before and after calibration, to draw.
    """

    calibration: dict[str, Any] | None = None
    abstention: dict[str, Any] | None = None
    outcomes: tuple[ScoreOutcomes, ScoreOutcomes] | None = None


def calibration_report(
    scheme: str, fit: FittedRule, fitter: RuleFitter, rows: CalibrationSet, logits: np.ndarray
) -> tuple[dict[str, Any], tuple[ScoreOutcomes, ScoreOutcomes]]:
    """Return the manifest's `calibration`, and the outcomes before and after it.

    scheme, fit: of the bundle's model. logits: [texts, labels], its own of the reported rows.
    """
    plain, truth = fitter.plain, rows.reported.truth
    calibration = {
        "method": "temperature" if fit.platt is None else "platt",
        "temperature": fit.temperature,
        "model": scheme,
        "file": rows.given.name,
        "rows": rows.given.rows,
        "cut": rows.given.cut,
        "left_out": rows.given.left_out,
        "fitted_rows": len(rows.fitted.texts),
        "reported_file": rows.reported.name,
        "reported_rows": len(rows.reported.texts),
        "held_back": rows.held_back,
        "figures": _plain(calibration_figures(logits, truth, plain, fit.rule)),
        "intervals": METHOD,
        "tuning": fitter.options.tuning,
        "labels": None if fit.platt is None else _labels(fit.platt, fit, fitter, rows),
        "notes": list(fit.notes),
    }
    before, after = (
        score_outcomes(predictions_from_logits(logits, rule), truth, plain.problem_type) for rule in (plain, fit.rule)
    )
    return calibration, (before, after)


def abstention_report(
    fit: FittedRule, fitter: RuleFitter, file: str, logits: np.ndarray, truth: np.ndarray | None
) -> dict[str, Any] | None:
    """Return the manifest's `abstention`; None for a bundle that always names a label.

    logits, truth: [texts, labels], of the reported rows, which are from `file`.
    """
    if fit.abstain_threshold is None:
        return None
    fitted = fitter.rows if fitter.options.abstain_accuracy is not None else None
    figures = abstention_figures(predictions_from_logits(logits, fit.rule), truth, fit.abstain_threshold)
    return {
        "below": fit.abstain_threshold,
        "asked": fitter.options.abstaining,
        "fitted_rows": None if fitted is None else len(fitted.texts),
        "reported_file": file,
        "reported_rows": len(logits),
        "figures": _plain(figures),
        "intervals": METHOD,
    }


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def _labels(
    platt: Mapping[str, Any], fit: FittedRule, fitter: RuleFitter, rows: CalibrationSet
) -> dict[str, dict[str, Any]]:
    """Return each label's number of fitted and reported texts, its scale and bias, and its thresholds."""
    fitted, reported = (part.truth.sum(axis=0).tolist() for part in (rows.fitted, rows.reported))
    before, after = fitter.plain.thresholds or (), fit.rule.thresholds or ()
    return {
        label: {"fitted": n, "reported": m, **asdict(platt[label]), "threshold_before": first, "threshold": last}
        for label, n, m, first, last in zip(fitter.labels, fitted, reported, before, after, strict=True)
    }
