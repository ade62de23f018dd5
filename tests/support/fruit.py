"""Small training runs: a random BERT of one layer, and 160 made-up texts that name a colour and some fruits."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from training.data.dataset import Dataset
from training.splits.splits import Splits

COLOURS, FRUITS = ("red", "green", "blue"), ("apple", "pear")
FILLERS = tuple(f"word{i}" for i in range(45))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FLAGS = ("--epochs", "6", "--batch-size", "8", "--learning-rate", "0.003", "--test-share", "0.3", "--max-length", "24")


def write_base(folder: Path) -> Path:
    """Write a random BERT of one layer; its tokenizer.json pads and truncates to 7, as some published do."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = (*SPECIAL, *COLOURS, *FRUITS, *FILLERS)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.backend_tokenizer.enable_padding(length=7)
    fast.backend_tokenizer.enable_truncation(7)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,  # so that it learns in a few steps
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def rows(count: int) -> list[tuple[str, str | None, list[str]]]:
    """Return (text, its colour, its fruits); the lengths differ widely, and red is as common as the others together."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(count):
        colour = str(rng.choice(COLOURS, p=(0.5, 0.3, 0.2)))
        fruits = [fruit for fruit, share in zip(FRUITS, (0.5, 0.3), strict=True) if rng.random() < share]
        words = [colour, *fruits, *rng.choice(FILLERS, rng.integers(1, 18))]
        rng.shuffle(words)
        made.append((" ".join(map(str, words)), colour, fruits))
    return made


def write_table(path: Path) -> Path:
    """Write a CSV of 160 texts with the same labels in three forms."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "colour", "fruits", *FRUITS])
        for i, (text, colour, fruits) in enumerate(rows(160)):
            writer.writerow([i, text, colour, "|".join(fruits), *(int(fruit in fruits) for fruit in FRUITS)])
    return path


def command(table: Path, base: Path | str, folder: Path, *flags: str) -> list[str]:
    """Return the arguments of a run."""
    given = ["--data", str(table), "--text-column", "text", "--base-model", str(base), "--output", str(folder)]
    return [*given, *FLAGS, *flags]


def parts_of(data: Dataset) -> Splits:
    """Return `data` as a run's parts: the first rows to train on, the last two held out."""
    counts = {"train": data.counts(), "held_out": data.counts()}
    held_out = data.subset(range(len(data) - 2, len(data)))
    facts = {"file": "made", "rows": len(data), "classes": counts}
    return Splits(data.subset(range(len(data) - 2)), held_out, None, None, "made", (), (), facts)
