"""Benchmark of servers over HTTP: ours beside Flask, FastAPI, LitServe, BentoML, MLServer, in turns under `wrk`.

It shows, for each number of clients and kind of text, the replies per second, p50 and p99, errors, CPU time per request
and memory (PSS: common pages shared out) of each server's best variant with one and with two workers; then the seconds
from its start to its first answer and its size on disk. All servers are started; one at a time has load, in random
order within a round, and the others are stopped meanwhile: 25 idle ones take a third of a core. Medians over rounds.
Each answers one text in JSON with the label and the score of every label, and logs on to a file under build/peers/logs.

It would be unfair
- to compare servers of different runs: the machine's speed changes within hours. A ratio is of one run, else "-";
- on a busy machine, or with few rounds: p99 and two workers suffer first;
- to take it for a machine with many cores: `wrk` takes part of the same two;
- to read BentoML's and MLServer's rows as equal work: they batch only questions of another form, a few bytes longer;
- to read "Flask + transformers" as PyTorch's speed: it is fp32, as most tutorials have it; benchmarks.peers.engine has
  PyTorch's int8. Ours, and OpenVINO's, keep nearer to fp32 than onnxruntime's default int8 that most others run.

The last line is JSON; benchmarks/results/peers-http.json has the whole. A run replaces the cells that it measures and
keeps the others, `--add` adds its rounds to them. A server that cannot be installed or started is one line.

    python -m benchmarks.peers.http --peers ours "Flask + ORT int8" --clients 1 32 --texts short --rounds 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers import models, wrk
from benchmarks.peers.environments import FOLDER, MissingError, versions
from benchmarks.peers.results import Results, best
from benchmarks.peers.servers import OURS, PEERS, Running, disk_bytes, running
from tests.support.server import ROOT

BENCHMARK = "peers-http"
KEY = ("model", "peer", "variant", "texts", "clients")
CLIENTS = (1, 8, 32, 128)
_TEXTS, _CHECKED = 1000, 20
_WARM_UP = (8, 1)  # clients, seconds


class Bench:
    """The servers of one model, and the bodies for them."""

    def __init__(self, model: str, args: argparse.Namespace, results: Results, stack: contextlib.ExitStack) -> None:
        self.model, self.args, self.results = model, args, results
        self.scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.script = self.scratch / "post.lua"
        self.script.write_text(wrk.SCRIPT, encoding="utf-8")
        self.texts = {kind: models.texts_of(args.checkpoint, kind, _TEXTS) for kind in models.TEXTS}
        folder = models.prepare(model, args.checkpoint, fresh=args.fresh)
        self.servers: dict[tuple[str, str], Running] = {}
        for name in args.peers:
            self._start(name, folder, stack)
        self._compare()

    def _start(self, name: str, folder: Path, stack: contextlib.ExitStack) -> None:
        """Start the variants of a server; say what is missing if they do not start."""
        peer, facts = PEERS[name], {}
        try:
            if peer.convert:
                models.convert(folder, peer.convert)
            for variant in peer.variants:
                log = FOLDER / "logs" / f"{models.simple(f'{self.model}-{name}-{variant}')}.log"
                log.parent.mkdir(exist_ok=True)
                checked = self.texts["short"][:_CHECKED]
                server = stack.enter_context(running(name, variant, folder, checked, log))
                self.servers[name, variant], facts[variant] = server, {"start_s": server.start_s}
                server.settle()
                server.pause()
                print(f"{self.model}: {name}, {variant}: first answer after {server.start_s:.1f} s", flush=True)
        except MissingError as missing:
            self.results.missing(f"{self.model}: {name}", str(missing))
        else:
            self.results.found(f"{self.model}: {name}")
        if facts:
            self.results.data["versions"][name] = versions(peer.environment)
            known = {"disk_bytes": disk_bytes(name, folder), "variants": facts}
            self.results.data["facts"].setdefault(self.model, {})[name] = known

    def _compare(self) -> None:
        """Note how many of the first texts get our label; a server that answers otherwise is told."""
        if not self.servers:
            return
        reference = self.servers.get((OURS, "1 worker")) or next(iter(self.servers.values()))
        for (name, variant), server in self.servers.items():
            same = sum(a["label"] == b["label"] for a, b in zip(server.answers, reference.answers, strict=True))
            self.results.data["facts"][self.model][name]["variants"][variant]["same_label_of_20"] = same
            if [len(answer["scores"]) for answer in server.answers] != [len(a["scores"]) for a in reference.answers]:
                raise SystemExit(f"{name} does not answer with the score of each label: {server.answers[0]}")

    def bodies(self, name: str, kind: str) -> Path:
        """Return the file with the bodies for a server."""
        file = self.scratch / models.simple(f"{name}-{kind}")
        if not file.exists():
            file.write_text("\n".join(json.dumps(PEERS[name].body(text)) for text in self.texts[kind]) + "\n")
        return file

    def load(self, name: str, variant: str, kind: str, clients: int, seconds: int) -> dict[str, float]:
        """Return the figures of one load."""
        server = self.servers[name, variant]
        server.resume()
        before = server.cpu_s()
        found = wrk.load(server.url, self.bodies(name, kind), clients, seconds, self.script)
        cpu_s = server.cpu_s() - before
        memory = server.memory()
        server.settle()
        server.pause()
        return {
            "requests_per_second": found.requests_per_second,
            "p50_ms": found.p50_ms,
            "p99_ms": found.p99_ms,
            "errors": found.errors,
            "cpu_ms_per_request": 1000 * cpu_s / max(1, found.requests),
            **memory,
        }

    def measure(self) -> None:
        """Load the servers in turns, and save after each round; a server that fails is left out from then on."""
        for name, variant in list(self.servers):
            self._load_or_drop(name, variant, "short", *_WARM_UP)
        shuffler = random.Random(0)
        for number in range(self.args.rounds):
            for kind in self.args.texts:
                for clients in self.args.clients:
                    order = list(self.servers)
                    shuffler.shuffle(order)
                    for name, variant in order:
                        if figures := self._load_or_drop(name, variant, kind, clients, self.args.seconds):
                            cell = {"model": self.model, "peer": name, "variant": variant, "texts": kind}
                            self.results.measured({**cell, "clients": clients}, figures)
            self.results.save()
            print(f"{self.model}: round {number + 1} of {self.args.rounds}", flush=True)

    def _load_or_drop(self, name: str, variant: str, kind: str, clients: int, seconds: int) -> dict[str, float] | None:
        try:
            return self.load(name, variant, kind, clients, seconds)
        except (MissingError, psutil.Error) as error:
            self.results.missing(f"{self.model}: {name}", f"{name}, {variant}, with {clients} clients: {error}")
            del self.servers[name, variant]
            return None


def ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return our replies per second over each server's, best variants of one run, by model, texts and clients."""
    found: dict[str, dict[str, float]] = {}
    rows = best(rows, ("model", "texts", "clients", "peer"), "requests_per_second")
    ours = {(row["model"], row["texts"], row["clients"], row["run"]): row for row in rows if row["peer"] == OURS}
    for row in rows:
        mine = ours.get((row["model"], row["texts"], row["clients"], row["run"]))
        if mine and row["peer"] != OURS and row["requests_per_second"]:
            title = f"{row['model']}, {row['texts']} texts, clients: {row['clients']}"
            ratio = mine["requests_per_second"] / row["requests_per_second"]
            found.setdefault(title, {})[row["peer"]] = round(ratio, 3)
    return found


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Return the best variants by model, texts and clients, with ours over each in the same run, and the facts."""
    lines = []
    rows = best(rows, ("model", "texts", "clients", "peer"), "requests_per_second")
    for model, kind, clients in dict.fromkeys((row["model"], row["texts"], row["clients"]) for row in rows):
        group = [row for row in rows if (row["model"], row["texts"], row["clients"]) == (model, kind, clients)]
        group.sort(key=lambda row: -row["requests_per_second"])
        ours = next((row for row in group if row["peer"] == OURS), None)
        plural = "client" if clients == 1 else "clients"
        lines += ["", f"{model}, {kind} texts, {clients} {plural}"]
        lines.append(
            f"{'server':24}{'variant':24}{'req/s':>7}{'ours':>7}{'p50 ms':>8}{'p99 ms':>8}"
            f"{'CPU ms':>8}{'MB':>7}{'errors':>8}"
        )
        for row in group:
            ratio = "-"
            if ours and ours["run"] == row["run"] and row["requests_per_second"]:
                ratio = f"{ours['requests_per_second'] / row['requests_per_second']:.2f}x"
            lines.append(
                f"{row['peer']:24}{row['variant']:24}{row['requests_per_second']:7.0f}{ratio:>7}{row['p50_ms']:8.1f}"
                f"{row['p99_ms']:8.1f}{row['cpu_ms_per_request']:8.2f}{row['pss_bytes'] / 1e6:7.0f}{row['errors']:8.0f}"
            )
    for model, peers in facts.items():
        lines += ["", f"{model}: seconds to the first answer, MB on disk"]
        for name, known in peers.items():
            starts = ", ".join(f"{variant} {of['start_s']:.1f} s" for variant, of in known["variants"].items())
            lines.append(f"{name:24}{known['disk_bytes'] / 1e6:6.0f} MB   {starts}")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Servers over HTTP, ours and others, in turns.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "query_type", help="the demo's")
    parser.add_argument("--models", nargs="+", default=[models.MINILM, models.BERT_BASE], choices=models.MODELS)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--texts", nargs="+", default=list(models.TEXTS), choices=models.TEXTS)
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one load")
    parser.add_argument("--add", action="store_true", help="add rounds to the cells of earlier runs")
    parser.add_argument("--fresh", action="store_true", help="export our bundles anew")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    try:
        wrk.check()
    except MissingError as missing:
        raise SystemExit(str(missing)) from None
    results = Results(BENCHMARK, KEY, add=args.add)
    for model in args.models:
        with contextlib.ExitStack() as stack:
            Bench(model, args, results, stack).measure()
    results.end(table, ratios)


if __name__ == "__main__":
    main()
