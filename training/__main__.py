"""`python -m training --config recipes/NAME.toml`, or the same by flags. Checks the data before torch."""

from __future__ import annotations

import sys
from pathlib import Path

from training.errors import TrainingError
from training.evaluation.model_folder import CONFIG
from training.recipe.checks import check_recipe
from training.recipe.flags import parser
from training.recipe.recipe import Recipe, make_recipe, read_recipe
from training.run.output import OutputError, check_target, interrupt_on_signals
from training.run.processes import say
from training.run.resume import run_folder_for
from training.splits.splits import Splits, read_splits


def _report(parts: Splits) -> None:
    """Print what was read, and what was done with it."""
    for warning in parts.warnings:
        say(f"warning: {warning}; its figures will mean little")
    for note in parts.notes:
        say(note)
    classes = parts.facts["classes"]
    width = max(len(label) for label in parts.train.labels)
    say(f"{parts.facts['rows']} texts from {parts.source}")
    say(f"  {'label':<{width}}" + "".join(f"  {name.replace('_', ' '):>11}" for name in classes))
    for label in parts.train.labels:
        say(f"  {label:<{width}}" + "".join(f"  {counts[label]:>11}" for counts in classes.values()))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    given = vars(parser().parse_args(argv))
    overwrite, restart = given.pop("overwrite", False), given.pop("restart", False)
    config = given.pop("config", None)
    interrupt_on_signals()
    target = None
    try:
        recipe = read_recipe(Path(config)) if config else Recipe()
        recipe = check_recipe(make_recipe(recipe, given, Path(), "command line"))
        check_target(recipe.target, CONFIG, overwrite=overwrite)
        parts = read_splits(recipe)
        _report(parts)
        target = recipe.target
        from training.pipeline import finetune  # torch takes seconds to import; the data is right by now

        finetune(recipe, parts, restart=restart, overwrite=overwrite)
    except (TrainingError, OutputError) as error:
        say(f"training: {error}")
        return 2
    except OSError as error:  # no room left, a folder that was taken away
        say(f"training: {error.filename or target or ''}: {error.strerror or error}; {_what_is_left(target)}")
        return 2
    except KeyboardInterrupt:
        say(f"\ntraining: interrupted; {_what_is_left(target)}")
        return 130
    return 0


def _what_is_left(target: Path | None) -> str:
    if target is None or not run_folder_for(target).folder.is_dir():
        return "nothing was written"
    return f"what was done is in {run_folder_for(target).folder}; the same command goes on from there"


if __name__ == "__main__":
    sys.exit(main())
