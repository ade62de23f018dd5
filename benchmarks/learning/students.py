"""Benchmark of teachers and of fewer layers: students of the same rows with and without a teacher.

One split by seed 0. The teacher is the mean of several models of all layers, which differ by their seed and have the
labels that the student has. For a share of the labels the other training rows are the texts without labels. Default
options throughout. Intervals of gains are the paired bootstrap's over the held-out rows; how much another split or seed
moves a figure is left out. The last line is JSON; benchmarks/results/students-NAME.json has it.

    python -m benchmarks.learning.students --name conference --data title_conference.csv \\
        --text-column Title --label-column Conference
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.learning.runs import Run, gain, percent, train, write_rows
from training.data.dataset import Columns
from training.data.reader import read_dataset
from training.splits.splits import first_shuffled, without_shared_texts
from training.splits.stratify import stratified_split


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--text-column", required=True)
    parser.add_argument("--label-column", required=True)
    parser.add_argument("--layers", default="2,3,4,6")
    parser.add_argument("--shares", default="0.1,0.3,1")
    parser.add_argument("--teachers", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(Path(scratch), args)
    for one in result["runs"]:
        print(f"{one['share']:g} of the labels, {one['layers']} layers: plain {percent(one['plain'])}, taught "
              f"{percent(one['taught'])}, gain {percent(one['gain'], 'gain')}", flush=True)  # fmt: skip
    record.write(result)


def measure(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all students."""
    columns = Columns(args.text_column, args.label_column)
    train_on, held_out = stratified_split(read_dataset(Path(args.data), columns), 0.2, 0)
    train_on, _ = without_shared_texts(train_on, held_out)
    texts = {"text": args.text_column, "label": args.label_column}
    test = write_rows(work / "test.csv", _rows(held_out, texts))
    every = write_rows(work / "every.csv", _rows(train_on, texts))
    found = []
    layers = list(map(int, args.layers.split(",")))
    for share in map(float, args.shares.split(",")):
        part = first_shuffled(train_on, 0 if share == 1 else round(share * len(train_on)), 0, "train_rows")
        data = write_rows(work / f"train-{share:g}.csv", _rows(part, texts))
        flags = ("--data", str(data), "--test-data", str(test))
        flags += ("--text-column", args.text_column, "--label-column", args.label_column)
        teachers = [train(work / f"teacher-{share:g}-{seed}", *flags, "--seed", str(seed)) for seed in
                    range(1, args.teachers + 1)]  # fmt: skip
        taught = ("--teacher", ",".join(str(one.folder) for one in teachers))
        if share < 1:
            taught += ("--unlabelled", str(every))
        for count in layers if share == 1 else layers[-1:]:
            sized = (*flags, "--layers", str(count))
            plain = train(work / f"plain-{share:g}-{count}", *sized)
            student = train(work / f"taught-{share:g}-{count}", *sized, *taught)
            found.append(_facts(share, count, plain, student, len(part)))
    return record.new(f"students-{args.name}", teachers=args.teachers, rows=len(train_on), runs=found)


def _facts(share: float, layers: int, plain: Run, taught: Run, rows: int) -> dict[str, Any]:
    facts = {"plain": plain.facts(), "taught": taught.facts(), "gain": gain(taught, plain)}
    return {"share": share, "layers": layers, "labelled": rows, **facts}


def _rows(dataset: Any, names: dict[str, str]) -> list[dict[str, str]]:
    pairs = zip(dataset.texts, dataset.targets, strict=True)
    return [{names["text"]: text, names["label"]: dataset.labels[row[0]]} for text, row in pairs]


if __name__ == "__main__":
    main()
