"""Options of an export, as the command line sets them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.errors import ExportError
from export.eval_texts import EvalFile
from inferer.bundle.manifest import MAX, MULTI_LABEL, REGRESSION, SINGLE_LABEL
from inferer.bundle.reader import FP32, INT8_TOKEN
from training.report.intervals import Figure

F1, PRECISION, ACCURACY = "f1", "precision=", "accuracy="
# A limit beyond these forbids nothing; the user probably meant a fraction, or mistyped.
_MOST_POINTS = 50
_LEAST_PERCENT = 50
_LEAST_SPEARMAN = 0.5
_ROUNDING = 1e-9  # one of 200 texts must hold a limit of 0.5 points, though 100 * 0.005 is not 0.5 in binary


@dataclass(frozen=True)
class ScoreOptions:
    """Calibration, thresholds and abstention; None, or False, leaves a part out.

    file: labelled rows to calibrate on. tune_f1, precision: each label's threshold is the one of best F1, or the lowest
    that reaches this precision. abstain_score, abstain_accuracy: the bundle names no label where the best score is
    below this, or below the lowest score at or above which this share is right.
    """

    file: EvalFile | None = None
    tune_f1: bool = False
    precision: float | None = None
    abstain_score: float | None = None
    abstain_accuracy: float | None = None

    @property
    def tuning(self) -> str | None:
        """Return the value of --tune-thresholds; None without tuning."""
        if self.precision is not None:
            return f"{PRECISION}{self.precision:g}"
        return F1 if self.tune_f1 else None

    @property
    def abstaining(self) -> str | None:
        """Return the value of --abstain-below; None for a bundle that always names a label."""
        if self.abstain_accuracy is not None:
            return f"{ACCURACY}{self.abstain_accuracy:g}"
        return None if self.abstain_score is None else f"{self.abstain_score:g}"

    def check_problem_type(self, problem_type: str) -> None:
        """Raise ExportError for an option that a model of this problem type does not have."""
        if problem_type == REGRESSION:
            given = {"--calibrate": self.file, "--tune-thresholds": self.tuning, "--abstain-below": self.abstaining}
            for flag, value in given.items():
                if value is not None:
                    raise ExportError(f"{flag} is for classifiers; the model is a regression")
        if problem_type == SINGLE_LABEL and self.tuning is not None:
            raise ExportError(
                "--tune-thresholds is for multi-label; the model is single-label: it names the best label"
            )
        if problem_type == MULTI_LABEL and self.abstaining is not None:
            raise ExportError(
                "--abstain-below is for single-label; the model is multi-label, where thresholds may leave no label"
            )


@dataclass(frozen=True)
class Limits:
    """Limits that int8 must hold on the user's texts; None sets no limit.

    max_accuracy_drop: fp32's accuracy minus int8's, in percentage points, 0 to 50. min_agreement: texts with the same
    label (multi-label: the same set of labels), in percent, 50 to 100. min_spearman: of a regression, the rank
    correlation of int8's numbers with fp32's, 0.5 to 1. All apply to the measured value, not to its interval. Raises
    ExportError for other values.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    min_spearman: float | None = None

    def __post_init__(self) -> None:
        drop, agreement = self.max_accuracy_drop, self.min_agreement
        if drop is not None and not 0 <= drop <= _MOST_POINTS:
            raise ExportError(
                f"--max-accuracy-drop is {drop:g}, expected 0 to {_MOST_POINTS} percentage points "
                "(0.5 lets an accuracy of 90.0 % fall to 89.5 %)"
            )
        if agreement is not None and not _LEAST_PERCENT <= agreement <= 100:
            raise ExportError(
                f"--min-agreement is {agreement:g}, expected {_LEAST_PERCENT} to 100 percent (99 means 99 %, not 0.99)"
            )

        spearman = self.min_spearman
        if spearman is not None and not _LEAST_SPEARMAN <= spearman <= 1:
            raise ExportError(f"--min-spearman is {spearman:g}, expected {_LEAST_SPEARMAN} to 1")

    @property
    def given(self) -> bool:
        """Return whether a limit is set."""
        return any(limit is not None for limit in (self.max_accuracy_drop, self.min_agreement, self.min_spearman))

    def check_problem_type(self, problem_type: str) -> None:
        """Raise ExportError for a limit that a model of this problem type does not have."""
        if problem_type != REGRESSION and self.min_spearman is not None:
            raise ExportError(f"--min-spearman is for a regression; the model is a {problem_type}: --min-agreement")
        if problem_type == REGRESSION:
            for flag, limit in (
                ("--max-accuracy-drop", self.max_accuracy_drop),
                ("--min-agreement", self.min_agreement),
            ):
                if limit is not None:
                    raise ExportError(f"{flag} is for classifiers; the model is a regression: --min-spearman")

    def missed(self, figures: Mapping[str, Figure]) -> tuple[str, ...]:
        """Return the names of the figures that miss a limit: accuracy_drop, agreement, both or none."""
        drop, agreement = self.max_accuracy_drop, self.min_agreement
        missed = []
        if drop is not None and not 100 * figures["accuracy_drop"].value <= drop + _ROUNDING:
            missed.append("accuracy_drop")
        if agreement is not None and not 100 * figures["agreement"].value >= agreement - _ROUNDING:
            missed.append("agreement")
        if self.min_spearman is not None and not figures["spearman"].value >= self.min_spearman - _ROUNDING:
            missed.append("spearman")
        return tuple(missed)

    def as_dict(self) -> dict[str, float | None]:
        """Return the limits as plain types, with their units in their names."""
        return {
            "max_accuracy_drop_points": self.max_accuracy_drop,
            "min_agreement_percent": self.min_agreement,
            "min_spearman": self.min_spearman,
        }


@dataclass(frozen=True)
class ExportOptions:
    """Everything that a user may choose.

    truncation: None keeps the one of training. window_overlap: tokens, None for a quarter of max_length. keep_fp32:
    whether model.onnx stays beside the int8 model. eval_file: texts to measure int8 on, within `limits`. tokenizer: the
    folder of another tokenizer than the checkpoint's. text_pair: whether the model reads pairs; None for what the
    checkpoint says.
    """

    scheme: str = INT8_TOKEN
    truncation: str | None = None
    window_overlap: int | None = None
    window_pooling: str = MAX
    keep_fp32: bool = False
    eval_file: EvalFile | None = None
    limits: Limits = field(default_factory=Limits)
    scores: ScoreOptions = field(default_factory=ScoreOptions)
    tokenizer: Path | None = None
    text_pair: bool | None = None

    @property
    def guarded(self) -> bool:
        """Return whether int8 is compared with fp32 on the user's texts."""
        return self.eval_file is not None and self.scheme != FP32

    @property
    def reports_scores(self) -> bool:
        """Return whether the bundle reports on its scores."""
        return self.scores.file is not None or (self.scores.abstaining is not None and self.eval_file is not None)
