"""The export from end to end: read, convert, quantize, check, write."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import transformers
from tqdm import tqdm

from export.bundle_writer import write_card_and_manifest
from export.checkpoint import TESTED_TYPES, Checkpoint, load_checkpoint
from export.checks.golden import choose_golden
from export.checks.parity import Parity, check_parity
from export.engine.onnx_model import as_linears, to_onnx, token_linears
from export.engine.quantize import Quantizer
from export.engine.unsupported import cannot_be_exported, faults_named
from export.guard.guard import GuardResult, Ladder
from export.guard.verdict import warnings
from export.options import ExportOptions
from export.plan import ExportPlan, make_plan
from export.predictions import compute_logits
from export.reference import reference
from export.report.guard_table import terminal_lines as guard_lines
from export.report.score_table import terminal_lines as score_lines
from export.scores.report import ScoreReport, abstention_report, calibration_report
from export.scores.rule_fitter import FittedRule
from export.tokenizer import write_tokenizer
from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import DEFAULT_THRESHOLD, FP32, FP32_MODEL, INT8_MODEL
from inferer.config import Config
from training.model.config_file import unread_keys
from training.run.output import fresh_folder

_BAR = "{desc:<30} {bar:20} {n}/{total} [{elapsed}]"


def export(path: Path, target: Path, config: Config, options: ExportOptions) -> GuardResult | None:
    """Export the checkpoint at `path` to the bundle `target`; return the guard's result, None without texts.

    `target` appears whole, at the end. Raises ExportError for a checkpoint that cannot be exported.
    """
    total = 6 + options.guarded + options.reports_scores
    steps = tqdm(total=total, desc="reading the checkpoint", bar_format=_BAR, file=sys.stderr)

    def step(description: str) -> None:
        steps.update()
        steps.set_description_str(description)

    with steps, fresh_folder(target) as folder:
        checkpoint = load_checkpoint(path, config, options.tokenizer, text_pair=options.text_pair)
        as_linears(checkpoint.model)
        options.scores.check_problem_type(checkpoint.problem_type)
        if options.guarded:
            options.limits.check_problem_type(checkpoint.problem_type)
        for note in _notes(checkpoint, calibrated=options.scores.file is not None):
            steps.write(note, file=sys.stderr)
        checkpoint.model.config.save_pretrained(folder)
        write_tokenizer(checkpoint.tokenizer, folder, checkpoint.max_length)
        plan = make_plan(checkpoint, folder, config, options)
        encoder = plan.reader.encoder
        step("converting to ONNX")
        fp32, int8, guard = folder / FP32_MODEL, None, None
        to_onnx(checkpoint.model, fp32)
        step("quantizing")
        quantization: dict[str, Any] = {"scheme": options.scheme, "quantized_matmuls": 0, "kept_fp32": []}
        if options.scheme != FP32:
            int8 = folder / INT8_MODEL
            linears = token_linears(checkpoint.model)
            if not linears:
                raise cannot_be_exported(checkpoint.model_type, "nothing in it can be int8; export with --scheme fp32")
            with faults_named(checkpoint.model_type):
                quantizer = Quantizer(fp32, linears, options.scheme)
                quantization["quantized_matmuls"] = quantizer(int8)
            if plan.texts is not None:
                step("comparing on your texts")
                ladder = Ladder(quantizer, int8, plan.texts, plan.fitter, options.limits)
                guard = ladder.climb(quantization["quantized_matmuls"])
                quantization = guard.quantization()
                int8 = None if guard.chosen is None else int8
        if options.reports_scores:
            step("measuring the scores")
        served = int8 or fp32
        fit = plan.fitter.fit(served, quantization["scheme"]) if guard is None else guard.fit
        scores = _score_report(plan, fit, served, guard, quantization["scheme"])
        step("comparing torch, fp32 and int8")
        parity = check_parity(checkpoint, encoder, fp32, int8, options.scheme)
        step("choosing the golden set")
        golden = choose_golden(checkpoint, encoder, fp32, int8)
        step("writing the bundle")
        _draw(guard, scores, folder)
        if int8 is not None and not options.keep_fp32:
            fp32.unlink()
        fields = {
            "truncation": plan.reader.truncation,
            "windows": {"overlap": encoder.overlap, "pooling": options.window_pooling},
            **fit.as_dict(checkpoint.labels),
            "golden": golden,
            "guard": None if guard is None else guard.as_dict(),
            "reference": reference(path, checkpoint.labels, guard),
            "calibration": scores.calibration,
            "abstention": scores.abstention,
        }
        write_card_and_manifest(checkpoint, folder, quantization, parity, fields)
        steps.update()
    _report(path, target, parity, guard, scores)
    return guard


def _notes(checkpoint: Checkpoint, *, calibrated: bool) -> list[str]:
    notes = []
    if calibrated and checkpoint.threshold != DEFAULT_THRESHOLD:
        notes.append(
            f"note: training chose the threshold {checkpoint.threshold:.4g} on scores that were not calibrated, so it "
            "does not apply (--tune-thresholds chooses anew)"
        )
    if checkpoint.model_type not in TESTED_TYPES:
        notes.append(
            f"note: architecture '{checkpoint.model_type}' is untested here; it is exported if the checks pass"
        )
    if unread := unread_keys(checkpoint.model.config):
        notes.append(
            f"note: config.json has keys that transformers {transformers.__version__} does not read, so they have no "
            f"effect: {', '.join(unread)}"
        )
    if not checkpoint.text_pair and any(label.lower().startswith("entail") for label in checkpoint.labels):
        notes.append(
            "note: the label names are those of natural language inference, and the bundle reads one text; for a model "
            "of pairs: --text-pair"
        )
    if checkpoint.problem_type != REGRESSION and checkpoint.labels == tuple(
        f"LABEL_{i}" for i in range(len(checkpoint.labels))
    ):
        notes.append(
            "note: the checkpoint has no label names; labels are LABEL_0, LABEL_1, … "
            "(give names by --config, in the order of the logits)"
        )
    return notes


def _score_report(
    plan: ExportPlan, fit: FittedRule, model: Path, guard: GuardResult | None, scheme: str
) -> ScoreReport:
    """Return the report on the scores of the bundle's `model`, with the guard's logits where they are of its texts."""
    reported = plan.texts if plan.rows is None else plan.rows.reported
    if reported is None or (plan.rows is None and fit.abstain_threshold is None):
        return ScoreReport()
    if guard is not None and reported.texts is guard.texts.texts:
        logits = guard.logits
    else:
        logits = compute_logits(model, plan.reader, reported.texts, f"running {scheme} to report")
    abstention = abstention_report(fit, plan.fitter, reported.name, logits, reported.truth)
    if plan.rows is None:
        return ScoreReport(abstention=abstention)
    calibration, outcomes = calibration_report(scheme, fit, plan.fitter, plan.rows, logits)
    return ScoreReport(calibration, abstention, outcomes)


def _draw(guard: GuardResult | None, scores: ScoreReport, folder: Path) -> None:
    if guard is None and scores.calibration is None:
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # importing it logs its font cache
    from export.report import pictures  # imports matplotlib

    if guard is not None:
        pictures.draw_quantization(guard, folder)
    if scores.calibration is not None and scores.outcomes is not None:
        pictures.draw_reliability(scores.calibration, scores.outcomes, folder)


def _report(path: Path, target: Path, parity: Parity, guard: GuardResult | None, scores: ScoreReport) -> None:
    size = sum(file.stat().st_size for file in target.iterdir())
    lines = [
        f"wrote {target} from {path} ({size / 1e6:.1f} MB)",
        f"  fp32 ONNX against torch: logits differ by at most {parity.fp32_max_difference:.1e}",
    ]
    if parity.int8_mean_change is not None:
        same = "" if parity.int8_agreement is None else f"same label {parity.int8_agreement:.0%}, "
        lines.append(
            f"  int8 against fp32 on {parity.n} sentences: {same}score changed by "
            f"{parity.int8_mean_change:.4f} on average, {parity.int8_max_change:.4f} at most"
        )
    if guard is not None:
        lines += guard_lines(guard.as_dict(), guard.problem_type)
    elif parity.int8_mean_change is not None:
        lines.append("  int8 was not checked on your texts; to check it: --eval FILE.csv --label-column NAME")
    lines += score_lines(scores.calibration, scores.abstention)
    if guard is not None:
        figures, served = guard.measured.figures, guard.chosen is not None
        lines += warnings(figures, guard.texts.truth, guard.problem_type, int8_served=served)
    print("\n".join(lines), file=sys.stderr)
