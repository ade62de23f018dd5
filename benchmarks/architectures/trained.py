"""Benchmark of int8 on models of 6 layers that are trained here from random weights, with and without outlier channels.

For each architecture: a base model with random weights and a tokenizer trained on the texts, fine-tuned by
`python -m training`, exported by `python -m export` with the held-out rows. With outliers, a few channels of every
normalization of that checkpoint grow `GAIN` times, the weights after it shrink as much, and the model is trained on, as
published DeBERTa and ModernBERT weights have such channels.

    python -m benchmarks.architectures.trained --data reviews.csv --text-column text --label-column label

The last line is JSON; benchmarks/results/trained.json has the whole.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from benchmarks import record

WIDTH, LAYERS, HEADS = 192, 6, 6
VOCABULARY = 8000
OUTLIERS, GAIN = 4, 20.0
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": 128,
        "relative_attention": True,
        "position_buckets": 64,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": 8192,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "classifier_pooling": "mean",
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
}


def write_base(folder: Path, architecture: str, texts: list[str]) -> None:
    """Write a base model of `architecture` with random weights, and a tokenizer for `texts`, into `folder`."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    names = {f"{name.strip('[]').lower()}_token": name for name in _SPECIAL}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], model_max_length=128, **names
    )
    torch.manual_seed(0)
    settings = {**_COMMON, **ARCHITECTURES[architecture], "vocab_size": len(fast)}
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **settings))
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def write_outliers(checkpoint: Path, folder: Path) -> None:
    """Write the model of `checkpoint` with a few channels of each normalization at GAIN times their size into `folder`.

    The weights that read them shrink as much. What stays changed is a residual sum with a scaled summand.
    """
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=False).eval()
    norms: dict[int, nn.LayerNorm] = {}  # by the address of its output
    readers: dict[nn.Linear, int] = {}  # the address of its first input
    kept = []  # an address stays taken as long as its tensor lives

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        kept.append(output)
        if isinstance(module, nn.LayerNorm) and module.weight.shape[0] == WIDTH:
            norms[output.data_ptr()] = module
        elif isinstance(module, nn.Linear):
            readers.setdefault(module, inputs[0].data_ptr())

    hooks = [module.register_forward_hook(note) for module in model.modules() if not list(module.children())]
    torch.manual_seed(0)
    channels = torch.randperm(WIDTH)[:OUTLIERS]
    with torch.no_grad():
        model(input_ids=torch.tensor([[2, 5, 3]]), attention_mask=torch.ones(1, 3, dtype=torch.int64))
        for hook in hooks:
            hook.remove()
        for norm in norms.values():
            norm.weight[channels] *= GAIN
            if norm.bias is not None:
                norm.bias[channels] *= GAIN
        for linear, address in readers.items():
            if address in norms:
                linear.weight[:, channels] /= GAIN
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, folder)


def measure(folder: Path, architecture: str, arguments: argparse.Namespace, *, outliers: bool) -> dict[str, Any]:
    """Train and export one model under `folder`; return the guard's figures for its held-out rows."""
    name = f"{architecture}{'-outliers' if outliers else ''}"
    base, checkpoint, bundle = (folder / f"{name}-{kind}" for kind in ("base", "checkpoint", "bundle"))
    epochs, rate = arguments.epochs, arguments.learning_rate
    if outliers:
        write_outliers(folder / f"{architecture}-checkpoint", base)
        epochs, rate = 1, rate / 5
    else:
        with Path(arguments.data).open(encoding="utf-8", newline="") as file:
            write_base(base, architecture, [row[arguments.text_column] for row in csv.DictReader(file)])
    columns = ["--text-column", arguments.text_column, "--label-column", arguments.label_column]
    options = ["--base-model", base, "--max-length", 128, "--epochs", epochs, "--batch-size", 32]
    options += ["--learning-rate", rate, "--precision", "fp32"]
    _run("training", "--data", arguments.data, "--output", checkpoint, *columns, *options)
    _run("export", checkpoint, bundle, "--eval", checkpoint / "held_out.csv", *columns, "--overwrite")
    guard = json.loads((bundle / "inferer.json").read_text(encoding="utf-8"))["guard"]
    trained = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    figures = {key: guard["figures"][key] for key in ("agreement", "accuracy_fp32", "accuracy_int8", "largest_change")}
    return {"model": name, "majority_accuracy": trained["held_out"]["majority_accuracy"], **figures}


def _run(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="labelled texts: a CSV file")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--architectures", nargs="+", choices=sorted(ARCHITECTURES), default=sorted(ARCHITECTURES))
    parser.add_argument("--folder", type=Path, required=True, help="for base models, checkpoints and bundles")
    arguments = parser.parse_args()
    rows = [
        measure(arguments.folder, architecture, arguments, outliers=outliers)
        for architecture in arguments.architectures
        for outliers in (False, True)
    ]
    result = record.new("trained", data=Path(arguments.data).name, layers=LAYERS, width=WIDTH, gain=GAIN)
    record.write({**result, "models": rows})


if __name__ == "__main__":
    main()
