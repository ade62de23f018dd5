"""Does the bundle answer as the checkpoint did? torch, fp32 ONNX and int8 ONNX on real sentences.

fp32 must agree with torch to rounding, alone and in batches; int8 must stay near it. What the user's
own texts say about int8 is a larger question; this one finds exports that are broken.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from export.checkpoint import Checkpoint
from export.checks.built_in_texts import built_in_texts
from export.errors import ExportError
from inferer.bundle.reader import INT8_TENSOR, INT8_TOKEN
from inferer.encoding import Encoder
from inferer.scoring import activate
from inferer.session import Session

# Measured 2e-6 to 2e-5 on trained models of 6 and 12 layers; a wrong graph is off by whole units.
_MAX_FP32_DIFFERENCE = 1e-3
# Onnxruntime's int8 moved single scores by up to 0.35 and the mean by about 0.01 on trained models
# (docs/log.md); a scale or a layer gone wrong moves the mean far past this.
_MAX_INT8_MEAN_CHANGE = 0.15

# Beside each text alone.
BATCH_SIZES = (2, 3, 8)


@dataclass(frozen=True)
class Parity:
    """What the comparison found; differences are the largest over all texts and batches.

    fp32_max_difference: fp32 ONNX against torch, in logits, alone and in batches. int8_*: int8 against
    fp32 ONNX, in scores after activation, and how often the best label was the same;
    int8_batch_max_change: how far a score of int8 moves in a batch: 0 with int8-token; why int8-tensor is not run in
    batches. None when there is no int8 model.
    """

    n: int
    batch_sizes: tuple[int, ...]
    fp32_max_difference: float
    int8_max_change: float | None
    int8_mean_change: float | None
    int8_agreement: float | None
    int8_batch_max_change: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain types."""
        return asdict(self)


def check_parity(checkpoint: Checkpoint, encoder: Encoder, fp32: Path, int8: Path | None, scheme: str) -> Parity:
    """Compare torch, `fp32` and `int8` on real sentences, alone and in batches; return the figures.

    Raises ExportError when fp32 is not what torch computes, when int8 is broken, or when `scheme` is
    int8-token and one bit of a logit depends on the batch.
    """
    texts = built_in_texts(encoder)
    alone = [_padded(checkpoint, encoder, [text]) for text in texts]
    torch_logits = np.concatenate([_torch_logits(checkpoint, feeds) for feeds in alone])
    session = Session(fp32, 1)
    fp32_logits = np.stack([session.run(encoder.encode_one(text)) for text in texts])
    difference = float(np.abs(torch_logits - fp32_logits).max())
    # Batches of mixed lengths exercise padding and the mask, on both sides.
    raw = ort.InferenceSession(str(fp32), providers=["CPUExecutionProvider"])
    for rows, feeds in _batches(checkpoint, encoder, texts):
        for logits in (_onnx_logits(raw, feeds), _torch_logits(checkpoint, feeds)):
            difference = max(difference, float(np.abs(logits - torch_logits[rows]).max()))
    if not difference <= _MAX_FP32_DIFFERENCE:  # also when it is not a number
        raise ExportError(
            f"the fp32 ONNX model is not the checkpoint: logits differ by {difference:.3g}, "
            f"at most {_MAX_FP32_DIFFERENCE:g} allowed"
        )
    if int8 is None:
        return Parity(len(texts), BATCH_SIZES, difference, None, None, None, None)
    session = Session(int8, 1)
    int8_logits = np.stack([session.run(encoder.encode_one(text)) for text in texts])
    scores = _scores(int8_logits, checkpoint)
    change = np.abs(scores - _scores(fp32_logits, checkpoint))
    raw = ort.InferenceSession(str(int8), providers=["CPUExecutionProvider"])
    batched, identical = 0.0, True
    for rows, feeds in _batches(checkpoint, encoder, texts):
        logits = _onnx_logits(raw, feeds)
        identical = identical and np.array_equal(logits, int8_logits[rows])
        moved = np.abs(_scores(logits, checkpoint) - scores[rows])
        batched = max(batched, float(moved.max()))
    parity = Parity(
        n=len(texts),
        batch_sizes=BATCH_SIZES,
        fp32_max_difference=difference,
        int8_max_change=float(change.max()),
        int8_mean_change=float(change.mean()),
        int8_agreement=float((int8_logits.argmax(1) == fp32_logits.argmax(1)).mean()),
        int8_batch_max_change=batched,
    )
    if scheme == INT8_TOKEN and not identical:
        raise ExportError(
            f"int8 answers depend on the batch: scores move by up to {batched:.3g} beside other texts, where "
            f"{INT8_TOKEN} allows not one bit; export with --scheme {INT8_TENSOR}, which is run one text at a time"
        )
    if not change.mean() <= _MAX_INT8_MEAN_CHANGE:
        raise ExportError(
            f"int8 is broken: scores move by {change.mean():.3f} on average, at most {_MAX_INT8_MEAN_CHANGE:g} "
            "allowed; export with --scheme fp32 to serve without it"
        )
    return parity


def _scores(logits: np.ndarray, checkpoint: Checkpoint) -> np.ndarray:
    return np.stack([activate(row, checkpoint.problem_type) for row in logits])


def _batches(
    checkpoint: Checkpoint, encoder: Encoder, texts: list[str]
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Yield every text once in batches of each size: its rows, and the padded inputs."""
    for size in BATCH_SIZES:
        for start in range(0, len(texts), size):
            rows = slice(start, start + size)
            yield rows, _padded(checkpoint, encoder, texts[rows])


def _padded(checkpoint: Checkpoint, encoder: Encoder, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the inputs of a batch, int64 [texts, tokens], padded with the tokenizer's own id."""
    encodings = [encoder.encode_one(text) for text in texts]
    width = max(len(e.input_ids) for e in encodings)
    pad = checkpoint.tokenizer.pad_token_id or 0

    def stack(name: str, fill: int) -> np.ndarray:
        rows = [getattr(e, name) for e in encodings]
        return np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows])

    return {
        "input_ids": stack("input_ids", pad),
        "attention_mask": stack("attention_mask", 0),
        "token_type_ids": stack("token_type_ids", 0),
    }


def _onnx_logits(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (logits,) = session.run(["logits"], {i.name: feeds[i.name] for i in session.get_inputs()})
    return logits


def _torch_logits(checkpoint: Checkpoint, feeds: dict[str, np.ndarray]) -> np.ndarray:
    # A tokenizer may name inputs that the model does not take: DistilBERT is often saved with BERT's.
    taken = set(inspect.signature(checkpoint.model.forward).parameters)
    names = (set(checkpoint.tokenizer.model_input_names) | {"input_ids", "attention_mask"}) & taken
    with torch.no_grad():
        inputs = {name: torch.from_numpy(array) for name, array in feeds.items() if name in names}
        return checkpoint.model(**inputs).logits.numpy()
