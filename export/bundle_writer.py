"""Writer of a bundle's model card and manifest."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from export.checkpoint import Checkpoint
from export.checks.parity import Parity
from export.report.model_card import model_card
from inferer.bundle.files import MANIFEST, sha256_of
from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import FORMAT_VERSION, FP32_MODEL, INT8_MODEL, MODEL_CARD, read_bundle, sealed
from inferer.cpu import instruction_flags

_VERSIONS = ("onnxruntime", "onnx", "transformers", "torch", "tokenizers")


def write_card_and_manifest(
    checkpoint: Checkpoint, folder: Path, quantization: dict[str, Any], parity: Parity, fields: dict[str, Any]
) -> None:
    """Write the model card and the manifest into `folder`, then read the whole bundle as a server would.

    fields: the manifest's own on truncation, windows, scores, golden set and guard.
    """
    sizes = {name: (folder / name).stat().st_size for name in (INT8_MODEL, FP32_MODEL) if (folder / name).is_file()}
    card = model_card(checkpoint, quantization, parity, sizes, fields)
    (folder / MODEL_CARD).write_text(card, encoding="utf-8")
    manifest = {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "problem_type": checkpoint.problem_type,
        "activation": checkpoint.activation if checkpoint.problem_type == REGRESSION else None,
        "text_pair": checkpoint.text_pair,
        "token_types": checkpoint.token_types,
        "max_length": checkpoint.max_length,
        "max_positions": checkpoint.max_positions,
        **fields,
        "quantization": quantization,
        "parity": asdict(parity),
        "opset": {name: _opset(folder / name) for name in sizes},
        "versions": {name: version(name) for name in _VERSIONS},
        "machine": {"architecture": platform.machine(), "cpu_flags": list(instruction_flags())},
        "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    }
    text = json.dumps(sealed(manifest), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    read_bundle(folder)


def _opset(model: Path) -> int:
    """Return the version of the standard operators in `model`."""
    imported = onnx.load(model, load_external_data=False).opset_import
    return next(int(entry.version) for entry in imported if entry.domain == "")
