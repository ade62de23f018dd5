"""A checkpoint's logits for texts, by torch and transformers. Knows nothing of labels, truth or figures."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in training

import numpy as np
import torch
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from training.base_model import max_positions_of
from training.encode import encode
from training.errors import TrainingError
from training.heads import classifier_class
from training.model_folder import CONFIG
from training.recipe import HEAD, HEAD_TAIL, TAIL

BATCH_SIZE = 32
# Buffers that old versions of transformers saved with the weights; they are made anew from the config.
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
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
    return logits_of(load_model(folder), texts, batch_size)


def load_model(folder: Path) -> LoadedModel:
    """Return the checkpoint in `folder`, on the GPU where there is one.

    Nothing is fetched, and nothing unpickled but tensors. Raises TrainingError, also where a weight is missing:
    transformers would make it up.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its advice on weights that do not fit; they are refused below
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loaded = classifier_class(config).from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named
            local_files_only=True,
            weights_only=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise _unreadable(folder, error) from error
    finally:
        logging.set_verbosity(verbosity)
    lost = [*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])]
    if lost:
        raise TrainingError(
            f"checkpoint {folder}: {len(lost)} weights are missing or misshapen, the first is {lost[0]}"
        )
    left = [name for name in loaded["unexpected_keys"] if not name.endswith(_BUFFERS)]
    if left:
        raise TrainingError(f"checkpoint {folder}: {len(left)} weights are left over, the first is {left[0]}")
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


def logits_of(loaded: LoadedModel, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> np.ndarray:
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
