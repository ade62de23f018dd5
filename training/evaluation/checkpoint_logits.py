"""A checkpoint's logits for texts, by torch and transformers. Knows nothing of labels, truth or figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in training

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from training.errors import TrainingError
from training.evaluation.model_folder import CONFIG
from training.model.base_model import max_positions_of
from training.model.heads import UNREADABLE, load_classifier
from training.model.tokenize import encode
from training.recipe.recipe import HEAD, HEAD_TAIL, TAIL

BATCH_SIZE = 32
_NO_LIMIT = 1_000_000  # tokenizers without a limit of their own say 10**30


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint ready to run: the model in eval mode on its device, its tokenizer, and how much it reads.

    max_length: tokens of a text, special ones included. truncation: what becomes of a longer one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    truncation: str


def checkpoint_logits(folder: Path, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Return the logits of the checkpoint in `folder` for `texts`, float32 [texts, labels]; shows a bar on stderr.

    Raises TrainingError for a checkpoint that cannot be loaded, and for logits that are not finite.
    """
    return compute_logits(load_model(folder), texts, batch_size)


def load_model(folder: Path) -> LoadedModel:
    """Return the checkpoint in `folder`, on the GPU where there is one.

    Nothing is fetched, and nothing unpickled but tensors. Raises TrainingError, also where a weight is missing:
    transformers would make it up.
    """
    try:
        loaded = load_classifier(folder)
    except UNREADABLE as error:
        raise _unreadable(folder, error) from error
    lost = [*loaded.missing, *loaded.misshapen]
    if lost:
        raise TrainingError(
            f"checkpoint {folder}: {len(lost)} weights are missing or misshapen, the first is {lost[0]}"
        )
    if loaded.unexpected:
        raise TrainingError(
            f"checkpoint {folder}: {len(loaded.unexpected)} weights are left over, the first is {loaded.unexpected[0]}"
        )
    model, config = loaded.model, loaded.model.config
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises Exception itself for a file that it cannot read
        raise _unreadable(folder, error) from error
    max_length = min(max_positions_of(model), int(min(tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)))
    truncation = getattr(config, "inferer_truncation", HEAD)
    if truncation not in (HEAD, TAIL, HEAD_TAIL):
        raise TrainingError(
            f"checkpoint {folder}: inferer_truncation is {truncation!r} in {CONFIG}, "
            f"expected {HEAD}, {TAIL} or {HEAD_TAIL}"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedModel(model.eval().to(device), tokenizer, max_length, truncation)


def compute_logits(loaded: LoadedModel, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Return the logits for `texts`, float32 [texts, labels], in batches of texts alike in length; shows a bar.

    Raises TrainingError for logits that are not finite, naming the row from 1.
    """
    rows = encode(loaded.tokenizer, texts, loaded.max_length, loaded.truncation)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))  # the longest first: memory fails early
    padded = DataCollatorWithPadding(loaded.tokenizer)  # to the longest of the batch
    found = np.zeros((len(rows), loaded.model.config.num_labels), dtype=np.float32)
    with tqdm(total=len(rows), desc="evaluating", unit="text", file=sys.stderr) as bar, torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = padded([rows[i] for i in batch])
            found[batch] = loaded.model(**inputs.to(loaded.model.device)).logits.float().cpu().numpy()
            bar.update(len(batch))
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise TrainingError(f"row {bad[0] + 1}: the model's logits are not finite: {found[bad[0]].tolist()}")
    return found


def _unreadable(folder: Path, error: Exception) -> TrainingError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TrainingError(f"checkpoint {folder}: cannot be loaded: {reason}")
