"""Benchmark of batching: throughput of concurrent callers, cost for a single caller, and the best size of a run.

One process, no HTTP. 32 threads call `predict` on texts of 16 tokens: with batching, without it, and without it and
without a bound on concurrent runs (`unbounded`). One caller follows, then the bound of a run by text length, then
texts of mixed lengths beside as many of their mean length: runs of those have no padding and any of them may share a
run, so the ratio is the most that packed runs, without padding, could gain.
Runs go side by side as by default. Interleaved, medians; for MiniLM-L6 (the demo) and BERT-base with random weights.

The last line is JSON; benchmarks/results/batching.json has the whole.

    python -m benchmarks.batching --bundle models/query_type --checkpoint checkpoints/query_type
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from tqdm import tqdm

from benchmarks import record
from benchmarks.bert_base import bert_base_bundle
from benchmarks.latency import text_of
from inferer import ModelInferer
from inferer.batching import Batcher, BatchResult, Cancellation
from inferer.tokens.encoding import Encoding

CALLERS = 32
TOKENS = 16
LENGTHS = (8, 16, 32, 64, 128)
BOUNDS = (1, 128, 256, 512, 1024, 2048)  # 1: every text alone
LONE_ROUNDS = 400


def throughput(model: ModelInferer, batcher: Batcher, texts: Sequence[str], seconds: float) -> float:
    """Return the texts per second of CALLERS threads together."""
    model.batcher = batcher
    counts = [0] * CALLERS
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        turn = number
        while time.perf_counter() < end:
            model.predict(texts[turn % len(texts)])
            counts[number] += 1
            turn += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def interleaved(calls: dict[str, Callable[[], float]], rounds: int, what: str) -> dict[str, float]:
    """Return the median of each call's results over `rounds` rounds, taken in turn in changing order."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffler = random.Random(0)
    for _ in tqdm(range(rounds), unit="round", desc=what):
        shuffler.shuffle(order)
        for name in order:
            found[name].append(calls[name]())
    return {name: statistics.median(values) for name, values in found.items()}


class _Direct(Batcher):
    """The session without a queue, for the cost of the queue."""

    def run(self, encodings: Sequence[Encoding], cancellation: Cancellation | None = None) -> BatchResult:
        """Return the logits of one run."""
        assert cancellation is None  # noqa: S101 - a run without a queue waits for nothing
        return BatchResult(list(self._run(encodings)), [])


def lone(model: ModelInferer, text: str) -> dict[str, float]:
    """Return the median ms of one caller's predict: with batching, without, and without any queue, call by call."""
    batchers = {
        "on": model_batcher(model),
        "off": model_batcher(model, shared=False),
        "none": _Direct(model._session.run_batch),
    }

    def timed(batcher: Batcher) -> float:
        model.batcher = batcher
        started = time.perf_counter()
        model.predict(text)
        return (time.perf_counter() - started) * 1000

    calls = {name: (lambda b=batcher: timed(b)) for name, batcher in batchers.items()}
    return interleaved(calls, LONE_ROUNDS, "lone")


def model_batcher(model: ModelInferer, **options: Any) -> Batcher:
    """Return a batcher for `model` as ModelInferer makes it, with `options` over that."""
    return Batcher(model._session.run_batch, **{"at_once": model.parallel_runs, **options})


