"""`python -m training --config recipes/NAME.toml`, or the same by flags. Checks the data before torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.csv_file import read_csv
from training.data import Dataset, check_class_sizes
from training.errors import TrainingError
from training.name_lists import read_name_lists
from training.output import OutputError, check_target, interrupt_on_signals
from training.recipe import Recipe, check_recipe, make_recipe, read_recipe


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Fine-tune a text classifier and write a Hugging Face checkpoint.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="RECIPE.toml", help="a recipe; flags override what it says")
    data = parser.add_argument_group("data")
    data.add_argument("--data", dest="file", metavar="FILE.csv", help="labelled texts, UTF-8, with a header")
    data.add_argument("--text-column", metavar="NAME")
    data.add_argument("--label-column", metavar="NAME", help="one label a row; with a separator, several")
    data.add_argument("--label-separator", metavar="CHAR", help='multi-label: what joins labels, such as "|"')
    data.add_argument("--label-columns", type=_names, metavar="A,B,…", help="multi-label: 0/1 columns")
    data.add_argument("--labels", type=_names, metavar="A,B,…", help="label names in order (default: sorted)")
    data.add_argument("--allow-unlabelled", action="store_true", help="an empty cell means none of the labels")
    data.add_argument("--test-share", type=float, help=f"share of rows held out ({Recipe.test_share})")
    data.add_argument(
        "--calibration-share", type=float, help="share of rows held out besides, for the export's --calibrate (0)"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--base-model",
        metavar="NAME",
        help='hub name or folder (default "embedded": MiniLM-L6, works offline)',
    )
    model.add_argument("--max-length", type=int, help=f"tokens read of a text ({Recipe.max_length})")
    run = parser.add_argument_group("training")
    run.add_argument("--epochs", type=float, help=f"({Recipe.epochs:g})")
    run.add_argument("--batch-size", type=int, help=f"({Recipe.batch_size})")
    run.add_argument("--learning-rate", type=float, help=f"({Recipe.learning_rate:g})")
    run.add_argument("--weight-decay", type=float, help=f"({Recipe.weight_decay:g})")
    run.add_argument("--warmup-ratio", type=float, help=f"({Recipe.warmup_ratio:g})")
    run.add_argument("--seed", type=int, help=f"({Recipe.seed})")
    out = parser.add_argument_group("output")
    out.add_argument("--output", metavar="FOLDER", help="the checkpoint (default checkpoints/<recipe's name>)")
    out.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")
    return parser


def _read(recipe: Recipe) -> Dataset:
    """Read and check the data, printing what was found."""
    if recipe.lists:
        dataset = read_name_lists(recipe.lists)
        path = next(iter(recipe.lists.values())).parent
    else:
        path = recipe.file or Path()
        dataset = read_csv(path, recipe.columns())
    for warning in check_class_sizes(dataset, recipe.test_share, path, recipe.calibration_share):
        print(f"warning: {warning}; its figures will mean little", file=sys.stderr)
    counts = ", ".join(f"{label} {n}" for label, n in dataset.counts().items())
    print(f"{len(dataset)} texts from {path}: {counts}", file=sys.stderr)
    return dataset


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    given = vars(_parser().parse_args(argv))
    overwrite = bool(given.pop("overwrite", False))
    config = given.pop("config", None)
    interrupt_on_signals()
    try:
        recipe = read_recipe(Path(config)) if config else Recipe()
        recipe = check_recipe(make_recipe(recipe, given, Path(), "command line"))
        check_target(recipe.target, "config.json", overwrite=overwrite)
        dataset = _read(recipe)
        from training.finetune import finetune  # torch takes seconds to import; the data is right by now

        finetune(recipe, dataset)
    except (TrainingError, OutputError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntraining: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
