"""Benchmark of one text's latency: the served int8 model, fp32 and PyTorch, and the overhead of HTTP.

All in one process, one text at a time, interleaved round by round, so that noise slows all of
them alike; medians and ratios. HTTP is measured against a real gunicorn on this machine, one client.
The last line is JSON; benchmarks/results/latency.json has the whole.

    python -m benchmarks.latency --bundle models/query_type --checkpoint checkpoints/query_type
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks import record
from benchmarks.timing import interleaved
from inferer import ModelInferer
from tests.support.server import serving

LENGTHS = (8, 16, 32, 64)  # tokens, special tokens included
WARM_UP_ROUNDS = 20


def text_of(model: ModelInferer, tokens: int) -> str:
    """Return a text of exactly `tokens` tokens."""
    words: list[str] = ["milk"]
    while model.predict(" ".join(words)).num_tokens < tokens:
        words.append("milk")
    text = " ".join(words)
    if model.predict(text).num_tokens != tokens:
        raise SystemExit(f"no text of exactly {tokens} tokens could be made")
    return text


def torch_predict(checkpoint: Path, threads: int) -> Callable[[str], object]:
    """Return a function that predicts a text with PyTorch in fp32."""
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=False).eval()

    def predict(text: str) -> object:
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1).tolist()

    return predict


def report(rows: list[dict[str, float]], threads: int, rounds: int) -> None:
    """Print the table for a person."""
    print(f"median ms per text, {threads} thread(s), {rounds} rounds, interleaved")
    print("tokens    int8    fp32   torch  over HTTP   fp32/int8  torch/int8  HTTP adds")
    for row in rows:
        int8, fp32, pytorch, http = row["int8"], row["fp32"], row["torch_fp32"], row["int8_http"]
        ratios = f"{fp32 / int8:11.2f} {pytorch / int8:11.2f} {http - int8:10.2f}"
        print(f"{row['tokens']:6.0f} {int8:7.2f} {fp32:7.2f} {pytorch:7.2f} {http:10.2f} {ratios}")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Latency of one text: int8, fp32, PyTorch, HTTP.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the source of the bundle")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    int8 = ModelInferer(args.bundle, intra_op_threads=args.threads)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {"INFERER_INTRA_OP_THREADS": str(args.threads)}
        fp32 = ModelInferer(
            args.checkpoint, quantize=False, intra_op_threads=args.threads, cache_dir=Path(folder) / "cache"
        )
        with serving(args.bundle, Path(folder) / "log", **settings) as server:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=30)

            def http(text: str) -> object:
                body = json.dumps({"text": text})
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                return connection.getresponse().read()

            calls = {
                "int8": int8.predict,
                "fp32": fp32.predict,
                "torch_fp32": torch_predict(args.checkpoint, args.threads),
                "int8_http": http,
            }
            rows += [
                {"tokens": tokens, **interleaved(calls, [text_of(int8, tokens)], args.rounds, WARM_UP_ROUNDS)}
                for tokens in tqdm(LENGTHS, unit="length")
            ]
    report(rows, args.threads, args.rounds)
    record.write(record.new("latency", threads=args.threads, rounds=args.rounds, scheme=int8.scheme, median_ms=rows))


if __name__ == "__main__":
    main()
