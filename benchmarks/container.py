"""Benchmark of one container with one CPU: the figures in docs/production.md.

The image of the Dockerfile, built and run by podman as root as in tests/image (apt-get install podman runc mmdebstrap),
hardened, `--cpus 1`; the load from inside its network, on the other core. For MiniLM-L6 and BERT-base with random
weights:
- from the container's start to the first 200 of /health/ready, medians of several starts;
- texts per second, p50 and p99 by text length (32 clients, one text per request) and by the number of clients;
- texts per second of requests with 64 texts each;
- memory: after the start, and the peak that the container's limit counted;
and the size of the image above its base. The models take turns, medians over rounds. The last line is JSON;
benchmarks/results/container.json has the whole.

    python -m benchmarks.container --checkpoint checkpoints/query_type
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from benchmarks.bert_base import bert_base_bundle
from benchmarks.latency import text_of
from export.__main__ import main as export
from inferer import ModelInferer
from tests.image.base import load_base
from tests.image.container import Container
from tests.image.engine import Podman, missing
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import ROOT

LENGTHS = (8, 16, 32, 64, 128, 256)
COUNTS = (1, 2, 4, 8, 16, 32)
CLIENTS, TOKENS, BULK = 32, 16, 64


def minilm_bundle(checkpoint: Path, folder: Path) -> Path:
    """Export the demo's checkpoint to read long texts too."""
    if export([str(checkpoint), str(folder), "--max-length", str(max(LENGTHS)), "--overwrite"]):
        raise SystemExit(f"{checkpoint} could not be exported")
    return folder


class Served:
    """A running container with one CPU, and the texts for it."""

    def __init__(self, container: Container, bundle: Path, seconds: float) -> None:
        model = ModelInferer(bundle, intra_op_threads=1)
        if model.max_length < max(LENGTHS):
            raise SystemExit(f"{bundle} reads {model.max_length} tokens, expected {max(LENGTHS)}")
        self.texts = {tokens: text_of(model, tokens) for tokens in LENGTHS}
        self.container, self.seconds = container, seconds
        self._within = ("nsenter", "-t", str(container.pid), "-n")

    def ask(self, tokens: int, clients: int = CLIENTS, texts: int = 1) -> Result:
        """Return the results of `clients` that send `texts` texts of `tokens` tokens per request."""
        text = self.texts[tokens]
        body = json.dumps({"text": text} if texts == 1 else {"texts": [text] * texts}).encode()
        result = run_in_child(Plan(self.container.port, clients, self.seconds, [body], warm_up_s=1.0), self._within)
        if set(result.statuses) != {200}:
            raise SystemExit(f"the container answered {result.statuses}")
        return result

    def memory_mb(self) -> dict[str, float]:
        """Return the control group's peak so far and the resident memory of the processes now, in MB."""
        resident = sum(int(self.container.status(pid)["RssAnon"].split()[0]) for pid in self.container.processes())
        return {"anonymous": resident / 1024, "most_counted": self.container.peak_memory() / 2**20}


def ready_seconds(podman: Podman, image: str, options: tuple[str, ...]) -> float:
    """Return the time from a container's start to its first ready reply, in s."""
    with podman.running(image, options=options) as container:
        container.wait_ready()
        ready = time.time()
        started = container.state()["StartedAt"]
        return ready - datetime.fromisoformat(started[:26] + "+00:00").timestamp()


def figures(results: list[Result], texts: int = 1) -> dict[str, float]:
    """Return texts per second and percentiles in ms, medians over rounds."""
    return {
        "texts_a_second": statistics.median(texts * result.throughput() for result in results),
        "p50_ms": statistics.median(result.percentile(50) for result in results),
        "p99_ms": statistics.median(result.percentile(99) for result in results),
    }


def measure(served: dict[str, Served], rounds: int) -> dict[str, Any]:
    """Return the figures of all models; the models take turns."""
    cases: list[tuple[str, int, int, int]] = [("by_tokens", tokens, CLIENTS, 1) for tokens in LENGTHS]
    cases += [("by_clients", TOKENS, clients, 1) for clients in COUNTS]
    cases.append(("bulk", TOKENS, 4, BULK))
    found: dict[str, dict[tuple[str, int, int, int], list[Result]]] = {name: {} for name in served}
    for _ in tqdm(range(rounds), unit="round"):
        for case in tqdm(cases, unit="case", leave=False):
            _, tokens, clients, texts = case
            for name, one in served.items():
                found[name].setdefault(case, []).append(one.ask(tokens, clients, texts))
    return {
        name: {
            "by_tokens": {case[1]: figures(results) for case, results in by.items() if case[0] == "by_tokens"},
            "by_clients": {case[2]: figures(results) for case, results in by.items() if case[0] == "by_clients"},
            "bulk": figures(by[cases[-1]], BULK),
        }
        for name, by in found.items()
    }


def report(result: dict[str, Any]) -> None:
    """Print the figures for a person."""
    print(f"the image: {result['image_mb_above_base']:.0f} MB above its base, without a model")
    for name, model in result["models"].items():
        memory = model["memory_mb"]
        print(f"{name}: ready after {model['ready_s']:.1f} s; {memory['after_start']:.0f} MB after the start, ", end="")
        print(f"{memory['under_load']:.0f} under load, counted at most {memory['most_counted']:.0f}")
        rows = [(tokens, CLIENTS, by) for tokens, by in model["by_tokens"].items()]
        rows += [(TOKENS, clients, by) for clients, by in model["by_clients"].items()]
        for tokens, clients, by in rows:
            print(f"  {tokens:4} tokens, {clients:2} clients: {by['texts_a_second']:7.1f} texts/s", end="")
            print(f"  p50 {by['p50_ms']:5.0f}  p99 {by['p99_ms']:5.0f} ms")
        print(f"  {TOKENS:4} tokens, requests of {BULK} texts: {model['bulk']['texts_a_second']:.1f} texts/s")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="What one container with one CPU serves.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of MiniLM-L6; BERT-base gets its tokenizer")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5)
    args = parser.parse_args()
    why = missing()
    if why:
        raise SystemExit(why)
    result = record.new("container", cpus_each=1, models={})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        podman = Podman.make(folder / "podman")
        stack.callback(podman.close)
        base = load_base(podman)
        image = podman.build("localhost/inferer", base)
        above = podman.inspect(image)["Size"] - podman.inspect(base)["Size"]
        result["image_mb_above_base"] = above / 1e6
        bundles = {
            "MiniLM-L6": minilm_bundle(args.checkpoint, ROOT / "build" / "minilm_long"),
            "BERT-base": bert_base_bundle(args.checkpoint, ROOT / "build" / "bert_base_long", max(LENGTHS)),
        }
        served: dict[str, Served] = {}
        for name, bundle in bundles.items():
            options = (f"--volume={bundle}:/model:ro", "--cpus=1")
            starts = [ready_seconds(podman, image, options) for _ in tqdm(range(args.starts), desc=f"{name} starts")]
            container = stack.enter_context(podman.running(image, options=options))
            container.wait_ready()
            served[name] = Served(container, bundle, args.seconds)
            memory = {"after_start": served[name].memory_mb()["anonymous"]}
            result["models"][name] = {"ready_s": statistics.median(starts), "memory_mb": memory}
        for name, measured in measure(served, args.rounds).items():
            after = served[name].memory_mb()
            result["models"][name] |= measured
            result["models"][name]["memory_mb"] |= {
                "under_load": after["anonymous"],
                "most_counted": after["most_counted"],
            }
    report(result)
    record.write(result)


if __name__ == "__main__":
    main()
