"""The command `python -m training`: a recipe or flags to a checkpoint. Checks the data before it imports torch."""

from __future__ import annotations

import sys
from pathlib import Path

from inferer.bundle.reader import CONFIG
from training.errors import TrainingError
from training.recipe.checks import check_recipe
from training.recipe.flags import parser
from training.recipe.recipe import Recipe, make_recipe, read_recipe
from training.run.output import OutputError, check_target, interrupt_on_signals
from training.run.processes import say
from training.run.resume import run_folder_for
from training.search.budget import seconds_of
from training.search.search import check_search, search_folder_for, searched
from training.splits.splits import Splits, read_splits


def _report(splits: Splits) -> None:
    """Print warnings, notes and the rows of each label, or the range of a regression's numbers."""
    for warning in splits.warnings:
        say(f"warning: {warning}; its figures will mean little")
    for note in splits.notes:
        say(note)
    numbers = splits.train.numbers
    if numbers:
        column, mean = splits.train.labels[0], sum(numbers) / len(numbers)
        measured = f"{column} from {min(numbers):g} to {max(numbers):g}, {mean:.4g} on average"
        say(f"{splits.facts['rows']} texts from {splits.source}; {measured}")
        return
    classes = splits.facts["classes"]
    width = max(len(label) for label in splits.train.labels)
    say(f"{splits.facts['rows']} texts from {splits.source}")
    say(f"  {'label':<{width}}" + "".join(f"  {name.replace('_', ' '):>11}" for name in classes))
    for label in splits.train.labels:
        say(f"  {label:<{width}}" + "".join(f"  {counts[label]:>11}" for counts in classes.values()))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    given = vars(parser().parse_args(argv))
    overwrite, restart = given.pop("overwrite", False), given.pop("restart", False)
    config, auto = given.pop("config", None), given.pop("auto", None)
    interrupt_on_signals()
    target = None
    try:
        recipe = read_recipe(Path(config)) if config else Recipe()
        recipe = check_recipe(make_recipe(recipe, given, Path(), "command line"))
        check_target(recipe.target, CONFIG, overwrite=overwrite)
        budget = None if auto is None else seconds_of(auto)
        if budget is not None:
            check_search(recipe)
        splits = read_splits(recipe)
        _report(splits)
        target = recipe.target
        from training.pipeline import finetune  # torch takes seconds to import

        if budget is None:
            finetune(recipe, splits, restart=restart, overwrite=overwrite)
        else:
            with searched(recipe, splits, budget, restart=restart) as (found, search):
                finetune(found, splits, restart=restart, overwrite=overwrite, search=search)
    except (TrainingError, OutputError) as error:
        say(f"training: {error}")
        return 2
    except OSError as error:  # a full disk, a folder that was removed
        say(f"training: {error.filename or target or ''}: {error.strerror or error}; {_progress_kept(target)}")
        return 2
    except KeyboardInterrupt:
        say(f"\ntraining: interrupted; {_progress_kept(target)}")
        return 130
    return 0


def _progress_kept(target: Path | None) -> str:
    folders = [] if target is None else [run_folder_for(target).folder, search_folder_for(target)]
    if not (kept := [str(folder) for folder in folders if folder.is_dir()]):
        return "nothing was written"
    return f"progress is kept in {' and '.join(kept)}; the same command resumes from it"


if __name__ == "__main__":
    sys.exit(main())
