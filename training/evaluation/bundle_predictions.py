"""Predictions of a bundle for the rows of a data set, as it would be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inferer import InfererError, ModelInferer, Prediction, TextError
from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import DataError, TrainingError
from training.evaluation.predictions import Predictions, first_highest


@dataclass(frozen=True)
class BundlePredictions:
    """A bundle's predictions, with the counts of texts that were cut and of texts that it abstains from."""

    predictions: Predictions
    truncated: int
    abstained: int


def predict_bundle(
    bundle: Path, dataset: Dataset, source: Path | str, threshold: float | None = None
) -> BundlePredictions:
    """Return the predictions of `bundle` for the texts of `dataset`; shows a bar on stderr.

    Single-label: the best label, whether or not the bundle abstains. Multi-label: the labels at or above the bundle's
    thresholds, or `threshold`. source: the data's file, for messages. Raises DataError for texts that the bundle
    rejects, by row, and TrainingError for a bundle that cannot be run.
    """
    try:
        predictions = _predict(ModelInferer(bundle), dataset, source, threshold)
    except InfererError as error:
        raise TrainingError(str(error) if str(bundle) in str(error) else f"bundle {bundle}: {error}") from error
    scores = np.array([[one.scores[label] for label in dataset.labels] for one in predictions])
    if dataset.problem_type == SINGLE_LABEL:
        chosen = first_highest(scores)
    else:
        chosen = np.array([[label in one.labels for label in dataset.labels] for one in predictions])
    return BundlePredictions(
        Predictions(scores, chosen),
        sum(one.truncated for one in predictions),
        sum(bool(one.abstained) for one in predictions),
    )


def _predict(model: ModelInferer, dataset: Dataset, source: Path | str, threshold: float | None) -> list[Prediction]:
    faults: list[str] = []
    rejected = 0  # rows up to the last text that the bundle rejected
    while True:
        try:
            predictions = model.predict_batch(dataset.texts[rejected:], threshold=threshold, progress=True)
        except TextError as error:
            rejected += 1 + (error.index or 0)
            faults.append(f"row {rejected}, column '{dataset.columns.text_column}': {error.problem}")
            continue
        if faults:
            raise DataError(source, faults)
        return predictions
