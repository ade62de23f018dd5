"""The model bundle on disk: its file names, its manifest, and what is checked on reading.

Owns the layout that export writes and everything after reads. Knows nothing of torch, of a session or
of HTTP, and never unpickles.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.golden import GoldenText, read_golden
from inferer.bundle.manifest import (
    MANIFEST,
    MULTI_LABEL,
    SINGLE_LABEL,
    Platt,
    Windows,
    abstain_threshold_of,
    field,
    platt_of,
    read_json,
    temperature_of,
    thresholds_of,
    windows_of,
)
from inferer.bundle.onnx_weights import external_files
from inferer.errors import BundleError, shown

FORMAT_VERSION = 3
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
INT8_MODEL = "model_quantized.onnx"
FP32_MODEL = "model.onnx"
MODEL_CARD = "README.md"
PICTURE = "quantization.png"
RELIABILITY = "reliability.png"

PROBLEM_TYPES = (SINGLE_LABEL, MULTI_LABEL)
HEAD, TAIL, HEAD_TAIL, WINDOWS, ERROR = "head", "tail", "head_tail", "windows", "error"
TRUNCATIONS = (HEAD, TAIL, HEAD_TAIL, WINDOWS, ERROR)
# One activation scale a token: an answer does not depend on its batch.
INT8_TOKEN = "int8-token"  # noqa: S105 - a token of text
# onnxruntime's own dynamic int8, one activation scale a tensor: an answer would depend on its batch.
INT8_TENSOR = "int8-tensor"
FP32 = "fp32"
SCHEMES = (INT8_TOKEN, INT8_TENSOR, FP32)

_OWN_HASH = "manifest_sha256"
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Bundle:
    """The facts of one model, as read and checked.

    labels: names in the order of the logits. max_length: tokens read of a text, special tokens
    included; max_positions: the most that the architecture could read. thresholds: one per label for
    multi-label, None for single-label, which may have abstain_threshold, the score below which no label is named.
    temperature, platt: what makes the scores of a calibrated model say how often they are right. vocab_size: token ids
    that the model has embeddings for, from 0; pad_token_id is one of them. golden: texts with their logits at export.
    manifest: inferer.json whole, for those who report it.
    """

    path: Path
    labels: tuple[str, ...]
    problem_type: str
    max_length: int
    max_positions: int
    truncation: str
    windows: Windows
    thresholds: Mapping[str, float] | None
    abstain_threshold: float | None
    temperature: float
    platt: Mapping[str, Platt] | None
    scheme: str
    vocab_size: int
    pad_token_id: int
    golden: tuple[GoldenText, ...]
    manifest: Mapping[str, Any]

    def model_path(self, *, quantize: bool) -> Path:
        """Return the ONNX file to run: the bundle's own, or with `quantize=False` the fp32 one.

        Raises BundleError when fp32 is asked of a bundle that was exported without it.
        """
        if quantize and self.scheme != FP32:
            return self.path / INT8_MODEL
        if FP32_MODEL not in self.manifest["files"]:
            raise BundleError(
                self.path, f"has no fp32 model ({FP32_MODEL}); export it again with --keep-fp32 to run fp32"
            )
        return self.path / FP32_MODEL


def is_bundle(path: Path) -> bool:
    """Return whether `path` is a folder with a manifest, whatever its state."""
    return (path / MANIFEST).is_file()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return `manifest` with the SHA-256 of its own values put in, whatever their order and layout in the file."""
    values = {key: value for key, value in manifest.items() if key != _OWN_HASH}
    return {**values, _OWN_HASH: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read the bundle in folder `path` and check it whole.

    Checked: the manifest's version, hash and values, the SHA-256 of every file, that the models hold their
    weights themselves, and that config.json and the manifest agree. Raises BundleError, naming the file or
    field, for whatever does not hold.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BundleError(folder, what)
    manifest = read_json(folder, MANIFEST)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(
            folder,
            f"{MANIFEST} has format_version {shown(version)}, this version reads {FORMAT_VERSION}; export it again",
        )
    if manifest.get(_OWN_HASH) != sealed(manifest)[_OWN_HASH]:
        raise BundleError(
            folder, f"{MANIFEST} is damaged or was edited: its values are not those that {_OWN_HASH} vouches for"
        )
    _check_files(folder, manifest)
    config = read_json(folder, CONFIG)
    labels = labels_of(config.get("id2label"), folder)
    problem_type = field(folder, manifest, "problem_type", str, PROBLEM_TYPES)
    if config.get("problem_type") != problem_type:
        raise BundleError(
            folder,
            f"problem_type is {shown(config.get('problem_type'))} in {CONFIG} but '{problem_type}' in {MANIFEST}",
        )
    max_positions = field(folder, manifest, "max_positions", int)
    max_length = field(folder, manifest, "max_length", int)
    if not 3 <= max_length <= max_positions:
        raise BundleError(folder, f"max_length is {max_length}, expected 3 to max_positions ({max_positions})")
    vocab_size = config.get("vocab_size")
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < 1:
        raise BundleError(folder, f"vocab_size is {shown(vocab_size)} in {CONFIG}, expected the number of token ids")
    pad_token_id = config.get("pad_token_id") or 0  # which one matters little: what is padded is masked
    if isinstance(pad_token_id, bool) or not isinstance(pad_token_id, int) or not 0 <= pad_token_id < vocab_size:
        raise BundleError(
            folder, f"pad_token_id is {shown(pad_token_id)} in {CONFIG}, expected a token id from 0 to {vocab_size - 1}"
        )
    scheme = _scheme(folder, manifest)
    bundle = Bundle(
        path=folder,
        labels=labels,
        problem_type=problem_type,
        max_length=max_length,
        max_positions=max_positions,
        truncation=field(folder, manifest, "truncation", str, TRUNCATIONS),
        windows=windows_of(folder, manifest, max_length),
        thresholds=thresholds_of(folder, manifest, labels, problem_type),
        abstain_threshold=abstain_threshold_of(folder, manifest, problem_type),
        temperature=temperature_of(folder, manifest),
        platt=platt_of(folder, manifest, labels, problem_type),
        scheme=scheme,
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        golden=read_golden(folder, manifest.get("golden"), len(labels), int8=scheme != FP32),
        manifest=manifest,
    )
    if bundle.model_path(quantize=True).name not in manifest["files"]:
        raise BundleError(folder, f"{MANIFEST} lists no model file for scheme '{bundle.scheme}'")
    return bundle


def labels_of(id2label: object, folder: Path) -> tuple[str, ...]:
    """Return the label names in the order of the logits from a Hugging Face `id2label` mapping."""
    if not isinstance(id2label, dict) or not id2label:
        raise BundleError(folder, f"id2label is {shown(id2label)}, expected a mapping from 0, 1, … to names")
    labels = [id2label.get(str(i), id2label.get(i)) for i in range(len(id2label))]
    names = [label for label in labels if isinstance(label, str) and label]
    if len(names) != len(labels):
        raise BundleError(
            folder, f"id2label has the keys {sorted(map(str, id2label))}, expected 0 to {len(id2label) - 1}"
        )
    if len(set(names)) != len(names):
        raise BundleError(folder, f"id2label names a label twice: {shown(labels)}")
    return tuple(names)


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = field(folder, manifest, "files", dict)
    for name in (CONFIG, TOKENIZER):
        if name not in files:
            raise BundleError(folder, f"{MANIFEST} does not list {name}")
    for name, expected in files.items():
        if Path(name).name != name:
            raise BundleError(folder, f"{MANIFEST} lists {shown(name)}, which is not a plain file name")
        if not (folder / name).is_file():
            raise BundleError(folder, f"{name} is missing")
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise BundleError(folder, f"{name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise BundleError(
                folder,
                f"{name} is damaged: its SHA-256 is {found[:12]}…, {MANIFEST} says {shown(expected)[1:13]}…",
            )
        if name in (INT8_MODEL, FP32_MODEL):
            _check_self_contained(folder, name)


def _check_self_contained(folder: Path, name: str) -> None:
    """Raise BundleError when the model takes weights from other files, which no hash here vouches for."""
    try:
        elsewhere = external_files(folder / name)
    except ValueError as error:
        raise BundleError(folder, f"{name} cannot be loaded: it is no ONNX file: {error}") from error
    if elsewhere:
        raise BundleError(
            folder, f"{name} takes weights from the file {shown(elsewhere[0])}; a bundle's model must hold them itself"
        )


def _scheme(folder: Path, manifest: Mapping[str, Any]) -> str:
    quantization = field(folder, manifest, "quantization", dict)
    return field(folder, quantization, "scheme", str, SCHEMES)
