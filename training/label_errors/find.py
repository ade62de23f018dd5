"""The steps of `evaluate --find-label-errors`: a model per fold, the labels that they contradict, the files.

Faults of the recipe, the folds and the installation are found before torch is imported.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.evaluation.model_folder import RECIPE, ModelFolder
from training.label_errors import files
from training.label_errors.folds import fold_of_rows
from training.recipe.recipe import Recipe, read_recipe
from training.report.evaluation_report import write_json
from training.report.metrics import measure
from training.run.output import fresh_folder

FLAG, FOLDS = "--find-label-errors", 5
_LIBRARIES = ("cleanlab", "scikit-learn", "torch", "transformers")


def recipe_of(model: ModelFolder) -> Recipe:
    """Return the recipe that trained `model`. Raises TrainingError for a model without one, and for a regression."""
    if model.is_bundle:
        raise TrainingError(f"model {model.path}: is a bundle; {FLAG} needs the checkpoint that it was exported from")
    if model.problem_type == REGRESSION:
        raise TrainingError(f"model {model.path}: is a regression; {FLAG} is for models of labels")
    if not (model.path / RECIPE).is_file():
        needs = f"{FLAG} trains as it says, and needs a checkpoint of `inferer train`"
        raise TrainingError(f"model {model.path}: has no {RECIPE}; {needs}")
    # A teacher has seen the labels that are to be found out; a fold is not a run to report.
    return replace(read_recipe(model.path / RECIPE), teacher=(), unlabelled=None, report_to=())


def find_label_errors(recipe: Recipe, dataset: Dataset, folds: int, target: Path, source: str) -> str:
    """Write the likeliest label errors of `dataset` into the folder `target`; return the summary for a terminal.

    source: the name of the data, for the record. Raises TrainingError for folds that the data cannot fill, and without
    cleanlab.
    """
    fold_of = fold_of_rows(dataset, folds, recipe.seed)
    try:
        from training.label_errors.issues import find_issues
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cleanlab":
            raise
        raise TrainingError(f"{FLAG} needs cleanlab: pip install cleanlab") from error
    from training.label_errors.out_of_fold import predict_out_of_fold  # torch takes seconds to import

    with fresh_folder(target) as folder:
        predictions = predict_out_of_fold(recipe, dataset, fold_of, folder)
        found = find_issues(dataset, predictions.scores)
        figures = measure(dataset, predictions, intervals=False)
        shown = ("accuracy", "micro_f1" if dataset.problem_type == MULTI_LABEL else "macro_f1")
        record = {
            "data": source,
            "rows": len(dataset),
            "found": len(found),
            "folds": folds,
            "seed": recipe.seed,
            "labels": files.counts_of(dataset, found),
            "out_of_fold": {name: figures[name] for name in shown},
            "versions": {name: version(name) for name in _LIBRARIES},
        }
        files.write_table(folder / files.TABLE, dataset, found)
        write_json(folder / files.RECORD, record)
    sys.stderr.write(f"wrote {target}\n")
    return files.summary(dataset, found, record, target)
