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
    torch.manual_seed(0)
    tokenizer = json.loads((tokenizer_of / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = max(tokenizer["model"]["vocab"].values()) + 1
    config = BertConfig(vocab_size=max(vocab, 30522), num_labels=5)
    config.id2label = dict(enumerate(("one", "two", "three", "four", "five")))
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.problem_type = "single_label_classification"
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "bert_base"
        BertForSequenceClassification(config).save_pretrained(checkpoint)
        for name in _TOKENIZER_FILES:
            if (tokenizer_of / name).is_file():
                shutil.copy(tokenizer_of / name, checkpoint)
        limit = [] if max_length is None else ["--max-length", str(max_length)]
        if export([str(checkpoint), str(folder), "--overwrite", *limit]):
            raise SystemExit("BERT-base could not be exported")
    return folder
