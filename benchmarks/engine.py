"""Benchmark of the int8 engine against onnxruntime's own: latency, fidelity to fp32, and batch invariance.

Ours has the native operators where they are built (`native` in the results). Three tables, each of one process,
interleaved in random order, medians:

- latency, one thread: int8-token, onnxruntime's `quantize_dynamic` with default options, fp32 ONNX, PyTorch, at several
  lengths, for MiniLM-L6 (the demo's checkpoint) and for BERT-base with random weights;
- fidelity of int8-token on held-out rows of checkpoints trained by this project: labels, accuracy, scores;
- the number of texts with different bits in batches of 2, 3, 16 and 64 with random neighbours, and with two threads.

The last line is JSON; benchmarks/results/engine.json has the whole.

    python -m benchmarks.engine --checkpoint checkpoints/query_type --data NAME=CHECKPOINT:FILE.csv …
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.quantization import quantize_dynamic
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification, PreTrainedModel

from benchmarks import record
from export.engine.onnx_model import to_onnx, token_linears
from export.engine.quantize import Quantizer
from inferer.bundle.reader import INT8_TOKEN, TOKENIZER
from inferer.native import library
from inferer.tokens.encoding import Encoder

LENGTHS = (8, 16, 32, 64, 128, 256)  # tokens
BATCHES = (2, 3, 16, 64)
WARM_UP_ROUNDS = 5
OURS, THEIRS = "int8_token", "ort_default"


def open_session(model: Path, threads: int = 1) -> ort.InferenceSession:
    """Return the model at `model` on `threads` threads, with the native operators where they are built."""
    options = ort.SessionOptions()
    if operators := library():
        options.register_custom_ops_library(str(operators))
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if threads > 1:  # more than cores would spin against each other
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def export_all(model: PreTrainedModel, folder: Path) -> dict[str, Path]:
    """Write `model` as fp32, int8-token and onnxruntime's default int8; return the files by name."""
    folder.mkdir()
    files = {name: folder / f"{name}.onnx" for name in (OURS, THEIRS, "fp32")}
    to_onnx(model, files["fp32"])
    Quantizer(files["fp32"], token_linears(model), INT8_TOKEN)(files[OURS])
    logging.disable(logging.WARNING)  # its advice to pre-process
    quantize_dynamic(files["fp32"], files[THEIRS])
    logging.disable(logging.NOTSET)
    return files


def latency(model: PreTrainedModel, folder: Path, seconds: float) -> list[dict[str, float]]:
    """Return the median ms of one text in each engine, one row per length."""
    sessions = {name: open_session(file) for name, file in export_all(model, folder).items()}
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = []
    for tokens in tqdm(LENGTHS, unit="length"):
        feeds = {
            "input_ids": rng.integers(1000, model.config.vocab_size, (1, tokens)),
            "attention_mask": np.ones((1, tokens), np.int64),
            "token_type_ids": np.zeros((1, tokens), np.int64),
        }
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}

        def pytorch(tensors: dict[str, torch.Tensor] = tensors) -> object:
            with torch.no_grad():
                return model(**tensors).logits.numpy()

        calls: dict[str, Callable[[], object]] = {
            name: (lambda s=session, f=feeds: s.run(["logits"], f)) for name, session in sessions.items()
        }
        # In two rounds: a model of hundreds of MB in between would evict the small ones from the caches.
        int8 = in_turns({name: calls[name] for name in (OURS, THEIRS)}, seconds)
        fp32 = in_turns({OURS: calls[OURS], "fp32": calls["fp32"], "torch_fp32": pytorch}, seconds)
        rows.append(
            {"tokens": tokens, **int8, **{f"{OURS}_beside_fp32" if n == OURS else n: t for n, t in fp32.items()}}
        )
    return rows


def in_turns(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return each call's median time in ms; the calls take turns in random order for `seconds`."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffler = random.Random(0)
    end = time.monotonic() + seconds
    rounds = 0
    while rounds < WARM_UP_ROUNDS + 20 or time.monotonic() < end:
        shuffler.shuffle(order)  # each engine follows each other one equally often, so that all find the same caches
        for name in order:
            started = time.perf_counter()
            calls[name]()
            if rounds >= WARM_UP_ROUNDS:
                times[name].append((time.perf_counter() - started) * 1000)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}


