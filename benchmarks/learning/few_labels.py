"""Benchmark of `--few-labels` against plain fine-tuning, both with their default options, on the same rows.

Draws so many rows per label by the seed, and holds out all others, up to a limit. The interval of the gain is the
paired bootstrap's over the held-out rows; the draw of the training rows differs from seed to seed far more, so look at
several. The last line is JSON; benchmarks/results/few_labels.json has it.

    python -m benchmarks.learning.few_labels --set conference=title_conference.csv:Title:Conference
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.learning.runs import gain, percent, rows_of, train, write_rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FILE.csv:TEXT:LABEL")
    parser.add_argument("--rows", default="8,16,64", help="rows per label")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--held-out", type=int, default=2000)
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    for given in args.set:
        name, _, rest = given.partition("=")
        file, text, label = rest.rsplit(":", 2)
        rows = rows_of(Path(file))
        for count in map(int, args.rows.split(",")):
            for seed in map(int, args.seeds.split(",")):
                one = measure(rows, text, label, count, seed, args.held_out)
                found.append({"set": name, "rows": count, "seed": seed, **one})
                both = f"plain {percent(one['plain'])}, few labels {percent(one['few_labels'])}"
                print(
                    f"{name}, {count} per label, seed {seed}: {both}, gain {percent(one['gain'], 'gain')}", flush=True
                )
    record.write(record.new("few_labels", runs=found))


def measure(rows: list[dict[str, str]], text: str, label: str, count: int, seed: int, most: int) -> dict[str, Any]:
    """Return the figures of both ways, from `count` rows of each label, on at most `most` others."""
    order = np.random.default_rng(seed).permutation(len(rows))
    by_label: dict[str, list[int]] = {}
    for place in order:
        by_label.setdefault(rows[place][label], []).append(int(place))
    train_on = {place for places in by_label.values() for place in places[:count]}
    held_out = [int(place) for place in order if place not in train_on][:most]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        data = write_rows(work / "train.csv", [rows[place] for place in sorted(train_on)])
        test = write_rows(work / "test.csv", [rows[place] for place in held_out])
        flags = ("--data", str(data), "--test-data", str(test), "--text-column", text, "--label-column", label)
        plain = train(work / "plain", *flags)
        few = train(work / "few_labels", *flags, "--few-labels")
    return {"plain": plain.facts(), "few_labels": few.facts(), "gain": gain(few, plain)}


if __name__ == "__main__":
    main()
