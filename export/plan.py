"""What a user may choose of an export, and how it fits the checkpoint: all that is known before the slow steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from export.checkpoint import Checkpoint
from export.errors import ExportError
from export.eval_texts import EvalFile, EvalSet, eval_set
from export.guard.compare import Reading, Rule
from export.guard.limits import Limits
from export.parity import check_tokenizer
from export.scores.fit import Fitter
from export.scores.options import Wishes
from export.scores.rows import CalibrationSet, calibration_set
from inferer.bundle.manifest import MAX
from inferer.bundle.reader import FP32, INT8_TOKEN


@dataclass(frozen=True)
class Choices:
    """What a user may choose of an export.

    The scheme, what happens to long texts (None: what happened in training; window_overlap: tokens, None for a quarter
    of what is read), whether fp32 stays; texts to measure int8 on, and how much it may change there; what is asked of
    the scores.
    """

    scheme: str = INT8_TOKEN
    truncation: str | None = None
    window_overlap: int | None = None
    window_pooling: str = MAX
    keep_fp32: bool = False
    eval_file: EvalFile | None = None
    limits: Limits = field(default_factory=Limits)
    wishes: Wishes = field(default_factory=Wishes)

    def of(self, checkpoint: Checkpoint) -> Choices:
        """Return the choices with what `checkpoint` says where nothing was chosen."""
        return replace(self, truncation=self.truncation or checkpoint.truncation)

    @property
    def guarded(self) -> bool:
        """Return whether int8 is compared with fp32 on the user's texts."""
        return self.eval_file is not None and self.scheme != FP32

    @property
    def reported(self) -> bool:
        """Return whether there is something to report of the scores."""
        wishes = self.wishes
        return wishes.file is not None or (wishes.abstaining is not None and self.eval_file is not None)


@dataclass(frozen=True)
class Plan:
    """What of the user's files and choices fits the checkpoint: known before the slow steps."""

    reading: Reading
    texts: EvalSet | None
    rows: CalibrationSet | None
    fitter: Fitter


def make_plan(checkpoint: Checkpoint, folder: Path, choices: Choices, thresholds: dict[str, float] | None) -> Plan:
    """Return the plan for an export into `folder`, where the tokenizer lies already. thresholds: as configured.

    Raises ExportError and DataError for what does not fit.
    """
    labels, kind = checkpoint.labels, checkpoint.problem_type
    truncation = choices.truncation or checkpoint.truncation
    asked = checkpoint.max_length // 4 if choices.window_overlap is None else choices.window_overlap
    encoder = check_tokenizer(checkpoint, folder, asked)
    if choices.window_overlap is not None and encoder.overlap < asked:
        raise ExportError(
            f"--window-overlap is {asked}, expected 0 to {encoder.overlap} tokens: half of what a window of "
            f"{checkpoint.max_length} holds of a text"
        )

    def fitting(file: EvalFile | None) -> EvalSet | None:
        return None if file is None else eval_set(file, labels, kind, encoder, truncation)

    texts, given = fitting(choices.eval_file), fitting(choices.wishes.file)
    rows = None if given is None else calibration_set(given, texts, labels, kind)
    plain = Rule(kind, None if thresholds is None else tuple(thresholds.values()))
    reading = Reading(encoder, truncation, choices.window_pooling)
    fitter = Fitter(plain, labels, choices.wishes, None if rows is None else rows.fitted, reading)
    return Plan(reading, texts, rows, fitter)
