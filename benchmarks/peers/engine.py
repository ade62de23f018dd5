"""Benchmark of engines: ours beside PyTorch, onnxruntime, Optimum, OpenVINO and CTranslate2, in turns.

It shows the ms per run of a batch by its length in tokens, its number of texts and the number of threads, and the share
of texts that get fp32's label. Every engine, ours too, is a process of its own in its own environment; they take turns
of some runs each over a pipe, in random order, so that noise hits all alike. Medians over all runs.

It would be unfair
- to compare times of different runs of this script, or on a busy machine: a ratio is of one run, else "-";
- to read times without the fidelity beside them: int8 with one scale per tensor or per model is cheaper and coarser;
- to take fidelity from random weights: `demo` has the labels it learned, MiniLM-L6 a random head of 77 labels on a
  learned encoder, which is harder than most classifiers; BERT-base and DistilBERT show time alone;
- to take it for a served text: tokenization, padding and the answer are left out;
- to read OpenVINO's bfloat16 as fast everywhere: it needs a CPU with AMX or AVX-512 BF16;
- to read a batch as one of serving: its texts have one length, so that nobody pays for padding.

The last line is JSON; benchmarks/results/peers-engine.json has the whole. A run replaces the cells that it measures and
keeps the others, `--add` adds its rounds to them. An engine that cannot be installed or converted is one line.

    python -m benchmarks.peers.engine --engines ours "ort int8" --lengths 16 64 --batches 1 --threads 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.peers import models
from benchmarks.peers.environments import FOLDER, MissingError, last_line, python_of
from benchmarks.peers.results import Results
from tests.support.server import ROOT, environment

BENCHMARK = "peers-engine"
KEY = ("model", "engine", "threads", "batch", "tokens")
OURS, REFERENCE = "ours", "pytorch fp32"
# The environment of each engine, and what it must be converted to.
ENGINES: dict[str, tuple[str, str | None]] = {
    OURS: ("ours", None),
    REFERENCE: ("pipeline", None),
    "pytorch bf16": ("pipeline", None),
    "pytorch int8": ("pipeline", None),
    "ort fp32": ("flask", None),
    "ort int8": ("flask", None),
    "optimum int8": ("flask", "optimum"),
    "openvino bf16": ("openvino", None),
    "openvino int8": ("openvino", "openvino"),
    "ctranslate2 int8": ("ctranslate2", "ctranslate2"),
}
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (1, 4, 16)
THREADS = (1, 2)
FIDELITY_MODELS = (models.DEMO, models.MINILM)
FIDELITY_TEXTS = 1000
_FIRST_ID, _LAST_ID = 1000, 20000  # ordinary words in the vocabulary
_LEAST_ROUNDS = 3
_REST_S = 0.02  # between two engines: threads that spin after a run stop


@dataclass
class Child:
    """A running engine."""

    name: str
    version: str
    orders: IO[str]
    answers: IO[str]
    log: Path

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an order."""
        try:
            self.orders.write(json.dumps(order) + "\n")
            self.orders.flush()
            return json.loads(self.answers.readline())
        except (OSError, json.JSONDecodeError):
            raise MissingError(f"{self.name} ended: {last_line(self.log.read_text(errors='replace'))}") from None


@contextlib.contextmanager
def engine(name: str, folder: Path, threads: int) -> Iterator[Child]:
    """Run an engine on the model in `folder` until the block ends; raise MissingError where it does not load."""
    env_name, kind = ENGINES[name]
    if kind:
        models.convert(folder, kind)
    log = FOLDER / "logs" / f"{models.simple(f'{folder.name}-{name}-{threads}')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_name("inside") / "timed.py"
    command = [python_of(env_name), str(script), name, str(folder), str(threads)]
    own = {"PYTHONPATH": str(ROOT)} if name == OURS else {}
    env = environment(OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1", **own)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
        )
    try:
        first = process.stdout.readline() if process.stdout else ""
        if not first or not process.stdin or not process.stdout:
            raise MissingError(f"{name} does not load {folder.name}: {last_line(log.read_text(errors='replace'))}")
        yield Child(name, json.loads(first)["version"], process.stdin, process.stdout, log)
    finally:
        process.kill()
        process.communicate()


