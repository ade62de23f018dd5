"""Predictions of a bundle for the rows of a data set, as it would be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inferer import InfererError, ModelInferer, Prediction, TextError
from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import DataError, TrainingError
from training.evaluation.predictions import Predictions, first_highest


def predict_bundle(
    bundle: Path, dataset: Dataset, source: Path | str, threshold: float | None
) -> tuple[Predictions, dict[str, Any]]:
    """Return the predictions of `bundle` for `dataset` and the counts of texts truncated and abstained; shows a bar.

    Single-label: the best label, whether or not the bundle abstains. Multi-label: the labels at or above the bundle's
    thresholds, or `threshold`. source: the data's file, for messages. Raises DataError for texts that the bundle
    rejects, by row, and TrainingError for a bundle that cannot be run.
    """
    try:
        predictions = _predict(ModelInferer(bundle), dataset, source, threshold)
    except InfererError as error:
        raise TrainingError(str(error) if str(bundle) in str(error) else f"bundle {bundle}: {error}") from error
    scores = np.array([[one.scores[label] for label in dataset.labels] for one in predictions])
    if dataset.problem_type == REGRESSION:
        chosen = np.zeros_like(scores, dtype=bool)
    elif dataset.problem_type == SINGLE_LABEL:
        chosen = first_highest(scores)
    else:
        chosen = np.array([[label in one.labels for label in dataset.labels] for one in predictions])
    counts = {name: sum(bool(getattr(one, name)) for one in predictions) for name in ("truncated", "abstained")}
    return Predictions(scores, chosen), counts


def _predict(model: ModelInferer, dataset: Dataset, source: Path | str, threshold: float | None) -> list[Prediction]:
    faults: list[str] = []
    rejected = 0  # rows up to the last text that the bundle rejected
    while True:
        try:
            predictions = model.predict_batch(dataset.texts[rejected:], threshold=threshold, progress=not faults)
        except TextError as error:
            rejected += 1 + (error.index or 0)
            faults.append(f"row {rejected}, column '{dataset.columns.text_columns[error.side or 0]}': {error.problem}")
            continue
        if faults:
            raise DataError(source, faults)
        return predictions
