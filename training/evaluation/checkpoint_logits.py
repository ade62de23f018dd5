"""Logits of a checkpoint for texts, by torch and transformers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in training

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import DataCollatorWithPadding, PreTrainedModel

from inferer.bundle.reader import CONFIG, HEAD, HEAD_TAIL, LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND, TAIL
from inferer.errors import first_line
from training.errors import TrainingError
from training.model.load import keep_inputs, load_classifier, token_limit
from training.model.tokenize import EncodedTexts, TextEncoder
from training.model.tokenizer_file import read_tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint ready to run: the model in eval mode on its device, and the encoder of its texts."""

    model: PreTrainedModel
    encoder: TextEncoder


def load_model(folder: Path, *, pair: bool = False) -> LoadedModel:
    """Return the checkpoint in `folder`, on the GPU if there is one. Raises TrainingError if it cannot be loaded.

    pair: whether it reads pairs.
    """
    model = load_classifier(folder)
    try:
        tokenizer = read_tokenizer(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises Exception itself for a damaged file
        raise TrainingError(f"checkpoint {folder}: cannot be loaded: {first_line(error)}") from error
    keep_inputs(tokenizer, model)
    truncation = getattr(model.config, "inferer_truncation", LONGEST_FIRST if pair else HEAD)
    allowed = (LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND, TAIL, HEAD_TAIL) if pair else (HEAD, TAIL, HEAD_TAIL)
    if truncation not in allowed:
        fault = f"inferer_truncation is {truncation!r} in {CONFIG}, expected {', '.join(allowed[:-1])} or {allowed[-1]}"
        raise TrainingError(f"checkpoint {folder}: {fault}")
    torch.nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu").eval()
    return LoadedModel(model, TextEncoder(tokenizer, token_limit(model, tokenizer), truncation, pair))


def compute_logits(
    loaded: LoadedModel, texts: EncodedTexts, batch_size: int = 32, title: str = "evaluating"
) -> NDArray[np.float32]:
    """Return the logits for `texts`, float32 [texts, labels], in batches of texts alike in length.

    title: of the progress bar; an empty one draws none.

    Raises TrainingError for logits that are not finite, naming the row from 1.
    """
    model: Any = loaded.model
    rows = texts.rows
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))  # the longest first: memory fails early
    pad: Any = DataCollatorWithPadding(loaded.encoder.tokenizer)  # to the longest of the batch
    logits = np.zeros((len(rows), model.config.num_labels), dtype=np.float32)
    with (
        tqdm(total=len(rows), desc=title, unit="text", file=sys.stderr, disable=not title) as bar,
        torch.inference_mode(),
    ):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = pad([rows[i] for i in batch]).to(model.device)
            found = model(**inputs).logits.float().cpu().numpy()
            if found.shape[1] != logits.shape[1]:  # embeddings, of a model that has its head taken off
                logits = np.zeros((len(rows), found.shape[1]), dtype=np.float32)
            logits[batch] = found
            bar.update(len(batch))
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise TrainingError(f"row {bad[0] + 1}: the model's logits are not finite: {logits[bad[0]].tolist()}")
    return logits
