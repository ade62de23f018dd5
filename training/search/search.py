"""The steps of `--auto`: trials within the budget, then the settings of the final run.

Faults of the flags and the installation are found before torch is imported.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import DivergedError, TrainingError
from training.evaluation.predictions import Predictions
from training.recipe.recipe import Recipe
from training.report.evaluation_report import write_json
from training.report.metrics import choosing_figure, measure
from training.run.processes import count, say
from training.run.resume import open_work_folder
from training.search.budget import shown
from training.search.gain import gain
from training.search.outcome import figure_name, sentence, settings_text
from training.search.settings import Space, open_options
from training.splits.splits import Splits, check_trained
from training.splits.stratify import further_split

if TYPE_CHECKING:
    from training.search.study import Study, Tried

_SHARE, _LEAST = 0.1, 50  # of the training rows, to choose by
_JOURNAL, _RECORD = "trials.log", "search.json"


def check_search(recipe: Recipe) -> None:
    """Raise TrainingError where `recipe` leaves nothing to search, for several processes, and without optuna."""
    open_options(recipe)
    if recipe.teacher:
        raise TrainingError("--auto cannot be given with teacher: search without it, and train with the settings found")
    if count() > 1:
        raise TrainingError(f"--auto runs in one process, not in {count()}: search without the launcher")
    try:
        import training.search.study  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise TrainingError("--auto needs optuna: pip install optuna") from error


def search_folder_for(target: Path) -> Path:
    """Return the folder in which the search for a run of `target` works."""
    return target.with_name(f"{target.name}.search")


@contextmanager
def searched(
    recipe: Recipe, splits: Splits, budget: float, *, restart: bool
) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    """Search for `budget` seconds; yield the recipe with the settings found, and the search's record in JSON types.

    The trials stay in `NAME.search` until the block ends without an error, and the same search resumes from them; a
    longer budget continues it. Raises TrainingError for a different search that stopped there, unless `restart`
    discards it, and as `finetune` does.
    """
    from training.pipeline import with_defaults  # torch takes seconds to import

    rows = _rows(recipe, splits)
    default, identity = with_defaults(recipe, rows)
    space = Space(open_options(recipe), default)
    folder = search_folder_for(recipe.target)
    facts = {**identity, "searched": list(space.names), "optuna": version("optuna")}

    def has_progress() -> bool:
        return (folder / _RECORD).is_file() or any(folder.glob("*.npz"))

    with open_work_folder(folder, "search", facts, has_progress, restart=restart):
        record = _Search(space, rows, folder, budget).run()
        say(f"search: {sentence(record)}\n")
        # The defaults too: those of all training rows may have other epochs than the ones that were tried.
        kept = {name: getattr(default, name) for name in space.names}
        yield replace(recipe, **(record["best"]["settings"] if record["adopted"] else kept)), record


def _rows(recipe: Recipe, splits: Splits) -> Splits:
    """Return the rows of the trials: those to choose by are held out, and the run's held-out rows are not seen.

    They are the validation rows, or else a tenth of the training rows. Raises TrainingError for too few of these.
    """
    train, chosen = splits.train, splits.validation
    if chosen is None:
        n = max(_LEAST, round(_SHARE * len(train)), len(train.labels))
        if 2 * n > len(train):
            raise TrainingError(
                f"--auto takes {n} of the {len(train)} training rows to choose by; give {2 * n} or more"
            )
        train, chosen = further_split(train, splits.held_out, round(n / len(train), 6), recipe.seed, "search")
        check_trained(train, "the rows of --auto")
    return replace(splits, train=train, held_out=chosen, validation=None, calibration=None)


class _Search:
    """A search in its folder. metric: the figure that chooses, on the held-out rows of `rows`."""

    def __init__(self, space: Space, rows: Splits, folder: Path, budget: float) -> None:
        from training.search.study import Study

        self.space, self.rows, self.folder, self.budget = space, rows, folder, budget
        self.metric = choosing_figure(rows.held_out)
        self.study: Study = Study(folder / _JOURNAL, space, space.default.seed)
        self.deadline = time.monotonic() + budget - self.study.spent()

    def run(self) -> dict[str, Any]:
        """Try settings until the time left is less than a trial takes; return the record.

        A search that had ended, and whose final run was stopped, is not continued: that run must find its settings.
        """
        path = self.folder / _RECORD
        if path.is_file() and (record := json.loads(path.read_text(encoding="utf-8")))["budget_seconds"] == self.budget:
            return dict(record)
        names, n, tried = ", ".join(self.space.names), len(self.rows.held_out), self.study.tried()
        say(f"search of {names}: {shown(self.budget)}, by {figure_name(self.metric)} on {n} rows that are not held out")
        if tried:
            say(f"resuming after {len(tried)} trials of a search that was stopped (--restart begins anew)")
        while self._has_time():
            if (trial := self.study.next()) is None:
                say("  all settings have been tried")
                break
            self._try(trial)
        record = self._record()
        write_json(path, record)
        return record

    def _has_time(self) -> bool:
        tried, left = self.study.tried(), self.deadline - time.monotonic()
        return left > (statistics.median(one.seconds for one in tried) if tried else 0)

    def _try(self, trial: Any) -> None:
        from training.search.trial import OutOfTimeError, PrunedError, run_trial

        begun, best, found, note, judged = time.monotonic(), self._best(), None, "", True
        number = len(self.study.tried()) + 1
        is_default = number == 1
        try:
            found = run_trial(
                self.space.recipe_of(trial.params),
                self.rows,
                self.folder / "trial",
                lambda share, value: self.study.is_worse(trial, share, value),
                self.deadline,
            )
        except PrunedError:
            note = ", pruned"
        except OutOfTimeError:
            note, judged = ", out of time", False
        except DivergedError:
            if is_default:
                raise
            note = ", diverged"
        value = None if found is None else measure(self.rows.held_out, found, intervals=False).get(self.metric)
        if is_default and found is not None and value is None:
            name = figure_name(self.metric)
            raise TrainingError(f"--auto chooses by {name}, which the {len(self.rows.held_out)} rows to choose by lack")
        if found is not None and value is not None:
            np.savez(self._file(trial.number), scores=found.scores, chosen=found.chosen)
            note = ", the defaults" if is_default else ", best so far" if best is None or value > best[0] else ""
        seconds = time.monotonic() - begun
        self.study.end(trial, value, seconds, judged=judged)
        self._keep_files()
        settings = settings_text(self.space.settings(trial.params))
        figure = "" if value is None else f", {figure_name(self.metric)} {value:.4f}"
        left = shown(self.deadline - time.monotonic())
        say(f"  trial {number}: {settings}{figure}, {seconds:.0f} s{note}; {left} left")

    def _best(self) -> tuple[float, Tried] | None:
        """Return the highest figure and its trial, the first of equals."""
        ended = [(one.value, one) for one in self.study.tried() if one.value is not None]
        return max(ended, key=lambda pair: pair[0], default=None)

    def _file(self, number: int) -> Path:
        return self.folder / f"trial-{number}.npz"

    def _keep_files(self) -> None:
        """Remove the predictions of trials other than the first and the best."""
        best, first = self._best(), self.study.tried()[:1]
        kept = {self._file(one.number) for one in (*first, *([best[1]] if best else []))}
        for file in set(self.folder.glob("trial-*.npz")) - kept:
            file.unlink()

    def _predictions(self, trial: Tried) -> Predictions:
        with np.load(self._file(trial.number)) as file:
            return Predictions(file["scores"], file["chosen"])

    def _record(self) -> dict[str, Any]:
        tried, best = self.study.tried(), self._best()
        before = tried[0].value if tried else None
        default = {"settings": self.space.settings(self.space.default_params()), "value": before}
        record: dict[str, Any] = {
            "budget_seconds": self.budget,
            "seconds": self.study.spent(),
            "trials": len(tried),
            "pruned": sum(one.value is None for one in tried),
            "figure": self.metric,
            "rows": len(self.rows.held_out),
            "default": default,
            "best": default,
            "adopted": False,
            "gain": None,
        }
        if best is None or before is None or best[0] <= before:
            return record
        value, trial = best
        found = gain(self.rows.held_out, self._predictions(tried[0]), self._predictions(trial))
        return record | {
            "best": {"settings": self.space.settings(trial.params), "value": value},
            "adopted": True,
            "gain": {"value": found.value, "interval": [found.low, found.high]},
        }
