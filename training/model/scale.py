"""The scale of a regression's numbers: the model learns them with mean 0 and deviation 1, whatever their unit.

At the end the scale goes into the output layer, so that the checkpoint gives the numbers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from training.data.dataset import Dataset
from training.errors import TrainingError
from training.model.losses import is_relevance
from training.model.output_layer import output_layer


@dataclass(frozen=True)
class Scale:
    """Numbers are `mean` plus `deviation` times those that the model learns."""

    mean: float = 0.0
    deviation: float = 1.0

    def learned(self, number: float) -> float:
        """Return the number that the model learns."""
        return (number - self.mean) / self.deviation

    def logits(self, learned: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of the finished model from those of the model in training."""
        return np.asarray(learned * self.deviation + self.mean, dtype=np.float32)

    def into(self, model: PreTrainedModel) -> None:
        """Change the output layer so that the model gives the numbers themselves."""
        if self == Scale():
            return
        layer = output_layer(model)
        if layer is None:
            raise TrainingError(f"architecture '{model.config.model_type}' has no output layer for a regression")
        with torch.no_grad():
            layer.weight.mul_(self.deviation)
            layer.bias.mul_(self.deviation).add_(self.mean)


def scale_of(train: Dataset) -> Scale:
    """Return the scale of a regression's training rows; relevance from 0 to 1, and labels, have none."""
    if not train.numbers or is_relevance(train):
        return Scale()
    numbers = np.array(train.numbers)
    return Scale(float(numbers.mean()), float(numbers.std()) or 1.0)


def scale_of_kept_head(logits: NDArray[np.float32], *, relevance: bool) -> Scale:
    """Return the scale that puts the numbers of a base model, its `logits` [texts, 1], where learning starts.

    For the squared error they get mean 0 and deviation 1, as the numbers to learn have. For relevance only narrow ones
    do, such as similarities from 0 to 1: those of a reranker are logits already.
    """
    mean, deviation = float(logits.mean()), float(logits.std())
    if not deviation or (relevance and deviation >= 1):
        return Scale()
    return Scale(-mean / deviation, 1 / deviation)
