"""A runtime for MLServer, which gathers its batches.

The variables of batched.py. Question and answer are in the Open Inference Protocol; the one output of an answer holds a
JSON text per question.
"""

from __future__ import annotations

import json

from batched import Model
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    """The runtime of one worker."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer each text with its label and the score of every label."""
        answers = map(json.dumps, self.model.answers(StringCodec.decode_input(payload.inputs[0])))
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answers", list(answers))])
