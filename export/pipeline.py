"""The export from end to end: read, convert, quantize, check, write. The steps and their order live here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from export.checkpoint import TESTED_TYPES, load_checkpoint
from export.eval_file import EvalFile, eval_set
from export.evaluate import Rule
from export.golden import choose_golden
from export.guard import Guard, Subject, guard_int8
from export.guard_table import screen
from export.limits import Limits
from export.onnx_model import to_onnx, token_linears
from export.parity import Parity, check_parity, check_tokenizer
from export.quantize import quantize
from export.write import finish, thresholds_for, write_companions
from inferer.bundle import FP32, FP32_MODEL, INT8_MODEL, INT8_TOKEN, PICTURE
from inferer.config import Config
from training.output import fresh_folder


@dataclass(frozen=True)
class Choices:
    """What a user may choose of an export.

    The scheme, what happens to long texts, whether fp32 stays; texts to measure int8 on, and how much it
    may change there.
    """

    scheme: str = INT8_TOKEN
    truncation: str = "head"
    keep_fp32: bool = False
    eval_file: EvalFile | None = None
    limits: Limits = field(default_factory=Limits)


def export(path: Path, target: Path, config: Config, choices: Choices) -> Guard | None:
    """Export the checkpoint at `path` to the bundle `target`; return what the guard found, None without texts.

    The bundle is written beside and renamed at the end. Raises ExportError for what cannot be exported.
    """
    bar = "{desc:<30} {bar:20} {n}/{total} [{elapsed}]"
    steps = tqdm(
        total=6 + (choices.eval_file is not None), desc="reading the checkpoint", bar_format=bar, file=sys.stderr
    )

    def step(what: str) -> None:
        """Count the step before as done, and say what begins."""
        steps.update()
        steps.set_description_str(what)

    with steps, fresh_folder(target) as folder:
        checkpoint = load_checkpoint(path, config)
        thresholds = thresholds_for(checkpoint, config)
        if checkpoint.model_type not in TESTED_TYPES:
            steps.write(
                f"note: architecture '{checkpoint.model_type}' is untested here; it is exported if the checks pass",
                file=sys.stderr,
            )
        if checkpoint.labels == tuple(f"LABEL_{i}" for i in range(len(checkpoint.labels))):
            steps.write(
                "note: the checkpoint names no labels; they are called LABEL_0, LABEL_1, … "
                "(give names by --config, in the order of the logits)",
                file=sys.stderr,
            )
        write_companions(checkpoint, folder)
        encoder = check_tokenizer(checkpoint, folder)
        rule = Rule(checkpoint.problem_type, None if thresholds is None else tuple(thresholds.values()))
        texts = None
        if choices.eval_file is not None:
            texts = eval_set(choices.eval_file, checkpoint.labels, rule.problem_type, encoder, choices.truncation)
        step("converting to ONNX")
        fp32, int8 = folder / FP32_MODEL, None
        to_onnx(checkpoint.model, fp32)
        step("quantizing")
        quantization: dict[str, Any] = {"scheme": choices.scheme, "quantized_matmuls": 0, "kept_fp32": []}
        guard = None
        if choices.scheme != FP32:
            int8 = folder / INT8_MODEL
            linears = token_linears(checkpoint.model)

            def quantizer(model: Path, kept: Collection[str] = ()) -> int:
                return quantize(fp32, model, linears, choices.scheme, kept)

            quantization["quantized_matmuls"] = quantizer(int8)
            if texts is not None:
                step("comparing on your texts")
                layers = tuple(linear.name for linear in linears)
                subject = Subject(fp32, int8, choices.scheme, layers, quantizer, encoder, rule)
                guard = guard_int8(subject, texts, choices.limits, quantization["quantized_matmuls"])
                quantization = guard.quantization()
                int8 = None if guard.chosen is None else int8
        step("comparing torch, fp32 and int8")
        parity = check_parity(checkpoint, encoder, fp32, int8, choices.scheme)
        step("choosing the golden set")
        golden = choose_golden(checkpoint, encoder, fp32, int8)
        step("writing the bundle")
        if guard is not None:
            _draw(guard, rule, folder / PICTURE)
        if int8 is not None and not choices.keep_fp32:
            fp32.unlink()
        finish(
            checkpoint,
            folder,
            quantization,
            parity,
            {
                "truncation": choices.truncation,
                "thresholds": thresholds,
                "golden": golden,
                "guard": None if guard is None else guard.as_dict(),
            },
        )
        steps.update()
    _report(path, target, parity, guard)
    return guard


def _draw(guard: Guard, rule: Rule, target: Path) -> None:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache when it is imported
    from export.picture import draw  # matplotlib is only needed here

    kept = len(guard.measured.kept)
    title = f"{guard.scheme} against fp32 on {len(guard.texts.texts):,} texts"
    title += f", {kept} layer{'' if kept == 1 else 's'} kept in fp32" if kept else ""
    title += " (not in this bundle: limits missed)" if guard.chosen is None else ""
    draw(guard.fp32, guard.measured.answers, rule.problem_type, title, target)


def _report(path: Path, target: Path, parity: Parity, guard: Guard | None) -> None:
    lines = [f"wrote {target} from {path} ({_size(target)})"]
    lines.append(f"  fp32 ONNX against torch: logits differ by at most {parity.fp32_max_difference:.1e}")
    if parity.int8_agreement is not None:
        lines.append(
            f"  int8 against fp32 on {parity.n} sentences: same label {parity.int8_agreement:.0%}, score changed by "
            f"{parity.int8_mean_change:.4f} on average, {parity.int8_max_change:.4f} at most"
        )
    if guard is not None:
        lines += screen(guard.as_dict(), multi=guard.multi)
    elif parity.int8_agreement is not None:
        lines.append("  int8 was not checked on your texts; to do it: --eval FILE.csv --label-column NAME")
    print("\n".join(lines), file=sys.stderr)


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"
