"""A linear head by logistic regression on the embeddings of the training texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from training.data.dataset import Dataset

_STEPS = 1000


class LinearHead(NamedTuple):
    """Weights [labels, width] and bias [labels] of the head, float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits [texts, labels] of `embeddings` [texts, width]."""
        return np.asarray(embeddings @ self.weight.T + self.bias, dtype=np.float32)

    def layer(self) -> nn.Linear:
        """Return the head as a layer of torch."""
        made = nn.Linear(self.weight.shape[1], len(self.bias))
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(self.weight))
            made.bias.copy_(torch.from_numpy(self.bias))
        return made


def fit_head(embeddings: NDArray[np.float32], train: Dataset) -> LinearHead:
    """Return the multinomial head fitted to `embeddings` [texts, width] of the rows of `train`.

    As SetFit fits it (Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022). The embeddings are scaled to
    a length of 1 on average first, which gives the penalty on weights the same meaning for every encoder.
    """
    scale = float(np.linalg.norm(embeddings, axis=1).mean()) or 1.0
    targets = np.array([row[0] for row in train.targets])
    model = LogisticRegression(max_iter=_STEPS).fit(embeddings.astype(np.float64) / scale, targets)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(bias) == 1:  # of the second of two labels; softmax of a difference is the sigmoid
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return LinearHead(weight / scale, bias)
