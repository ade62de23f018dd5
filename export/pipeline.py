"""The export from end to end: read, convert, quantize, check, write. The steps and their order live here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from export.checkpoint import TESTED_TYPES, load_checkpoint
from export.golden import choose_golden
from export.onnx_model import to_onnx, token_linears
from export.parity import Parity, check_parity, check_tokenizer
from export.quantize import quantize
from export.write import finish, thresholds_for, write_companions
from inferer.bundle import FP32, FP32_MODEL, INT8_MODEL, INT8_TENSOR
from inferer.config import Config
from training.output import fresh_folder


@dataclass(frozen=True)
class Choices:
    """What a user may choose of an export: the scheme, what happens to long texts, and whether fp32 stays."""

    scheme: str = INT8_TENSOR
    truncation: str = "head"
    keep_fp32: bool = False


def export(path: Path, target: Path, config: Config, choices: Choices) -> Parity:
    """Export the checkpoint at `path` to the bundle `target`; return what the parity check found.

    The bundle is written beside and renamed at the end. Raises ExportError for what cannot be exported.
    """
    bar = "{desc:<30} {bar:20} {n}/{total} [{elapsed}]"
    steps = tqdm(total=6, desc="reading the checkpoint", bar_format=bar, file=sys.stderr)

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
        step("converting to ONNX")
        fp32, int8 = folder / FP32_MODEL, None
        to_onnx(checkpoint.model, fp32)
        step("quantizing")
        quantized = 0
        if choices.scheme != FP32:
            int8 = folder / INT8_MODEL
            quantized = quantize(fp32, int8, token_linears(checkpoint.model), choices.scheme)
        step("comparing torch, fp32 and int8")
        parity = check_parity(checkpoint, encoder, fp32, int8)
        step("choosing the golden set")
        golden = choose_golden(checkpoint, encoder, fp32, int8)
        step("writing the bundle")
        if int8 is not None and not choices.keep_fp32:
            fp32.unlink()
        finish(
            checkpoint,
            folder,
            {"scheme": choices.scheme, "quantized_matmuls": quantized},
            parity,
            {"truncation": choices.truncation, "thresholds": thresholds, "golden": golden},
        )
        steps.update()
    _report(path, target, parity)
    return parity


def _report(path: Path, target: Path, parity: Parity) -> None:
    lines = [f"wrote {target} from {path} ({_size(target)})"]
    lines.append(f"  fp32 ONNX against torch: logits differ by at most {parity.fp32_max_difference:.1e}")
    if parity.int8_agreement is not None:
        lines.append(
            f"  int8 against fp32 on {parity.n} sentences: same label {parity.int8_agreement:.0%}, score changed by "
            f"{parity.int8_mean_change:.4f} on average, {parity.int8_max_change:.4f} at most"
        )
    print("\n".join(lines), file=sys.stderr)


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"
