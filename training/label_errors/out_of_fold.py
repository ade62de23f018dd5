"""Out-of-fold predictions: each row's are those of a model that was trained on the other folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.pipeline import train_and_predict
from training.recipe.recipe import Recipe
from training.run.processes import say
from training.splits.splits import Splits, check_trained, without_shared_texts
from training.splits.stratify import further_split


def predict_out_of_fold(recipe: Recipe, dataset: Dataset, fold_of: NDArray[np.int64], work: Path) -> Predictions:
    """Return the predictions for the rows of `dataset`, in their order, by a model for each fold of `fold_of` [rows].

    The models are trained as `recipe` says, in the folder `work`, which keeps nothing of them. Raises TrainingError
    before the first one where a fold leaves a label without rows, and as `finetune` does.
    """
    shape = (len(dataset), len(dataset.labels))
    scores, chosen = np.zeros(shape), np.zeros(shape, dtype=bool)
    folds = [np.flatnonzero(fold_of == fold) for fold in range(int(fold_of.max()) + 1)]
    parts = [_parts(recipe, dataset, rows, f"fold {fold}") for fold, rows in enumerate(folds, start=1)]
    for fold, (rows, part) in enumerate(zip(folds, parts, strict=True), start=1):
        say(f"fold {fold} of {len(folds)}: training on {len(part.train)} texts, {len(rows)} to predict")
        found = train_and_predict(replace(recipe, output=work / f"fold-{fold}"), part)
        scores[rows], chosen[rows] = found.scores, found.chosen
    return Predictions(scores, chosen)


def _parts(recipe: Recipe, dataset: Dataset, rows: NDArray[np.int64], name: str) -> Splits:
    """Return the parts of a fold: `rows` are held out, and the others are to train on and, if need be, to choose by."""
    held_out = dataset.subset(rows.tolist())
    others = np.setdiff1d(np.arange(len(dataset)), rows)
    train, _ = without_shared_texts(dataset.subset(others.tolist()), held_out)
    validation = None
    if recipe.chooses:
        share = round(recipe.validation_share * len(dataset) / len(train), 6)
        train, validation = further_split(train, held_out, share, recipe.seed, "validation")
    check_trained(train, name)
    return Splits(train, held_out, validation, None, name, (), (), {})
