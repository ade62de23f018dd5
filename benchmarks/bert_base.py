"""A BERT-base with random weights, exported to a bundle, for measurements that need its size alone."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from export.__main__ import main as export
from inferer.bundle.reader import read_bundle
from inferer.errors import BundleError
from tests.support.server import ROOT

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def bert_base_bundle(
    tokenizer_of: Path, folder: Path = ROOT / "build" / "bert_base", max_length: int | None = None
) -> Path:
    """Return the bundle; make it unless `folder` holds one of the current format.

    tokenizer_of: the checkpoint that lends its tokenizer. max_length: tokens per text, by default the model's own.
    """
    with contextlib.suppress(BundleError):
        return read_bundle(folder).path
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = bert_base_checkpoint(tokenizer_of, Path(scratch) / "bert_base")
        limit = [] if max_length is None else ["--max-length", str(max_length)]
        if export([str(checkpoint), str(folder), "--overwrite", *limit]):
            raise SystemExit("BERT-base could not be exported")
    return folder


def bert_base_checkpoint(tokenizer_of: Path, folder: Path) -> Path:
    """Write the checkpoint to `folder`, with the tokenizer of `tokenizer_of`, and return it."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=max(vocabulary(tokenizer_of), 30522), num_labels=5)
    config.id2label = dict(enumerate(("one", "two", "three", "four", "five")))
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.problem_type = "single_label_classification"
    BertForSequenceClassification(config).save_pretrained(folder)
    copy_tokenizer(tokenizer_of, folder)
    return folder


def vocabulary(checkpoint: Path) -> int:
    """Return the number of tokens that the tokenizer of `checkpoint` knows."""
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    return int(max(tokenizer["model"]["vocab"].values()) + 1)


def copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the tokenizer of `checkpoint` to `folder`."""
    for name in _TOKENIZER_FILES:
        if (checkpoint / name).is_file():
            shutil.copy(checkpoint / name, folder)
