"""Parity of torch, fp32 ONNX and int8 ONNX on built-in texts, to find broken exports.

fp32 must agree with torch to rounding, alone and in batches; int8 must stay near fp32. The guard measures int8 on the
user's own texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from export.checkpoint import Checkpoint
from export.checks.built_in_texts import built_in_texts
from export.engine.unsupported import cannot_be_exported
from export.errors import ExportError
from inferer.bundle.golden import unit_of
from inferer.bundle.manifest import NONE, REGRESSION
from inferer.bundle.reader import INT8_TENSOR, INT8_TOKEN
from inferer.cpu import available_cpus
from inferer.scoring import activate
from inferer.session import Session
from inferer.tokens.encoding import INPUTS, Encoder, Encoding

# Measured 2e-6 to 2e-5 on trained models of 6 and 12 layers; a wrong graph is off by whole units.
_MAX_FP32_DIFFERENCE = 1e-3
# onnxruntime's int8 moved single scores by up to 0.35 and the mean by about 0.01 on trained models (docs/log.md); a
# wrong scale or layer moves the mean far past this.
_MAX_INT8_MEAN_CHANGE = 0.15

# Beside each text alone.
BATCH_SIZES = (2, 3, 8)


@dataclass(frozen=True)
class Parity:
    """Figures over n built-in texts; int8_… are None without an int8 model.

    fp32_max_difference: fp32 ONNX against torch, in logits, alone and in batches. int8_…: int8 against fp32 ONNX, in
    scores, and the share of texts with the same best label, None for a regression. int8_batch_max_change: int8 in
    batches against alone, in scores; 0 for int8-token.
    """

    n: int
    batch_sizes: tuple[int, ...]
    fp32_max_difference: float
    int8_max_change: float | None = None
    int8_mean_change: float | None = None
    int8_agreement: float | None = None
    int8_batch_max_change: float | None = None


def check_parity(checkpoint: Checkpoint, encoder: Encoder, fp32: Path, int8: Path | None, scheme: str) -> Parity:
    """Compare torch, `fp32` and `int8` on built-in texts, alone and in batches.

    Raises ExportError when fp32 differs from torch, when int8 is broken, or when `scheme` is int8-token and a bit of a
    logit depends on the batch.
    """
    encodings = [encoder.encode_one(text) for text in built_in_texts(encoder)]
    torch_logits = np.concatenate([_torch_logits(checkpoint, [encoding]) for encoding in encodings])
    fp32_logits = _alone(fp32, encodings)
    difference = float(np.abs(torch_logits - fp32_logits).max())
    session = _batch_session(checkpoint, fp32)
    own = 0.0  # the checkpoint's, of batches against single texts
    for rows in _batches(len(encodings)):  # of mixed lengths, so padding and mask count
        own = max(own, float(np.abs(_torch_logits(checkpoint, encodings[rows]) - torch_logits[rows]).max()))
        difference = max(difference, float(np.abs(session.run_batch(encodings[rows]) - torch_logits[rows]).max()))
    if not own <= _MAX_FP32_DIFFERENCE:
        why = f"it reads padding, so that a text's logits change by {own:.3g} beside longer texts, in torch too"
        raise cannot_be_exported(checkpoint.model_type, why)
    difference = max(difference, own)
    if not difference <= _MAX_FP32_DIFFERENCE:  # also when it is NaN
        raise ExportError(
            f"the fp32 ONNX model differs from the checkpoint: logits differ by {difference:.3g}, "
            f"at most {_MAX_FP32_DIFFERENCE:g} allowed"
        )
    if int8 is None:
        return Parity(len(encodings), BATCH_SIZES, difference)
    int8_logits = _alone(int8, encodings)
    scores = activate(int8_logits, checkpoint.activation)
    change = np.abs(scores - activate(fp32_logits, checkpoint.activation))
    session = _batch_session(checkpoint, int8)
    batch_change, identical = 0.0, True
    for rows in _batches(len(encodings)):
        logits = session.run_batch(encodings[rows])
        identical = identical and np.array_equal(logits, int8_logits[rows])
        moved = np.abs(activate(logits, checkpoint.activation) - scores[rows])
        batch_change = max(batch_change, float(moved.max()))
    if scheme == INT8_TOKEN and not identical:
        raise ExportError(
            f"int8 scores depend on the batch: they move by up to {batch_change:.3g} beside other texts, where "
            f"{INT8_TOKEN} allows no change; export with --scheme {INT8_TENSOR}, which runs one text at a time"
        )
    is_number = checkpoint.problem_type == REGRESSION
    # A number has any unit: it is compared with the range of fp32's own.
    allowed = _MAX_INT8_MEAN_CHANGE * (unit_of(fp32_logits.tolist()) if checkpoint.activation == NONE else 1)
    if not change.mean() <= allowed:
        raise ExportError(
            f"int8 is broken: scores move by {change.mean():.3g} on average, at most {allowed:.3g} "
            "allowed; export with --scheme fp32 to serve without it"
        )
    return Parity(
        n=len(encodings),
        batch_sizes=BATCH_SIZES,
        fp32_max_difference=difference,
        int8_max_change=float(change.max()),
        int8_mean_change=float(change.mean()),
        int8_agreement=None if is_number else float((int8_logits.argmax(1) == fp32_logits.argmax(1)).mean()),
        int8_batch_max_change=batch_change,
    )


def _batches(count: int) -> Iterator[slice]:
    """Yield the rows of batches that hold every text once at each batch size."""
    for size in BATCH_SIZES:
        for start in range(0, count, size):
            yield slice(start, start + size)


def _alone(model: Path, encodings: Sequence[Encoding]) -> np.ndarray:
    session = Session(model, 1)
    return np.stack([session.run(encoding) for encoding in encodings])


def _batch_session(checkpoint: Checkpoint, model: Path) -> Session:
    return Session(model, available_cpus(), pad_id=_pad_id(checkpoint))


def _torch_logits(checkpoint: Checkpoint, encodings: Sequence[Encoding]) -> np.ndarray:
    # A tokenizer may name inputs that the model does not take: DistilBERT is often saved with BERT's.
    taken = set(inspect.signature(checkpoint.model.forward).parameters)
    named = {*checkpoint.tokenizer.model_input_names, "input_ids", "attention_mask"}
    names = taken.intersection(named, INPUTS)
    fill = {"input_ids": _pad_id(checkpoint)}
    inputs = {
        name: pad_sequence([torch.tensor(getattr(e, name)).long() for e in encodings], True, fill.get(name, 0))
        for name in names
    }
    try:
        with torch.no_grad():
            logits: np.ndarray = checkpoint.model(**inputs).logits.numpy()
    except Exception as error:  # whatever the model's own code raises
        raise cannot_be_exported(checkpoint.model_type, error) from error
    return logits


def _pad_id(checkpoint: Checkpoint) -> int:
    """Return the id of padding that a server uses: the model's, by which decoders find the last token of a text."""
    return int(getattr(checkpoint.model.config, "pad_token_id", None) or 0)
