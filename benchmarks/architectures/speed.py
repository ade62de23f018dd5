"""Benchmark of DeBERTa-v3 and ModernBERT, random weights of the real sizes: latency, and bits in batches.

One process per shape, one thread, engines in turn in random order, medians: int8-token, onnxruntime's
`quantize_dynamic`, fp32 ONNX, and OpenVINO on the fp32 file where it is installed and converts it. Then the number of
texts with other bits in batches of 2, 3, 16 and 64 than alone, on one thread and on 32.

The last line is JSON; benchmarks/results/architectures.json has the whole. `--only` measures one shape and keeps the
others' results. With huge pages, as the service runs:

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.architectures.speed --only deberta-v3-small
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
)

from benchmarks import record
from benchmarks.engine import BATCHES, OURS, THEIRS, export_all, in_turns, open_session
from tests.support.server import ROOT

THREADS = (1, 32)
_TEXTS, _LONGEST = 64, 48  # of the batches
_FIRST_ID = 1000  # ids below may be special tokens


def deberta_v3(layers: int) -> PreTrainedModel:
    """Return a DeBERTa-v3 of `layers` layers of 768."""
    config = DebertaV2Config(
        vocab_size=128100,
        hidden_size=768,
        intermediate_size=3072,
        num_attention_heads=12,
        num_hidden_layers=layers,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        num_labels=3,
    )
    return DebertaV2ForSequenceClassification(config)


def modernbert_base() -> PreTrainedModel:
    """Return a ModernBERT-base: 22 layers of 768."""
    return ModernBertForSequenceClassification(ModernBertConfig(num_labels=3))


# Each shape's model, and the lengths in tokens.
SHAPES: dict[str, tuple[Callable[[], PreTrainedModel], tuple[int, ...]]] = {
    "deberta-v3-small": (lambda: deberta_v3(6), (16, 64, 256)),
    "deberta-v3-base": (lambda: deberta_v3(12), (16, 64, 256)),
    "modernbert-base": (modernbert_base, (16, 64, 256, 2048)),
}


def export(shape: str, folder: Path) -> tuple[dict[str, Path], int]:
    """Write the files of `shape` into `folder`; return them by engine, and the size of the vocabulary."""
    torch.manual_seed(0)
    model = SHAPES[shape][0]().eval()
    return export_all(model, folder), model.config.vocab_size


def measure(shape: str, files: dict[str, Path], vocabulary: int, seconds: float) -> dict[str, Any]:
    """Return the times and the bits of `shape`."""
    return {
        "latency_ms": latency(files, vocabulary, SHAPES[shape][1], seconds),
        "texts_with_other_bits": other_bits(files[OURS], vocabulary),
    }


def latency(
    files: dict[str, Path], vocabulary: int, lengths: tuple[int, ...], seconds: float
) -> list[dict[str, float]]:
    """Return the median ms of one text in each engine, one row per length, with our ratios."""
    sessions = {name: open_session(file) for name, file in files.items()}
    vino = _openvino(files["fp32"])
    rng = np.random.default_rng(0)
    rows = []
    for tokens in lengths:
        feeds = {
            "input_ids": rng.integers(_FIRST_ID, vocabulary, (1, tokens)),
            "attention_mask": np.ones((1, tokens), np.int64),
        }
        calls: dict[str, Callable[[], object]] = {
            name: (lambda s=session, f=feeds: s.run(["logits"], f)) for name, session in sessions.items()
        }
        if vino is not None:
            calls["openvino"] = functools.partial(vino, feeds)
        times = in_turns(calls, seconds)
        rows.append(
            {
                "tokens": tokens,
                **times,
                "ours_over_ort_int8": times[OURS] / times[THEIRS],
                "fp32_over_ours": times["fp32"] / times[OURS],
            }
        )
        print(rows[-1], flush=True)
    return rows


def _openvino(fp32: Path) -> Callable[[dict[str, np.ndarray]], object] | None:
    """Return OpenVINO's model of `fp32` on one thread; None where it is not installed or does not convert."""
    if importlib.util.find_spec("openvino") is None:
        return None
    openvino: Any = importlib.import_module("openvino")
    try:
        compiled = openvino.Core().compile_model(fp32, "CPU", {"INFERENCE_NUM_THREADS": 1})
    except RuntimeError as error:
        print(f"OpenVINO does not convert it: {error}")
        return None
    return functools.partial(compiled)


def other_bits(model: Path, vocabulary: int) -> dict[str, int]:
    """Return how many of the texts, of 3 to 48 tokens, get other bits than alone on one thread."""
    rng = np.random.default_rng(1)
    texts = [rng.integers(_FIRST_ID, vocabulary, length) for length in rng.integers(3, _LONGEST + 1, _TEXTS)]
    alone = _batched(open_session(model), texts, 1)
    found = {}
    for threads in THREADS:
        session = open_session(model, threads)
        for size in (1, *BATCHES):
            other = (_batched(session, texts, size) != alone).any(axis=1).sum()
            found[f"{threads} threads, batches of {size}"] = int(other)
    return found


def _batched(session: ort.InferenceSession, texts: list[np.ndarray], size: int) -> np.ndarray:
    logits = []
    for start in range(0, len(texts), size):
        rows = texts[start : start + size]
        width = max(map(len, rows))
        ids = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
        mask = np.stack([np.arange(width) < len(row) for row in rows]).astype(np.int64)
        logits.append(session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0])
    return np.concatenate(logits)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="DeBERTa-v3 and ModernBERT: latency, and bits in batches.")
    parser.add_argument("--only", choices=SHAPES, help="measure one shape, keep the other results")
    parser.add_argument("--seconds", type=float, default=30, help="seconds per length")
    args = parser.parse_args()
    written = ROOT / "benchmarks" / "results" / "architectures.json"
    kept = json.loads(written.read_text(encoding="utf-8"))["shapes"] if args.only and written.is_file() else {}
    result = record.new("architectures", onnxruntime=ort.__version__, shapes=kept)
    # A new process for each task: the heap that an export leaves behind has few huge pages for the weights.
    spawn = multiprocessing.get_context("spawn")
    for name in [args.only] if args.only else SHAPES:
        with (
            tempfile.TemporaryDirectory() as scratch,
            ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes,
        ):
            files, vocabulary = processes.submit(export, name, Path(scratch) / name).result()
            result["shapes"][name] = processes.submit(measure, name, files, vocabulary, args.seconds).result()
        ratios = [row["ours_over_ort_int8"] for shape in result["shapes"].values() for row in shape["latency_ms"]]
        result["ours_over_ort_int8"] = statistics.geometric_mean(ratios)
        record.write(result)  # after each shape: all of them take half an hour


if __name__ == "__main__":
    main()
