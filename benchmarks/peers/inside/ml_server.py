"""MLServer's runtime for onnxruntime's own int8; MLServer gathers its batches.

MODEL: the folder of benchmarks.peers.models. THREADS. Question and answer are in the Open Inference Protocol; the one
output of an answer holds a JSON text per question.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])


class Classifier(MLModel):
    """The model of one worker."""

    async def load(self) -> bool:
        """Load the model."""
        self.tokenizer = Tokenizer.from_file(str(FOLDER / "checkpoint" / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(512)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = ort.InferenceSession(str(FOLDER / "ort_int8.onnx"), options, providers=["CPUExecutionProvider"])
        self.names = [i.name for i in self.session.get_inputs()]
        self.labels = list(json.loads((FOLDER / "checkpoint" / "config.json").read_text())["id2label"].values())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer each text with the label and the score of each."""
        found = self.tokenizer.encode_batch(StringCodec.decode_input(payload.inputs[0]))
        of = {
            "input_ids": [e.ids for e in found],
            "attention_mask": [e.attention_mask for e in found],
            "token_type_ids": [e.type_ids for e in found],
        }
        logits = self.session.run(None, {name: np.array(of[name]) for name in self.names})[0]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        answers = [
            json.dumps(
                {
                    "label": self.labels[int(row.argmax())],
                    "score": float(row.max()),
                    "scores": dict(zip(self.labels, row.tolist(), strict=True)),
                }
            )
            for row in scores
        ]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answers", answers)])
