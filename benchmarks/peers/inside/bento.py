"""BentoML with its adaptive batching of up to 32 texts.

WORKERS, and the variables of batched.py. It batches only lists: `{"text": ["…"]}`.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
from batched import Model


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 30}, logging={"access": {"enabled": True}})
class Classifier:
    """The service of one worker."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=32)
    def predict(self, text: list[str]) -> list[dict[str, Any]]:
        """Answer with the label and the scores of each."""
        return self.model.answers(text)
