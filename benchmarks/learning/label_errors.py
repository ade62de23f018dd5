"""Benchmark of `evaluate --find-label-errors` by planted errors: a share of single labels, flipped by a seed.

Each flipped row gets another label, drawn uniformly. Counts how many of the first n rows of the list are flipped ones,
for n = the rows flipped and n = 50. Beside it: the order by the score of the given label alone, without confident
learning, and rows at random. The data's own errors count as false alarms, so the figures are lower bounds of the
precision. The last line is JSON; benchmarks/results/label_errors.json has it.

    python -m benchmarks.learning.label_errors --config recipes/conference.toml --data title_conference.csv
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from training.data.dataset import Dataset
from training.data.reader import read_dataset
from training.label_errors.find import FOLDS
from training.label_errors.folds import fold_of_rows
from training.label_errors.issues import find_issues
from training.label_errors.out_of_fold import predict_out_of_fold
from training.recipe.recipe import make_recipe, read_recipe
from training.report.metrics import measure


def plant(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, set[int]]:
    """Return `dataset` with `share` of its labels flipped, and the flipped rows."""
    rng = np.random.default_rng(seed)
    flipped = set(rng.permutation(len(dataset))[: round(share * len(dataset))].tolist())
    steps = rng.integers(1, len(dataset.labels), len(dataset))
    targets = tuple(
        ((row[0] + int(step)) % len(dataset.labels),) if i in flipped else row
        for i, (row, step) in enumerate(zip(dataset.targets, steps, strict=True))
    )
    return replace(dataset, targets=targets), flipped


def hits(ranked: Sequence[int], flipped: set[int]) -> dict[str, int]:
    """Return how many of the first rows of `ranked` are flipped, for as many rows as are flipped and for 50."""
    return {f"of_first_{n}": len(flipped.intersection(ranked[:n])) for n in (len(flipped), 50)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="recipes/conference.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    given = {"base_model": args.base_model, "learning_rate": args.learning_rate, "epochs": args.epochs}
    recipe = make_recipe(read_recipe(Path(args.config)), {"file": args.data, **given}, Path(), "command line")
    dataset, flipped = plant(read_dataset(Path(args.data), recipe.columns()), args.share, args.seed)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fold_of = fold_of_rows(dataset, args.folds, recipe.seed)
        predictions = predict_out_of_fold(recipe, dataset, fold_of, Path(folder))
    issues = find_issues(dataset, predictions.scores)
    of_given = predictions.scores[np.arange(len(dataset)), [row[0] for row in dataset.targets]]
    result: dict[str, Any] = record.new(
        "label_errors",
        recipe=recipe.name,
        **given,
        folds=args.folds,
        seed=args.seed,
        rows=len(dataset),
        flipped=len(flipped),
        found=len(issues),
        flipped_found=len(flipped.intersection(issue.row for issue in issues)),
        planted=hits([issue.row for issue in issues], flipped),
        by_score_alone=hits(np.argsort(of_given, kind="stable").tolist(), flipped),
        at_random=len(flipped) / len(dataset),
        out_of_fold_accuracy=measure(dataset, predictions, intervals=False)["accuracy"],
        seconds=round(time.perf_counter() - begin),
    )
    record.write(result)


if __name__ == "__main__":
    main()
