"""Export options checked against the checkpoint, before the slow steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.checkpoint import Checkpoint
from export.errors import ExportError
from export.eval_texts import EvalFile, EvalSet, eval_set
from export.options import ExportOptions
from export.predictions import DecisionRule, TextReader
from export.scores.calibration_rows import CalibrationSet, calibration_set
from export.scores.rule_fitter import RuleFitter
from export.tokenizer import checked_encoder
from inferer.bundle.manifest import MULTI_LABEL
from inferer.bundle.reader import DEFAULT_THRESHOLD, PAIR_TRUNCATIONS, TRUNCATIONS
from inferer.config import Config, spread_thresholds
from inferer.errors import ConfigError


@dataclass(frozen=True)
class ExportPlan:
    """The bundle's reader of texts, the user's rows as the model reads them, and the fitter of the decision rule."""

    reader: TextReader
    texts: EvalSet | None
    rows: CalibrationSet | None
    fitter: RuleFitter


def make_plan(checkpoint: Checkpoint, folder: Path, config: Config, options: ExportOptions) -> ExportPlan:
    """Return the plan for an export into `folder`, which holds the tokenizer already.

    Raises ExportError, ConfigError and DataError for options and rows that do not fit the checkpoint.
    """
    labels, problem_type = checkpoint.labels, checkpoint.problem_type
    truncation = options.truncation or checkpoint.truncation
    overlap = checkpoint.max_length // 4 if options.window_overlap is None else options.window_overlap
    if truncation not in (allowed := PAIR_TRUNCATIONS if checkpoint.text_pair else TRUNCATIONS):
        kind = "pairs" if checkpoint.text_pair else "one text"
        raise ExportError(
            f"--truncation is {truncation}; for a model that reads {kind} it is one of {', '.join(allowed)}"
        )
    pair = checkpoint.text_pair
    encoder = checked_encoder(checkpoint.tokenizer, folder, checkpoint.max_length, overlap, pair=pair)
    if options.window_overlap is not None and encoder.overlap < overlap:
        raise ExportError(
            f"--window-overlap is {overlap}, expected 0 to {encoder.overlap} tokens: half of the text in a window of "
            f"{checkpoint.max_length}"
        )

    def read(file: EvalFile | None) -> EvalSet | None:
        return None if file is None else eval_set(file, labels, problem_type, encoder, truncation)

    texts, given = read(options.eval_file), read(options.scores.file)
    rows = None if given is None else calibration_set(given, texts, labels, problem_type)
    reader = TextReader(encoder, truncation, options.window_pooling)
    thresholds = _thresholds(checkpoint, config, calibrated=rows is not None)
    rule = DecisionRule(problem_type, thresholds, activation=checkpoint.activation)
    fitter = RuleFitter(rule, labels, options.scores, None if rows is None else rows.fitted, reader)
    return ExportPlan(reader, texts, rows, fitter)


def _thresholds(checkpoint: Checkpoint, config: Config, *, calibrated: bool) -> tuple[float, ...] | None:
    """Return a multi-label model's threshold per label, else None.

    Labels that `config` leaves out get the threshold of training, which was chosen on raw scores; where scores are
    calibrated, they get the default.
    """
    if checkpoint.problem_type != MULTI_LABEL:
        if config.thresholds is not None:
            raise ConfigError("config.thresholds", config.thresholds, f"none for {checkpoint.problem_type}")
        return None
    base = dict.fromkeys(checkpoint.labels, DEFAULT_THRESHOLD if calibrated else checkpoint.threshold)
    if config.thresholds is None:
        return tuple(base.values())
    return tuple(spread_thresholds("config.thresholds", config.thresholds, checkpoint.labels, base).values())