def held_out(checkpoint: Path, file: Path, folder: Path) -> dict[str, Any]:
    """Return fidelity and batch invariance on the rows of `file`, each a text and its label."""
    files = export_all(
        AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=False).eval(), folder
    )
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    with file.open(encoding="utf-8", newline="") as lines:
        _, *rows = csv.reader(lines)
    texts = [row[0] for row in rows]
    labels = np.array([config["label2id"][row[1]] for row in rows])
    encoder = Encoder(checkpoint / TOKENIZER, 512)
    encodings = [encoder.encode_one(text) for text in texts]
    alone = {name: _batched(open_session(file), encodings, 1) for name, file in files.items()}
    scores = {name: np.exp(v) / np.exp(v).sum(1, keepdims=True) for name, v in alone.items()}
    found: dict[str, Any] = {"n": len(texts), "accuracy_fp32": _share(alone["fp32"].argmax(1) == labels)}
    for name in (OURS, THEIRS):
        change = np.abs(scores[name] - scores["fp32"])
        found[name] = {
            "agreement": _share(alone[name].argmax(1) == alone["fp32"].argmax(1)),
            "accuracy": _share(alone[name].argmax(1) == labels),
            "mean_change": float(change.mean()),
            "largest_change": float(change.max()),
            "texts_with_other_bits": {},
        }
        for threads in (1, 2):
            session = open_session(files[name], threads)
            for size in (1, *BATCHES):
                logits = _batched(session, encodings, size)
                other = int((logits != alone[name]).any(axis=1).sum())
                found[name]["texts_with_other_bits"][f"{threads} threads, batches of {size}"] = other
    return found


def _share(hits: np.ndarray) -> float:
    return float(hits.mean())


def _batched(session: ort.InferenceSession, encodings: list[Any], size: int) -> np.ndarray:
    """Return the logits of all texts, in their order, run in batches with random neighbours."""
    order = np.random.default_rng(size).permutation(len(encodings))
    logits: list[np.ndarray | None] = [None] * len(encodings)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        width = max(len(encodings[row].input_ids) for row in rows)
        feeds = {
            i.name: np.stack(
                [np.pad(getattr(encodings[row], i.name), (0, width - len(encodings[row].input_ids))) for row in rows],
                dtype=np.int64,
            )
            for i in session.get_inputs()
        }
        for row, row_logits in zip(rows, session.run(["logits"], feeds)[0], strict=True):
            logits[row] = row_logits
    return np.stack(logits)


def _print_latency(name: str, rows: list[dict[str, float]]) -> dict[str, float]:
    print(f"\n{name}: median ms per text, one thread")
    print("tokens  int8-token  ORT default   fp32   torch   token/default  torch/token")
    for row in rows:
        ours, theirs = row[OURS], row[THEIRS]
        print(
            f"{row['tokens']:6} {ours:11.2f} {theirs:12.2f} {row['fp32']:6.1f} {row['torch_fp32']:7.1f}"
            f" {ours / theirs:15.3f} {row['torch_fp32'] / row[f'{OURS}_beside_fp32']:12.2f}"
        )
    ratios = [row[OURS] / row[THEIRS] for row in rows]
    summary = {"geometric_mean": statistics.geometric_mean(ratios), "worst": max(ratios)}
    print(f"token/default: geometric mean {summary['geometric_mean']:.3f}, worst {summary['worst']:.3f}")
    return summary


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="The int8 engine: latency, agreement, and bits in batches.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="MiniLM-L6, for the latency")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=CHECKPOINT:FILE.csv")
    parser.add_argument("--seconds", type=float, default=10, help="seconds per length")
    args = parser.parse_args()
    facts = {"onnxruntime": ort.__version__, "native": library() is not None}
    result = record.new("engine", **facts, latency_ms={}, token_over_default={}, held_out={})
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        models = {
            "MiniLM-L6": lambda: AutoModelForSequenceClassification.from_pretrained(
                args.checkpoint, trust_remote_code=False
            ),
            "BERT-base": lambda: BertForSequenceClassification(BertConfig(num_labels=5)),
        }
        for name, make in models.items():
            rows = latency(make().eval(), Path(scratch) / name, args.seconds)
            result["latency_ms"][name] = rows
            result["token_over_default"][name] = _print_latency(name, rows)
        for given in args.data:
            name, _, paths = given.partition("=")
            checkpoint, _, file = paths.partition(":")
            result["held_out"][name] = held_out(Path(checkpoint), Path(file), Path(scratch) / f"data-{name}")
            print(f"\n{name}: {json.dumps(result['held_out'][name], indent=2)}", flush=True)
    record.write(result)


if __name__ == "__main__":
    main()
