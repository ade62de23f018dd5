"""Benchmark of `--layers`: one text's latency with fewer layers, int8, one thread.

A short training makes a checkpoint for each number of layers; how well it learned does not change the time. Exported,
all are in one process and interleaved round by round, so that noise slows all alike; medians. The accuracy of such
models is measured by benchmarks.learning.students. The last line is JSON; benchmarks/results/layers.json has it.

    python -m benchmarks.learning.layers --data title_conference.csv --text-column Title --label-column Conference
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import record
from benchmarks.latency import text_of
from benchmarks.learning.runs import train
from benchmarks.timing import interleaved
from inferer import ModelInferer

TOKENS = (16, 64, 128)
ROUNDS, WARM_UP = 200, 20


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--text-column", required=True)
    parser.add_argument("--label-column", required=True)
    parser.add_argument("--layers", default="2,3,4,6")
    args = parser.parse_args()
    counts = list(map(int, args.layers.split(",")))
    flags = ("--data", args.data, "--text-column", args.text_column, "--label-column", args.label_column)
    short = ("--train-rows", "100", "--test-rows", "50", "--epochs", "1")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        models = {}
        for count in counts:
            made = train(work / f"layers-{count}", *flags, *short, "--layers", str(count))
            bundle = work / f"bundle-{count}"
            command = [sys.executable, "-m", "export", str(made.folder), str(bundle)]
            subprocess.run(command, check=True, capture_output=True)
            models[count] = ModelInferer(bundle, intra_op_threads=1, batching=False)
        times = {}
        for tokens in TOKENS:
            text = text_of(models[counts[0]], tokens)
            calls = {str(count): model.predict for count, model in models.items()}
            times[tokens] = interleaved(calls, [text], ROUNDS, WARM_UP)
    for count in counts:
        shown = ", ".join(f"{times[tokens][str(count)]:.2f} ms at {tokens}" for tokens in TOKENS)
        print(f"{count} layers: {shown} tokens")
    record.write(record.new("layers", milliseconds=times))


if __name__ == "__main__":
    main()
