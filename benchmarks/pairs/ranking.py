"""Benchmark of ranking: 100 documents for a query, and other callers beside a client that ranks 1,000 in a loop.

Speed: documents of 64 tokens, one caller, every engine with all cores, taken in turns, medians: `predict_batch`,
`POST /rerank` over HTTP, and CrossEncoder of sentence-transformers with its own ONNX int8 backend, in an environment of
its own. Fairness: single pairs on one connection, alone and beside the ranking client; `longest_run_ms` is a run of as
many documents as one run takes. Client and service share the cores, so the singles pay for the ranking client too.

The peer is sentence-transformers 5.7: the extra `onnx` of version 6 cannot be installed, as that version needs
transformers 5 and optimum-onnx excludes it.

    python3 -m venv peers && peers/bin/pip install torch==2.13.0 'sentence-transformers[onnx]==5.7.0'
    python -m benchmarks.pairs.ranking --bundle models/trec_qa --checkpoint checkpoints/trec_qa --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from benchmarks import record
from inferer import ModelInferer
from inferer.batching import MAX_BATCH_TOKENS
from tests.support.load import Plan, run_in_child
from tests.support.server import serving

DOCUMENTS, MANY, TOKENS = 100, 1_000, 64
OURS, HTTP, PEER = "predict_batch", "POST /rerank", "CrossEncoder, ONNX int8"
WORDS = "time year people way day man thing life child world school state family group country problem hand part place"
# Reads the size of a batch, a query and documents per line, and prints seconds.
_PEER = """
import json, shutil, sys, tempfile, time
from pathlib import Path
from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(sys.argv[1], folder, dirs_exist_ok=True)
    tokenizer = Path(folder) / "tokenizer_config.json"  # transformers 4 does not know the class of 5
    settings = json.loads(tokenizer.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    tokenizer.write_text(json.dumps(settings))
    whole = CrossEncoder(folder, backend="onnx", device="cpu")
    whole.model.save_pretrained(folder)
    export_dynamic_quantized_onnx_model(whole, sys.argv[2], folder)
    name = f"onnx/model_qint8_{sys.argv[2]}.onnx"
    model = CrossEncoder(folder, backend="onnx", device="cpu", model_kwargs={"file_name": name})
    print("ready", flush=True)
    for line in sys.stdin:
        batch, query, documents = json.loads(line)
        begun = time.perf_counter()
        model.predict([(query, one) for one in documents], batch_size=batch, show_progress_bar=False)
        print("took", time.perf_counter() - begun, flush=True)
"""


class Peer:
    """CrossEncoder in a process of its own."""

    def __init__(self, python: str, checkpoint: Path, quantization: str) -> None:
        command = [python, "-c", _PEER, str(checkpoint), quantization]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._given, self._printed = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        self._line("ready")

    def seconds(self, batch: int, query: str, documents: list[str]) -> float:
        """Return the seconds of a ranking, measured there."""
        self._given.write(json.dumps([batch, query, documents]) + "\n")
        self._given.flush()
        return float(self._line("took").split()[1])

    def _line(self, start: str) -> str:
        while line := self._printed.readline():
            if line.startswith(start):
                return line
        raise SystemExit("the process of CrossEncoder ended")

    def close(self) -> None:
        """End the process, which removes its folder."""
        self._given.close()
        self.process.wait()


def documents_of(model: ModelInferer, count: int, seed: int) -> list[str]:
    """Return documents of words that are one token each."""
    words = [word for word in WORDS.split() if model.predict(word, word).num_tokens == 5]
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=TOKENS)) for _ in range(count)]


def speed(bundle: Path, peer: Peer, rounds: int, port: int) -> dict[str, float]:
    """Return the median ms per 100 documents of each engine."""
    model = ModelInferer(bundle)
    query = "which people work at night"
    connection = HTTPConnection("127.0.0.1", port)

    def over_http(documents: list[str]) -> float:
        body = json.dumps({"query": query, "texts": documents})
        begun = time.perf_counter()
        connection.request("POST", "/rerank", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            raise SystemExit(f"/rerank replied {reply.status}")
        return time.perf_counter() - begun

    def in_process(documents: list[str]) -> float:
        begun = time.perf_counter()
        model.predict_batch([(query, one) for one in documents])
        return time.perf_counter() - begun

    engines: dict[str, Callable[[list[str]], float]] = {
        OURS: in_process,
        HTTP: over_http,
        f"{PEER}, batches of 32": lambda documents: peer.seconds(32, query, documents),
        f"{PEER}, one batch": lambda documents: peer.seconds(DOCUMENTS, query, documents),
    }
    took: dict[str, list[float]] = {name: [] for name in engines}
    for number in tqdm(range(rounds + 1), unit="round"):
        documents = documents_of(model, DOCUMENTS, number)
        for name in random.Random(number).sample(sorted(engines), len(engines)):
            seconds = engines[name](documents)
            if number:  # the first warms up
                took[name].append(seconds * 1000)
    return {name: statistics.median(found) for name, found in took.items()}


def fairness(bundle: Path, port: int, seconds: float) -> dict[str, float]:
    """Return the figures of single pairs alone and beside the ranking client, and the length of the longest run."""
    model = ModelInferer(bundle)
    many = documents_of(model, MANY, 0)
    query = "which people work at night"
    single = [json.dumps({"text": query, "text_pair": one}).encode() for one in documents_of(model, 50, 1)]
    ranking = [json.dumps({"query": query, "texts": many}).encode()]
    alone = run_in_child(Plan(port, 1, seconds, single, warm_up_s=1))
    with ThreadPoolExecutor(1) as pool:
        ranked = pool.submit(run_in_child, Plan(port, 1, seconds + 4, ranking, "/rerank", warm_up_s=0, patience_s=60))
        beside = run_in_child(Plan(port, 1, seconds, single, warm_up_s=2))
        rankings = ranked.result()
    tokens = model.predict(query, many[0]).num_tokens
    run = [(query, one) for one in many[: MAX_BATCH_TOKENS // tokens]]
    runs = []
    for _ in range(10):
        begun = time.perf_counter()
        model.predict_batch(run)
        runs.append((time.perf_counter() - begun) * 1000)
    if set(rankings.statuses) != {200} or set(beside.statuses) != {200}:
        raise SystemExit(f"replies: rankings {rankings.statuses}, singles {beside.statuses}")
    return {
        "alone_p50_ms": alone.percentile(50),
        "alone_p99_ms": alone.percentile(99),
        "beside_p50_ms": beside.percentile(50),
        "beside_p99_ms": beside.percentile(99),
        "longest_run_ms": statistics.median(runs),
        "documents_per_s": len(rankings.latencies_ms[200]) * MANY / rankings.seconds,
    }


def report(found: dict[str, Any]) -> None:
    """Print the tables for a person."""
    best = min(ms for name, ms in found["ms"].items() if name.startswith(PEER))
    print(f"{DOCUMENTS} documents of {TOKENS} tokens, one caller, medians")
    for name, ms in found["ms"].items():
        print(
            f"  {name:<36} {ms:8.1f} ms {DOCUMENTS / ms * 1000:7.0f} documents/s, {best / ms:.2f} times the best peer"
        )
    fair = found["fairness"]
    allowed = fair["alone_p99_ms"] + 2 * fair["longest_run_ms"]
    print(f"single pairs alone: p50 {fair['alone_p50_ms']:.1f} ms, p99 {fair['alone_p99_ms']:.1f} ms")
    print(f"beside {MANY} documents in a loop: p50 {fair['beside_p50_ms']:.1f} ms, p99 {fair['beside_p99_ms']:.1f} ms")
    print(f"the longest run takes {fair['longest_run_ms']:.1f} ms; the p99 alone and two of them: {allowed:.1f} ms")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Ranking, and other callers beside it.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--peers", required=True, metavar="PYTHON", help="of an environment with sentence-transformers")
    parser.add_argument("--quantization", default="avx512_vnni", help="CrossEncoder's, for this CPU (avx512_vnni)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a load (20)")
    parser.add_argument("--no-file", action="store_true", help="print the result without writing it to a file")
    args = parser.parse_args()
    peer = Peer(args.peers, args.checkpoint, args.quantization)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(args.bundle, Path(folder) / "log", INFERER_MAX_TEXTS=str(MANY)) as server,
    ):
        found: dict[str, Any] = {"ms": speed(args.bundle, peer, args.rounds, server.port)}
        peer.close()
        found["fairness"] = fairness(args.bundle, server.port, args.seconds)
    report(found)
    result = record.new("ranking", documents=DOCUMENTS, tokens=TOKENS, rounds=args.rounds, **found)
    print(json.dumps(result)) if args.no_file else record.write(result)


if __name__ == "__main__":
    main()