def measure(bundle: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the figures of one model."""
    model = ModelInferer(bundle, golden_check="off", config={"max_length": max(LENGTHS)})
    words = {length: [text_of(model, length)] for length in LENGTHS}
    runs: list[int] = []  # the texts of each
    batchers = {
        "on": model_batcher(model),
        "off": model_batcher(model, shared=False, at_once=16),
        "unbounded": model_batcher(model, shared=False, at_once=CALLERS),
    }
    batchers["on"].on_run = lambda texts, _: runs.append(texts)
    calls = {
        name: (lambda b=batcher: throughput(model, b, words[TOKENS], seconds)) for name, batcher in batchers.items()
    }
    found: dict[str, Any] = {"texts_a_second": interleaved(calls, rounds, "32 callers")}
    found["texts_a_run"] = sum(runs) / len(runs)
    found["lone_ms"] = lone(model, words[TOKENS][0])
    found["by_bound"] = {}
    for length in LENGTHS:
        batchers = {str(bound): model_batcher(model, max_tokens=bound) for bound in BOUNDS}
        bounds = {
            bound: (lambda b=batcher, w=words[length]: throughput(model, b, w, seconds))
            for bound, batcher in batchers.items()
        }
        found["by_bound"][str(length)] = interleaved(bounds, max(3, rounds // 2), f"{length} tokens")
    found["mixed"] = mixed(model, words, seconds, rounds)
    return found


def mixed(model: ModelInferer, words: dict[int, list[str]], seconds: float, rounds: int) -> dict[str, float]:
    """Return the tokens per second of texts of all LENGTHS, and of texts of their mean length; the share of padding."""
    texts = [text for length in LENGTHS for text in words[length]]
    totals = {"texts": 0, "tokens": 0, "padded": 0, "runs": 0}

    def counted(encodings: Sequence[Encoding]) -> Any:
        lengths = [len(encoding.input_ids) for encoding in encodings]
        for name, value in (("texts", len(lengths)), ("tokens", sum(lengths)), ("padded", len(lengths) * max(lengths))):
            totals[name] += value
        totals["runs"] += 1
        return model._session.run_batch(encodings)

    batcher, mean = model_batcher(model), round(statistics.mean(LENGTHS))
    of_mixed = Batcher(counted, at_once=model.parallel_runs)
    calls = {
        "mixed": lambda: throughput(model, of_mixed, texts, seconds),
        "mean": lambda: throughput(model, batcher, [text_of(model, mean)], seconds) * mean,
    }
    found = interleaved(calls, rounds, "mixed lengths")
    found["mixed"] *= totals["tokens"] / totals["texts"]
    return {
        **found,
        "padding": 1 - totals["tokens"] / totals["padded"],
        "texts_a_run": totals["texts"] / totals["runs"],
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Throughput of concurrent callers, with and without shared runs.")
    parser.add_argument("--bundle", type=Path, required=True, help="the demo bundle")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the source of BERT-base's tokenizer")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a measurement")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    result = record.new("batching", onnxruntime=onnxruntime.__version__, callers=CALLERS, tokens=TOKENS, models={})
    bundles = {"MiniLM-L6": (args.bundle, 1), "BERT-base": (bert_base_bundle(args.checkpoint), 2)}
    for name, (bundle, times) in bundles.items():
        found = measure(bundle, args.seconds * times, args.rounds)
        result["models"][name] = found
        rate, ms = found["texts_a_second"], found["lone_ms"]
        print(
            f"{name}: {CALLERS} callers, {TOKENS} tokens: {rate['on']:.0f} texts/s, {found['texts_a_run']:.1f} a run;"
        )
        print(f"  without batching {rate['off']:.0f} ({rate['on'] / rate['off']:.2f} times), ", end="")
        print(f"all at once {rate['unbounded']:.0f} ({rate['on'] / rate['unbounded']:.2f} times)")
        print(f"  a lone caller: {ms['on']:.3f} ms, {ms['on'] / ms['none']:.3f} of the session's own call")
        print("  texts/s by the bound of a run in tokens: " + "  ".join(f"{bound:>6}" for bound in BOUNDS))
        for length, rates in found["by_bound"].items():
            print(f"  {length:>39} tokens " + "  ".join(f"{rates[str(bound)]:6.0f}" for bound in BOUNDS))
        lengths = found["mixed"]
        print(
            f"  mixed lengths {lengths['mixed']:.0f} tokens/s, {lengths['padding']:.1%} padding; of their mean length "
            f"{lengths['mean']:.0f} ({lengths['mean'] / lengths['mixed']:.2f} times)"
        )
    record.write(result)


if __name__ == "__main__":
    main()
