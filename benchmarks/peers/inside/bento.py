"""BentoML with onnxruntime's own int8 and its adaptive batching of up to 32 texts.

MODEL: the folder of benchmarks.peers.models. THREADS, WORKERS. It batches only lists: `{"text": ["…"]}`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 30}, logging={"access": {"enabled": True}})
class Classifier:
    """The model of one worker."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(FOLDER / "checkpoint" / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(512)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = ort.InferenceSession(str(FOLDER / "ort_int8.onnx"), options, providers=["CPUExecutionProvider"])
        self.names = [i.name for i in self.session.get_inputs()]
        self.labels = list(json.loads((FOLDER / "checkpoint" / "config.json").read_text())["id2label"].values())

    @bentoml.api(route="/predict", batchable=True, max_batch_size=32)
    def predict(self, text: list[str]) -> list[dict[str, Any]]:
        """Answer with the label and the score of each."""
        found = self.tokenizer.encode_batch(text)
        of = {
            "input_ids": [e.ids for e in found],
            "attention_mask": [e.attention_mask for e in found],
            "token_type_ids": [e.type_ids for e in found],
        }
        logits = self.session.run(None, {name: np.array(of[name]) for name in self.names})[0]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        return [
            {
                "label": self.labels[int(row.argmax())],
                "score": float(row.max()),
                "scores": dict(zip(self.labels, row.tolist(), strict=True)),
            }
            for row in scores
        ]