class Bench:
    """The engines of one model."""

    def __init__(self, model: str, args: argparse.Namespace, results: Results) -> None:
        self.model, self.args, self.results = model, args, results
        self.folder = models.prepare(model, args.checkpoint, fresh=args.fresh)

    def start(self, names: list[str], threads: int, stack: contextlib.ExitStack) -> dict[str, Child]:
        """Start the engines; say what is missing if one does not start."""
        children = {}
        for name in names:
            try:
                children[name] = stack.enter_context(engine(name, self.folder, threads))
            except MissingError as missing:
                self.results.missing(f"{self.model}: {name}", str(missing))
            else:
                self.results.found(f"{self.model}: {name}")
                self.results.data["versions"][name] = children[name].version
        return children

    def latency(self, threads: int) -> None:
        """Time the engines in turns; a cell with slow runs gets fewer rounds, three at least."""
        rng, shuffler = np.random.default_rng(0), random.Random(0)
        with contextlib.ExitStack() as stack:
            children = self.start(self.args.engines, threads, stack)
            for batch in self.args.batches:
                for tokens in self.args.lengths:
                    ids = rng.integers(_FIRST_ID, _LAST_ID, (batch, tokens)).tolist()
                    for child in list(children.values()):
                        try:
                            child.ask({"ids": ids, "seconds": self.args.slice / 2})  # warm
                        except MissingError as missing:
                            self.results.missing(f"{self.model}: {child.name}", str(missing))
                            del children[child.name]
                    end = time.monotonic() + self.args.seconds
                    for number in range(self.args.rounds):
                        if number >= _LEAST_ROUNDS and time.monotonic() > end:
                            break
                        order = list(children.values())
                        shuffler.shuffle(order)
                        for child in order:
                            time.sleep(_REST_S)
                            times = child.ask({"ids": ids, "seconds": self.args.slice})["ms"]
                            key = {"model": self.model, "engine": child.name, "threads": threads}
                            figures = {"ms": statistics.median(times), "runs": len(times)}
                            self.results.measured({**key, "batch": batch, "tokens": tokens}, figures)
                self.results.save()
                print(f"{self.model}, {threads} threads, batches of {batch}: done", flush=True)

    def fidelity(self) -> None:
        """Compare each engine's labels and scores with those of fp32."""
        if self.model == models.DEMO:
            texts, of = models.held_out(self.args.checkpoint), "held-out rows"
        else:
            texts, of = models.texts_of(self.args.checkpoint, "short", FIDELITY_TEXTS), "held-out rows put together"
        tokenizer = Tokenizer.from_file(str(self.folder / "checkpoint" / "tokenizer.json"))
        tokenizer.no_padding()
        ids = [found.ids for found in tokenizer.encode_batch(texts)]
        names = [REFERENCE, *(name for name in self.args.engines if name != REFERENCE)]
        found: dict[str, np.ndarray] = {}
        with contextlib.ExitStack() as stack:
            for name, child in self.start(names, 1, stack).items():
                try:
                    found[name] = np.array(child.ask({"texts": ids})["logits"])
                except MissingError as missing:
                    self.results.missing(f"{self.model}: {name}", str(missing))
        if REFERENCE not in found:
            return
        known = self.results.data["facts"].setdefault(self.model, {"texts": len(texts), "of": of, "engines": {}})
        for name, logits in found.items():
            known["engines"][name] = compare(logits, found[REFERENCE])
        self.results.save()


def compare(logits: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return the share of texts with the reference's label, and the mean and largest change of a score."""
    change = np.abs(_scores(logits) - _scores(reference))
    return {
        "same_label": float((logits.argmax(1) == reference.argmax(1)).mean()),
        "mean_change": float(change.mean()),
        "largest_change": float(change.max()),
    }


def _scores(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return our time over each engine's in one run, the geometric mean over lengths, by model, threads and texts."""
    shape = ("model", "threads", "batch", "tokens", "run")
    ours = {tuple(row[name] for name in shape): row["ms"] for row in rows if row["engine"] == OURS}
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        mine = ours.get(tuple(row[name] for name in shape))
        if mine is not None and row["engine"] != OURS:
            title = f"{row['model']}, threads: {row['threads']}, texts: {row['batch']}"
            found.setdefault(title, {}).setdefault(row["engine"], []).append(mine / row["ms"])
    return {
        title: {name: round(statistics.geometric_mean(values), 3) for name, values in by.items()}
        for title, by in found.items()
    }


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Return ms by length for each model, threads and batch, with ours over each engine of the same run."""
    lines = []
    for model, threads, batch in dict.fromkeys((row["model"], row["threads"], row["batch"]) for row in rows):
        group = [row for row in rows if (row["model"], row["threads"], row["batch"]) == (model, threads, batch)]
        lengths = sorted({row["tokens"] for row in group})
        by = {(row["engine"], row["tokens"]): row for row in group}
        lines += [
            "",
            f"{model}, threads: {threads}, texts: {batch}; ms per run, and ours over theirs; same label as fp32",
        ]
        lines.append(f"{'tokens':18}" + "".join(f"{length:>14}" for length in lengths))
        for name in ENGINES:
            cells = [by.get((name, length)) for length in lengths]
            if not any(cells):
                continue
            line = f"{name:18}" + "".join(
                _cell(cell, by.get((OURS, n))) for cell, n in zip(cells, lengths, strict=True)
            )
            same = [
                f"{of} {100 * facts[of]['engines'][name]['same_label']:.1f} %"
                for of in FIDELITY_MODELS
                if name in facts.get(of, {}).get("engines", {})
            ]
            lines.append(f"{line}   {', '.join(same)}")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, ours: dict[str, Any] | None) -> str:
    if row is None:
        return f"{'':14}"
    ratio = f"{ours['ms'] / row['ms']:.2f}" if ours and ours["run"] == row["run"] else "-"
    return f"{row['ms']:8.2f} {ratio:>5}"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Engines, ours and others, in turns.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "query_type", help="the demo's")
    parser.add_argument("--models", nargs="+", default=list(models.MODELS), choices=models.MODELS)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS), help="in tokens")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60, help="no new round of a cell after this time")
    parser.add_argument("--slice", type=float, default=0.2, help="seconds of an engine's turn; one run at least")
    parser.add_argument("--only", choices=["latency", "fidelity"], help="measure one of the two")
    parser.add_argument("--add", action="store_true", help="add rounds to the cells of earlier runs")
    parser.add_argument("--fresh", action="store_true", help="export our bundles anew")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the engines end with it
    results = Results(BENCHMARK, KEY, add=args.add)
    for model in args.models:
        bench = Bench(model, args, results)
        if model in FIDELITY_MODELS and args.only != "latency":
            bench.fidelity()
        if model != models.DEMO and args.only != "fidelity":
            for threads in args.threads:
                bench.latency(threads)
    results.end(table, ratios)


if __name__ == "__main__":
    main()
