"""The flags on what scores mean: calibration, thresholds, abstaining; which of them go together. No torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from export.errors import ExportError
from export.eval_texts import EvalFile
from export.guard.options import read_file
from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL

_F1, _PRECISION, _ACCURACY = "f1", "precision=", "accuracy="


@dataclass(frozen=True)
class Wishes:
    """What a user asks of the scores.

    file: labelled rows to calibrate on. tune_f1, precision: each label's threshold is the one of best F1, or the lowest
    that reaches this precision. abstain_score, abstain_accuracy: no label is named where the best score is below this,
    or below the lowest score at or above which this share is right. None, or False, where nothing is asked.
    """

    file: EvalFile | None = None
    tune_f1: bool = False
    precision: float | None = None
    abstain_score: float | None = None
    abstain_accuracy: float | None = None

    @property
    def tuning(self) -> str | None:
        """Return how thresholds are tuned, as the flag says it; None where they are not."""
        if self.precision is not None:
            return f"{_PRECISION}{self.precision:g}"
        return _F1 if self.tune_f1 else None

    @property
    def abstaining(self) -> str | None:
        """Return when no label is named, as the flag says it; None where one always is."""
        if self.abstain_accuracy is not None:
            return f"{_ACCURACY}{self.abstain_accuracy:g}"
        return None if self.abstain_score is None else f"{self.abstain_score:g}"

    def check_kind(self, problem_type: str) -> None:
        """Raise ExportError for a wish that a model of this kind cannot grant."""
        if problem_type == SINGLE_LABEL and self.tuning is not None:
            raise ExportError(
                "--tune-thresholds is for multi-label; the model is single-label: it names the best label"
            )
        if problem_type == MULTI_LABEL and self.abstaining is not None:
            raise ExportError(
                "--abstain-below is for single-label; the model is multi-label, where thresholds may leave no label"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags on scores."""
    group = parser.add_argument_group("what scores mean")
    group.add_argument(
        "--calibrate",
        metavar="FILE.csv",
        help="make scores say how often they are right, fitted on its labelled rows, which training never saw",
    )
    group.add_argument(
        "--tune-thresholds",
        metavar="f1|precision=P",
        help="multi-label: each label's threshold, of best F1 or the lowest with this precision, on the fitted rows",
    )
    group.add_argument(
        "--abstain-below",
        metavar="SCORE|accuracy=A",
        help="single-label: name no label where the best score is lower, or so that this share of the named is right",
    )


def read_wishes(args: argparse.Namespace) -> Wishes:
    """Return what `args` ask, the file's faults found.

    Raises ExportError for flags that do not go together or values out of range, DataError for faults of the file.
    """
    tuning, abstaining = args.tune_thresholds, args.abstain_below
    precision = accuracy = score = None
    if tuning is not None and tuning != _F1:
        if not tuning.startswith(_PRECISION):
            raise ExportError(f"--tune-thresholds is {tuning!r}, expected f1 or precision=P, such as precision=0.9")
        precision = _share("--tune-thresholds", tuning, _PRECISION)
    if abstaining is not None and abstaining.startswith(_ACCURACY):
        accuracy = _share("--abstain-below", abstaining, _ACCURACY)
    elif abstaining is not None:
        score = _number(abstaining)
        if score is None or not 0 <= score <= 1:
            raise ExportError(
                f"--abstain-below is {abstaining!r}, expected a score 0 to 1, or accuracy=A, such as accuracy=0.95"
            )
    if args.calibrate is None:
        if tuning is not None:
            raise ExportError("--tune-thresholds needs --calibrate FILE.csv, the rows to choose thresholds on")
        if accuracy is not None:
            raise ExportError(f"--abstain-below {abstaining} needs --calibrate FILE.csv, the rows to count on")
        return Wishes(abstain_score=score)
    if args.label_column is None and args.label_columns is None:
        raise ExportError("--calibrate needs labels: name their column with --label-column (or --label-columns)")
    return Wishes(read_file("--calibrate", args), tuning == _F1, precision, score, accuracy)


def _share(flag: str, given: str, prefix: str) -> float:
    share = _number(given.removeprefix(prefix))
    if share is None or not 0 < share <= 1:
        raise ExportError(f"{flag} is {given!r}, expected a share above 0, at most 1 ({prefix}0.9 means 90 %)")
    return share


def _number(given: str) -> float | None:
    try:
        return float(given)
    except ValueError:
        return None
