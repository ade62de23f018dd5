"""The model bundle on disk: its file names and values, and the checks on reading it.

Owns the layout that export writes and all later stages read. Needs no torch and no session, and never unpickles.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.files import MANIFEST, check_hash, opened
from inferer.bundle.golden import GoldenText, read_golden
from inferer.bundle.manifest import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    Fields,
    Platt,
    Windows,
    is_int,
    read_json,
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

PROBLEM_TYPES = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)
HEAD, TAIL, HEAD_TAIL, WINDOWS, ERROR = TRUNCATIONS = ("head", "tail", "head_tail", "windows", "error")
LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND = ("longest_first", "only_first", "only_second")
PAIR_TRUNCATIONS = (LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND, TAIL, HEAD_TAIL, WINDOWS, ERROR)
# One activation scale per token: a prediction does not depend on its batch.
INT8_TOKEN = "int8-token"  # noqa: S105 - a token of text
# onnxruntime's own dynamic int8, one activation scale per tensor: a prediction depends on its batch.
INT8_TENSOR = "int8-tensor"
FP32 = "fp32"
SCHEMES = (INT8_TOKEN, INT8_TENSOR, FP32)

# The width of the embeddings in config.json: ALBERT's and ELECTRA's own, DistilBERT's, all others'.
_WIDTHS = ("embedding_size", "dim", "hidden_size")
_OWN_HASH = "manifest_sha256"
DEFAULT_THRESHOLD = 0.5
_MOST_IDS = 2**31 - 1  # tokenizers and models count in 32 bits at most


@dataclass(frozen=True)
class Bundle:
    """The facts of one model, read and checked.

    labels: names in the order of the logits. activation: the function from logits to scores. text_pair: whether the
    model reads pairs of texts. token_types: whether it gets the types of the tokenizer's template. max_length: tokens
    that the model gets of a text, special tokens included; max_positions: the limit of the architecture. thresholds:
    one per label for multi-label, None for other problem types. abstain_threshold: the score below which a single-label
    model names no label; None to always name one. temperature, platt: the calibration of the scores. vocab_size: the
    model has embeddings for token ids below this, of `embedding_width` numbers, 0 where config.json does not tell;
    pad_token_id is one of them. golden: texts with their logits at
    export. manifest: the whole inferer.json.
    """

    path: Path
    labels: tuple[str, ...]
    problem_type: str
    activation: str
    text_pair: bool
    token_types: bool
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
    embedding_width: int
    pad_token_id: int
    golden: tuple[GoldenText, ...]
    manifest: Mapping[str, Any]

    @property
    def truncations(self) -> tuple[str, ...]:
        """Return the truncations that a caller may choose from."""
        return PAIR_TRUNCATIONS if self.text_pair else TRUNCATIONS

    def sha256(self, name: str) -> object:
        """Return the SHA-256 that the manifest gives for the file `name`, in hex."""
        return self.manifest["files"][name]

    def model_path(self, *, quantize: bool) -> Path:
        """Return the ONNX file to run: the bundle's own, or with `quantize=False` the fp32 one.

        Raises BundleError for fp32 when the bundle was exported without it.
        """
        if quantize and self.scheme != FP32:
            return self.path / INT8_MODEL
        if FP32_MODEL not in self.manifest["files"]:
            problem = f"has no fp32 model ({FP32_MODEL}); export it again with --keep-fp32 to run fp32"
            raise BundleError(self.path, problem)
        return self.path / FP32_MODEL


def is_bundle(path: Path) -> bool:
    """Return whether `path` is a folder with a manifest, sound or not."""
    return (path / MANIFEST).is_file()


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return `manifest` with the SHA-256 of its values, independent of their order and layout in the file."""
    values = {key: value for key, value in manifest.items() if key != _OWN_HASH}
    return {**values, _OWN_HASH: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read the bundle in folder `path` and check all of it.

    The checks: the manifest's version, hash and values, the SHA-256 of every file, models without external weights,
    and agreement of config.json with the manifest. Raises BundleError, naming the file or field at fault.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(folder, "is not a folder" if folder.exists() else "does not exist")
    manifest = read_json(folder, MANIFEST)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        problem = f"has format_version {shown(version)}, this version reads {FORMAT_VERSION}; export it again"
        raise BundleError(folder, f"{MANIFEST} {problem}")
    if manifest.get(_OWN_HASH) != sealed(manifest)[_OWN_HASH]:
        raise BundleError(folder, f"{MANIFEST} is damaged or was edited: its values do not match its {_OWN_HASH}")
    fields = Fields(folder, manifest)
    files = fields.get("files", dict)
    _check_files(folder, files)
    config = Fields(folder, read_json(folder, CONFIG, files[CONFIG]), CONFIG)
    labels = labels_of(config.values.get("id2label"), folder)
    problem_type = fields.get("problem_type", str, PROBLEM_TYPES)
    in_config = config.values.get("problem_type")
    if in_config != problem_type:
        raise config.unexpected("problem_type", in_config, f"'{problem_type}' as in {MANIFEST}")
    if problem_type != MULTI_LABEL and (len(labels) == 1) != (problem_type == REGRESSION):
        raise config.unexpected(
            "id2label", labels, f"{'1' if problem_type == REGRESSION else '2 or more'} labels for {problem_type}"
        )
    # Bundles from before 2026-11-28 have neither field.
    text_pair, token_types = fields.flag("text_pair", default=False), fields.flag("token_types", default=True)
    max_positions, max_length = fields.get("max_positions", int), fields.get("max_length", int)
    if not is_int(max_positions, 3, _MOST_IDS):
        raise fields.unexpected("max_positions", max_positions, f"3 to {_MOST_IDS}")
    if not 3 <= max_length <= max_positions:
        raise fields.unexpected("max_length", max_length, f"3 to max_positions ({max_positions})")
    vocab_size = config.values.get("vocab_size")
    if not is_int(vocab_size, 1, _MOST_IDS):
        raise config.unexpected("vocab_size", vocab_size, f"the number of token ids, 1 to {_MOST_IDS}")
    pad_token_id = config.values.get("pad_token_id") or 0  # any id will do: padding is masked
    if not is_int(pad_token_id, 0, vocab_size - 1):
        raise config.unexpected("pad_token_id", pad_token_id, f"a token id from 0 to {vocab_size - 1}")
    scheme = Fields(folder, fields.get("quantization", dict)).get("scheme", str, SCHEMES)
    bundle = Bundle(
        path=folder,
        labels=labels,
        problem_type=problem_type,
        activation=fields.activation(problem_type),
        text_pair=text_pair,
        token_types=token_types,
        max_length=max_length,
        max_positions=max_positions,
        truncation=fields.get("truncation", str, PAIR_TRUNCATIONS if text_pair else TRUNCATIONS),
        windows=fields.windows(max_length),
        thresholds=fields.thresholds(labels, problem_type),
        abstain_threshold=fields.abstain_threshold(problem_type),
        temperature=fields.temperature(),
        platt=fields.platt(labels, problem_type),
        scheme=scheme,
        vocab_size=vocab_size,
        embedding_width=next((width for name in _WIDTHS if is_int(width := config.values.get(name), 1, _MOST_IDS)), 0),
        pad_token_id=pad_token_id,
        golden=read_golden(folder, manifest.get("golden"), len(labels), int8=scheme != FP32, pair=text_pair),
        manifest=manifest,
    )
    if bundle.model_path(quantize=True).name not in files:
        raise BundleError(folder, f"{MANIFEST} lists no model file for scheme '{bundle.scheme}'")
    return bundle


def labels_of(id2label: object, folder: Path) -> tuple[str, ...]:
    """Return the label names in the order of the logits from a Hugging Face `id2label` mapping."""
    if not isinstance(id2label, dict) or not id2label:
        raise BundleError.unexpected(folder, "id2label", id2label, "a mapping from 0, 1, … to names")
    labels = [id2label.get(str(i), id2label.get(i)) for i in range(len(id2label))]
    names = [label for label in labels if isinstance(label, str) and label]
    if len(names) != len(labels):
        keys = sorted(map(str, id2label))
        raise BundleError(folder, f"id2label has the keys {keys}, expected 0 to {len(id2label) - 1}")
    if len(set(names)) != len(names):
        raise BundleError(folder, f"id2label names a label twice: {shown(labels)}")
    return tuple(names)


def _check_files(folder: Path, files: Mapping[str, object]) -> None:
    for name in (CONFIG, TOKENIZER):
        if name not in files:
            raise BundleError(folder, f"{MANIFEST} does not list {name}")
    for name, expected in files.items():
        if Path(name).name != name or name in ("", "..") or not name.isprintable():
            raise BundleError(folder, f"{MANIFEST} lists {shown(name)}, which is not a plain file name")
        with opened(folder / name) as file:
            check_hash(folder / name, hashlib.file_digest(file, "sha256").hexdigest(), expected)
            if name not in (INT8_MODEL, FP32_MODEL):
                continue
            try:
                elsewhere = external_files(file)
            except ValueError as error:
                raise BundleError(folder, f"{name} cannot be loaded, it is not an ONNX file: {error}") from error
        if elsewhere:  # the manifest's hashes do not cover other files
            problem = f"takes weights from the file {shown(elsewhere[0])}; a bundle's model must hold them itself"
            raise BundleError(folder, f"{name} {problem}")
