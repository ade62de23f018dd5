"""Benchmark of tables: rows per second of `inferer predict TABLE`, and its memory as the table grows.

Rows per second, all on the same cores, in turns, medians: the command with all its work (start, reading, writing), a
call of `predict_batch` with onnxruntime's threads, one text at a time, and the pipeline of transformers in fp32 with
batches of 32. Memory: the largest sum of the resident memory of the command's processes, with a model of a few weights.

The last line is JSON; benchmarks/results/tables.json has the whole.

    python -m benchmarks.bulk.tables --bundle models/query_type --checkpoint checkpoints/query_type --data reviews.csv
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from benchmarks import record
from inferer import ModelInferer
from inferer.cpu import available_cpus
from tests.support import tiny

OURS, LOOP, ALONE, PIPELINE = "command", "predict_batch", "one at a time", "transformers pipeline, fp32"
# Peers in an environment of their own, which has optimum-onnx and ctranslate2. Each prints its rows per second, with
# the model loaded and the texts read before.
PEERS = {
    "Optimum, ORT int8 pipeline": """
import csv, sys, tempfile, time
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import PreTrainedTokenizerFast, pipeline

checkpoint, table, column = sys.argv[1:]
texts = [row[column] for row in csv.DictReader(open(table, encoding="utf-8", newline=""))]
with tempfile.TemporaryDirectory() as folder:
    ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(folder)
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(folder, file_name="model.onnx").quantize(config, folder)
    model = ORTModelForSequenceClassification.from_pretrained(folder, file_name="model_quantized.onnx")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{checkpoint}/tokenizer.json", model_max_length=512, **special)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    classify(texts[:64], batch_size=32, truncation=True)
    begun = time.perf_counter()
    texts = texts[::4]
    classify(texts, batch_size=32, truncation=True)
    print(len(texts) / (time.perf_counter() - begun))
""",
    "CTranslate2 int8": """
import csv, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
import ctranslate2, numpy as np
from ctranslate2.converters import TransformersConverter
from transformers import BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

checkpoint, table, column = sys.argv[1:]
texts = [row[column] for row in csv.DictReader(open(table, encoding="utf-8", newline=""))]
head = BertForSequenceClassification.from_pretrained(checkpoint).classifier
weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
with tempfile.TemporaryDirectory() as folder:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{checkpoint}/tokenizer.json", model_max_length=512, **special)
    BertModel.from_pretrained(checkpoint).save_pretrained(f"{folder}/body")
    tokenizer.save_pretrained(f"{folder}/body")
    TransformersConverter(f"{folder}/body").convert(f"{folder}/ct2", quantization="int8")
    encoder = ctranslate2.Encoder(f"{folder}/ct2", device="cpu", compute_type="int8", inter_threads=2, intra_threads=1)

    def classify(part):
        ids = tokenizer(part, truncation=True)["input_ids"]
        return np.array(encoder.forward_batch(ids).pooler_output) @ weight.T + bias

    classify(texts[:64])
    begun = time.perf_counter()
    texts.sort(key=len)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(classify, [texts[start : start + 32] for start in range(0, len(texts), 32)]))
    print(len(texts) / (time.perf_counter() - begun))
""",
}
ROUNDS = 2
SIZES = (100_000, 1_000_000)
_SLOW = 4  # the slow engines get a part of the rows
_PAGE = 4096


def speed(bundle: Path, checkpoint: Path, table: Path, column: str, peers: str | None) -> dict[str, float]:
    """Return the median rows per second of each engine."""
    with table.open(encoding="utf-8", newline="") as file:
        texts = [row[column] for row in csv.DictReader(file)]
    cpus = available_cpus()
    torch.set_num_threads(cpus)
    together, alone = (ModelInferer(bundle, intra_op_threads=threads) for threads in (cpus, 1))
    theirs: Any = pipeline("text-classification", model=str(checkpoint), device="cpu", trust_remote_code=False)
    part = texts[::_SLOW]
    engines: dict[str, tuple[int, Callable[[], object]]] = {
        OURS: (len(texts), lambda: _command(bundle, table, column)),
        LOOP: (len(texts), lambda: together.predict_batch(texts)),
        ALONE: (len(part), lambda: [alone.predict(text) for text in part]),
        PIPELINE: (len(part), lambda: theirs(part, batch_size=32, truncation=True)),
    }
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS):
        for name in random.Random(number).sample(sorted(engines), len(engines)):
            rows, call = engines[name]
            start = time.perf_counter()
            call()
            rates[name].append(rows / (time.perf_counter() - start))
            print(f"round {number + 1}, {name}: {rates[name][-1]:,.0f} rows per second", flush=True)
        for name, script in PEERS.items() if peers else ():
            done = subprocess.run(
                [peers, "-c", script, checkpoint, table, column], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            rates.setdefault(name, []).append(float(done.stdout.split()[-1]))
            print(f"round {number + 1}, {name}: {rates[name][-1]:,.0f} rows per second", flush=True)
    return {name: statistics.median(found) for name, found in rates.items()}


def _command(bundle: Path, table: Path, column: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command_line(bundle, table, column, Path(folder)), check=True)


def command_line(bundle: Path, table: Path, column: str, folder: Path) -> list[str]:
    """Return the command that scores `table` into `folder`."""
    given = ["--model", bundle, "--text-column", column, "--output", folder / "scored.parquet", "--quiet"]
    return [sys.executable, "-m", "bulk", *map(str, (table, *given))]


def memory(rows: int, folder: Path) -> int:
    """Return the peak of the resident memory of all processes of the command on a table of `rows` rows, in bytes."""
    table = folder / f"{rows}.csv"
    rng = random.Random(0)
    with table.open("w", encoding="utf-8") as file:
        file.write("id,text\n")
        for number in range(rows):
            file.write(f"{number},{' '.join(rng.choices(('good', 'bad', 'film', 'plot'), k=rng.randint(1, 20)))}\n")
    peak = 0
    with subprocess.Popen(command_line(folder / "tiny", table, "text", folder)) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.1)
    (folder / "scored.parquet").unlink()
    return peak


def _resident(pid: int) -> int:
    """Return the resident memory of a process and of those that it started, in bytes; shared pages count in each."""
    total = 0
    with contextlib.suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        total += sum(_resident(int(child)) for child in children)
    return total


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Rows per second and memory of tables.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the same model, for transformers")
    parser.add_argument("--data", type=Path, required=True, help="texts: a CSV file")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--peers", metavar="PYTHON", help="the python of an environment with the peers")
    args = parser.parse_args()
    rates = speed(args.bundle, args.checkpoint, args.data, args.text_column, args.peers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny.write_bundle(folder / "tiny")
        peaks = {str(rows): memory(rows, folder) for rows in SIZES}
    ratios = {name: rates[OURS] / rate for name, rate in rates.items() if name != OURS}
    result = record.new("tables", data=args.data.name, rows_per_second=rates, command_over=ratios, peak_bytes=peaks)
    record.write(result)


if __name__ == "__main__":
    main()
