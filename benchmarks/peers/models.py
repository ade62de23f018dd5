"""The models of the comparison with peers, each in a folder of its own with one file per engine.

MiniLM-L6 is the demo's encoder with a random head; BERT-base and DistilBERT have random weights of the real sizes.
`demo` is the demo as it was trained, for fidelity. A folder build/peers/models/NAME holds the checkpoint, the fp32 ONNX
file of this project's export (all but Optimum and CTranslate2 read it), onnxruntime's default int8, our bundle, and
files in the formats of peers, each converted in the peer's environment.
"""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from onnxruntime.quantization import quantize_dynamic
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification, DistilBertConfig, PreTrainedModel
from transformers import DistilBertForSequenceClassification as DistilBert

from benchmarks.bert_base import bert_base_checkpoint, copy_tokenizer, vocabulary
from benchmarks.peers.environments import FOLDER, MissingError, last_line, python_of
from export.__main__ import main as export
from export.engine.onnx_model import to_onnx
from inferer.bundle.reader import read_bundle
from inferer.errors import BundleError
from tests.support.server import ROOT, environment

MINILM, BERT_BASE, DISTILBERT, DEMO = "MiniLM-L6", "BERT-base", "DistilBERT", "demo"
MODELS = (MINILM, DISTILBERT, BERT_BASE, DEMO)
LABELS = 77
MAX_LENGTH = 512
# Tokens of a text, special tokens included: the least and the most.
TEXTS = {"short": (9, 20), "mixed": (9, 62), "long": (58, 64)}
_CALIBRATION_TEXTS = 300
_CONVERSION_TIMEOUT_S = 900
# Makes calibration texts from the demo's own words: the lists that its training data come from.
_LISTS = ROOT / "recipes" / "query_type"


def minilm_checkpoint(demo: Path, folder: Path) -> Path:
    """Write the demo's encoder with a random head of 77 labels to `folder`, and return it."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(demo, trust_remote_code=False)
    config.id2label = {i: f"intent_number_{i}" for i in range(LABELS)}
    config.label2id = {label: i for i, label in config.id2label.items()}
    model = AutoModelForSequenceClassification.from_pretrained(
        demo, config=config, ignore_mismatched_sizes=True, trust_remote_code=False
    )
    model.classifier.weight.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    copy_tokenizer(demo, folder)
    return folder


def distilbert_checkpoint(demo: Path, folder: Path) -> Path:
    """Write a DistilBERT with random weights to `folder`, and return it."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=max(vocabulary(demo), 30522), num_labels=5)
    config.problem_type = "single_label_classification"
    DistilBert(config).save_pretrained(folder)
    copy_tokenizer(demo, folder)
    return folder


def demo_checkpoint(demo: Path, folder: Path) -> Path:
    """Copy the demo's checkpoint to `folder`, and return it."""
    shutil.copytree(demo, folder)
    return folder


_MAKE: dict[str, Callable[[Path, Path], Path]] = {
    MINILM: minilm_checkpoint,
    BERT_BASE: bert_base_checkpoint,
    DISTILBERT: distilbert_checkpoint,
    DEMO: demo_checkpoint,
}


def prepare(name: str, demo: Path, *, fresh: bool = False) -> Path:
    """Return the folder of a model; make what it lacks.

    fresh: export our bundle anew, as after a change of the export; this happens by itself when the format is another.
    """
    folder = FOLDER / "models" / name
    checkpoint, fp32 = folder / "checkpoint", folder / "fp32.onnx"
    if not (folder / "ort_int8.onnx").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _MAKE[name](demo, checkpoint)
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, trust_remote_code=False
        ).eval()
        to_onnx(model, fp32)
        (folder / "calibration.txt").write_text("\n".join(calibration_texts(demo)), encoding="utf-8")
        logging.disable(logging.WARNING)  # its advice to pre-process
        quantize_dynamic(fp32, folder / "ort_int8.part")
        logging.disable(logging.NOTSET)
        (folder / "ort_int8.part").rename(folder / "ort_int8.onnx")
    if not fresh:
        with contextlib.suppress(BundleError):
            read_bundle(folder / "bundle")
            return folder
    if export([str(checkpoint), str(folder / "bundle"), "--overwrite", "--max-length", str(MAX_LENGTH)]):
        raise SystemExit(f"{name} could not be exported")
    return folder


def convert(folder: Path, kind: str) -> Path:
    """Return the model in a peer's own format; raise MissingError where its environment or tools cannot make it."""
    target = folder / kind
    if target.is_dir():
        return target
    script = Path(__file__).with_name("inside") / "convert.py"
    command = [python_of(kind), script, kind, folder]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CONVERSION_TIMEOUT_S, check=False, env=environment()
        )
    except subprocess.TimeoutExpired:
        raise MissingError(f"{kind}: the conversion took more than {_CONVERSION_TIMEOUT_S} s") from None
    if done.returncode:
        raise MissingError(f"{kind} does not convert {folder.name}: {last_line(done.stderr)}")
    return target


def held_out(demo: Path) -> list[str]:
    """Return the texts of the demo's held-out rows."""
    with (demo / "held_out.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def calibration_texts(demo: Path) -> list[str]:
    """Return texts of 1 to 12 of the words that the demo learned from, without those of its held-out rows."""
    known = {line.strip() for file in sorted(_LISTS.glob("*.txt")) for line in file.open(encoding="utf-8")}
    words, rng = sorted(known - set(held_out(demo)) - {""}), random.Random(0)
    return [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(_CALIBRATION_TEXTS)]


def texts_of(demo: Path, kind: str, number: int) -> list[str]:
    """Return texts of a kind of `TEXTS`: held-out rows put together until they have the tokens, always the same."""
    tokenizer = Tokenizer.from_file(str(demo / "tokenizer.json"))
    tokenizer.no_truncation()
    rows, rng = held_out(demo), random.Random(0)
    least, most = TEXTS[kind]
    texts: list[str] = []
    while len(texts) < number:
        wanted, text = rng.randint(least, most), ""
        while len(tokenizer.encode(text).ids) < wanted:
            text = f"{text} {rng.choice(rows)}".strip()
        if least <= len(tokenizer.encode(text).ids) <= most:
            texts.append(text)
    return texts


def simple(name: str) -> str:
    """Return `name` as the name of a file."""
    return "".join(one if one.isalnum() else "_" for one in name)


def main() -> None:
    """Prepare the models that are named, by default all of them, in every format."""
    demo = ROOT / "checkpoints" / "query_type"
    for name in sys.argv[1:] or MODELS:
        folder = prepare(name, demo)
        for kind in ("openvino", "optimum", "ctranslate2"):
            try:
                convert(folder, kind)
            except MissingError as missing:
                print(missing)
        print(json.dumps({file.name: file.stat().st_size for file in sorted(folder.iterdir())}))


if __name__ == "__main__":
    main()
