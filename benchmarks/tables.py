"""Benchmark of tables: rows per second of `inferer predict TABLE`, and its memory as the table grows.

Rows per second, all on the same cores, in turns, medians: the command with all its work (start, reading, writing), a
call of `predict_batch` with onnxruntime's threads, one text at a time, and the pipeline of transformers in fp32 with
batches of 32. Memory: the largest sum of the resident memory of the command's processes, with a model of a few weights.

The last line is JSON; benchmarks/results/tables.json has the whole.

    python -m benchmarks.tables --bundle models/query_type --checkpoint checkpoints/query_type --data reviews.csv
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
ROUNDS = 3
SIZES = (100_000, 1_000_000)
_SLOW = 4  # the slow engines get a part of the rows
_PAGE = 4096


def speed(bundle: Path, checkpoint: Path, table: Path, column: str) -> dict[str, float]:
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
    return {name: statistics.median(found) for name, found in rates.items()}


def _command(bundle: Path, table: Path, column: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(_line(bundle, table, column, Path(folder)), check=True)


def _line(bundle: Path, table: Path, column: str, folder: Path) -> list[str]:
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
    with subprocess.Popen(_line(folder / "tiny", table, "text", folder)) as process:
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
    args = parser.parse_args()
    rates = speed(args.bundle, args.checkpoint, args.data, args.text_column)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny.write_bundle(folder / "tiny")
        peaks = {str(rows): memory(rows, folder) for rows in SIZES}
    ratios = {name: rates[OURS] / rate for name, rate in rates.items() if name != OURS}
    result = record.new("tables", data=args.data.name, rows_per_second=rates, command_over=ratios, peak_bytes=peaks)
    record.write(result)


if __name__ == "__main__":
    main()
