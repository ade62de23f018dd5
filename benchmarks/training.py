"""Benchmark of a recipe's training time and accuracy against the Trainer's default batching.

Ours: texts padded to the longest of their batch, texts of similar length together, bf16 where the CPU has it. The
default: every text padded to max_length, in random order, fp32. Everything else is the same, the seeds too. Whole
runs, from the rows to the written checkpoint, take turns in one process; medians and ratios. The last line is JSON;
benchmarks/results/training.json has the whole.

    python -m benchmarks.training --config recipes/conference.toml --data title_conference.csv --learning-rate 1e-4
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import record
from training.pipeline import finetune
from training.recipe.checks import check_recipe
from training.recipe.recipe import AUTO, FP32, Recipe, make_recipe, read_recipe
from training.splits.splits import Splits, read_splits

WAYS = {
    "ours": {"pad_to_max_length": False, "group_by_length": True, "precision": AUTO},
    "default": {"pad_to_max_length": True, "group_by_length": False, "precision": FP32},
}


def timed(recipe: Recipe, parts: Splits, way: str, seed: int) -> dict[str, Any]:
    """Train once; return seconds, accuracy and macro-F1 on the held-out rows."""
    with tempfile.TemporaryDirectory() as folder:
        run = replace(recipe, output=Path(folder) / way, seed=seed, **WAYS[way])
        begin = time.perf_counter()
        figures = finetune(run, parts)
        return {
            "seconds": time.perf_counter() - begin,
            "accuracy": figures["accuracy"],
            "macro_f1": figures["macro_f1"],
            "n": figures["n"],
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="recipes/conference.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    given = {"file": args.data, "base_model": args.base_model, "learning_rate": args.learning_rate}
    recipe = check_recipe(make_recipe(read_recipe(Path(args.config)), given, Path(), "command line"))
    parts = read_splits(recipe)  # the same rows in every run, whatever its seed
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for round_number in range(args.rounds):
        for way in list(WAYS)[:: 1 if round_number % 2 == 0 else -1]:
            runs[way].append(timed(recipe, parts, way, round_number))
            print(f"round {round_number + 1} of {args.rounds}, {way}: {runs[way][-1]}")
    medians = {
        way: {name: statistics.median(run[name] for run in made) for name in ("seconds", "accuracy", "macro_f1")}
        for way, made in runs.items()
    }
    result = record.new(
        "training",
        recipe=recipe.name,
        base_model=recipe.base_model,
        max_length=recipe.max_length,
        train_rows=len(parts.train),
        runs=runs,
        medians=medians,
        time_over_default=medians["ours"]["seconds"] / medians["default"]["seconds"],
    )
    record.write(result)


if __name__ == "__main__":
    main()
