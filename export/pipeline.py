"""The export from end to end: read, convert, quantize, check, write. The steps and their order live here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from export.bundle_writer import write_card_and_manifest
from export.checkpoint import TESTED_TYPES, Checkpoint, load_checkpoint
from export.checks.golden import choose_golden
from export.checks.parity import Parity, check_parity
from export.engine.onnx_model import to_onnx, token_linears
from export.engine.quantize import quantize
from export.guard.guard import Guard, Subject, guard_int8
from export.logits import compute_logits
from export.options import ExportOptions
from export.plan import ExportPlan, make_plan
from export.report.guard_table import screen as guard_screen
from export.report.score_table import screen as score_screen
from export.scores.calibration_rows import Rows
from export.scores.report import ScoreReport, ServedModel, score_report
from export.scores.rule_fitter import FittedRule
from export.tokenizer import write_tokenizer
from inferer.bundle.reader import DEFAULT_THRESHOLD, FP32, FP32_MODEL, INT8_MODEL, PICTURE, RELIABILITY
from inferer.config import Config
from training.run.output import fresh_folder


def export(path: Path, target: Path, config: Config, options: ExportOptions) -> Guard | None:
    """Export the checkpoint at `path` to the bundle `target`; return what the guard found, None without texts.

    The bundle is written beside and renamed at the end. Raises ExportError for what cannot be exported.
    """
    bar = "{desc:<30} {bar:20} {n}/{total} [{elapsed}]"
    total = 6 + options.guarded + options.reports_scores
    steps = tqdm(total=total, desc="reading the checkpoint", bar_format=bar, file=sys.stderr)

    def step(what: str) -> None:
        """Count the step before as done, and say what begins."""
        steps.update()
        steps.set_description_str(what)

    with steps, fresh_folder(target) as folder:
        checkpoint = load_checkpoint(path, config)
        options.scores.check_problem_type(checkpoint.problem_type)
        for note in _notes(checkpoint, calibrated=options.scores.file is not None):
            steps.write(note, file=sys.stderr)
        checkpoint.model.config.save_pretrained(folder)
        write_tokenizer(checkpoint.tokenizer, folder, checkpoint.max_length)
        plan = make_plan(checkpoint, folder, config, options)
        encoder = plan.reader.encoder
        step("converting to ONNX")
        fp32, int8 = folder / FP32_MODEL, None
        to_onnx(checkpoint.model, fp32)
        step("quantizing")
        quantization: dict[str, Any] = {"scheme": options.scheme, "quantized_matmuls": 0, "kept_fp32": []}
        guard = None
        if options.scheme != FP32:
            int8 = folder / INT8_MODEL
            linears = token_linears(checkpoint.model)

            def quantizer(model: Path, kept: Collection[str] = ()) -> int:
                return quantize(fp32, model, linears, options.scheme, kept)

            quantization["quantized_matmuls"] = quantizer(int8)
            if options.guarded:
                step("comparing on your texts")
                layers = tuple(linear.name for linear in linears)
                subject = Subject(
                    fp32, int8, options.scheme, layers, quantizer, plan.reader, checkpoint.problem_type, plan.fitter
                )
                guard = guard_int8(subject, plan.texts, options.limits, quantization["quantized_matmuls"])
                quantization = guard.quantization()
                int8 = None if guard.chosen is None else int8
        if options.reports_scores:
            step("measuring the scores")
        fit = plan.fitter(int8 or fp32, quantization["scheme"]) if guard is None else guard.fit
        scores = _score_report(plan, fit, int8 or fp32, guard, quantization["scheme"])
        step("comparing torch, fp32 and int8")
        parity = check_parity(checkpoint, encoder, fp32, int8, options.scheme)
        step("choosing the golden set")
        golden = choose_golden(checkpoint, encoder, fp32, int8)
        step("writing the bundle")
        _draw(guard, scores, folder)
        if int8 is not None and not options.keep_fp32:
            fp32.unlink()
        write_card_and_manifest(
            checkpoint,
            folder,
            quantization,
            parity,
            {
                "truncation": plan.reader.truncation,
                "windows": {"overlap": encoder.overlap, "pooling": options.window_pooling},
                **fit.as_dict(checkpoint.labels),
                "golden": golden,
                "guard": None if guard is None else guard.as_dict(),
                "calibration": scores.calibration,
                "abstention": scores.abstention,
            },
        )
        steps.update()
    _report(path, target, parity, guard, scores)
    return guard


def _notes(checkpoint: Checkpoint, *, calibrated: bool) -> list[str]:
    notes = []
    if calibrated and checkpoint.threshold != DEFAULT_THRESHOLD:
        notes.append(
            f"note: training chose the threshold {checkpoint.threshold:.4g} for scores that were not calibrated; it "
            "does not hold for these (--tune-thresholds chooses anew)"
        )
    if checkpoint.model_type not in TESTED_TYPES:
        notes.append(
            f"note: architecture '{checkpoint.model_type}' is untested here; it is exported if the checks pass"
        )
    if checkpoint.labels == tuple(f"LABEL_{i}" for i in range(len(checkpoint.labels))):
        notes.append(
            "note: the checkpoint names no labels; they are called LABEL_0, LABEL_1, … "
            "(give names by --config, in the order of the logits)"
        )
    return notes


def _score_report(plan: ExportPlan, fit: FittedRule, model: Path, guard: Guard | None, scheme: str) -> ScoreReport:
    """Return the report on the scores of the served `model`; the guard has asked it already, where its texts serve."""
    texts = plan.texts
    if plan.rows is not None:
        reported = plan.rows.reported
    elif texts is not None and fit.abstain_threshold is not None:
        reported = Rows(texts.name, texts.texts, texts.truth)
    else:
        return ScoreReport()
    if guard is None or reported.texts is not guard.texts.texts:
        logits = compute_logits(model, plan.reader, reported.texts, f"asking {scheme} to report")
    else:
        logits = guard.logits
    return score_report(ServedModel(scheme, fit, logits), plan.fitter, plan.rows, reported)


def _draw(guard: Guard | None, scores: ScoreReport, folder: Path) -> None:
    if guard is None and scores.calibration is None:
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache when it is imported
    from export.report import quantization_picture as picture
    from export.report import reliability_diagram as reliability  # matplotlib is only needed here

    if guard is not None:
        kept = len(guard.measured.kept)
        title = f"{guard.scheme} against fp32 on {len(guard.texts.texts):,} texts"
        title += f", {kept} layer{'' if kept == 1 else 's'} kept in fp32" if kept else ""
        title += " (not in this bundle: limits missed)" if guard.chosen is None else ""
        pair = guard.measured.fp32, guard.measured.int8
        picture.draw(*pair, guard.problem_type, title, folder / PICTURE)
    if scores.calibration is not None:
        report = scores.calibration
        each = "" if report["labels"] is None else f" by {len(report['labels'])} labels"
        title = f"Calibration of {report['model']}, {report['reported_rows']:,} texts{each} that were not fitted on"
        eces = (report["figures"]["ece_before"]["value"], report["figures"]["ece_after"]["value"])
        reliability.draw(scores.before, scores.after, eces, title, folder / RELIABILITY)


def _report(path: Path, target: Path, parity: Parity, guard: Guard | None, scores: ScoreReport) -> None:
    lines = [f"wrote {target} from {path} ({_size(target)})"]
    lines.append(f"  fp32 ONNX against torch: logits differ by at most {parity.fp32_max_difference:.1e}")
    if parity.int8_agreement is not None:
        lines.append(
            f"  int8 against fp32 on {parity.n} sentences: same label {parity.int8_agreement:.0%}, score changed by "
            f"{parity.int8_mean_change:.4f} on average, {parity.int8_max_change:.4f} at most"
        )
    if guard is not None:
        lines += guard_screen(guard.as_dict(), multi=guard.multi)
    elif parity.int8_agreement is not None:
        lines.append("  int8 was not checked on your texts; to do it: --eval FILE.csv --label-column NAME")
    lines += score_screen(scores.calibration, scores.abstention)
    print("\n".join(lines), file=sys.stderr)


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"
