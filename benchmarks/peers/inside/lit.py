"""LitServe with onnxruntime's own int8, batches of up to 32 that wait for 5 ms at most.

MODEL: the folder of benchmarks.peers.models. THREADS, WORKERS, PORT.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])


class Classifier(litserve.LitAPI):
    """The model of one worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        self.tokenizer = Tokenizer.from_file(str(FOLDER / "checkpoint" / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(512)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = ort.InferenceSession(str(FOLDER / "ort_int8.onnx"), options, providers=["CPUExecutionProvider"])
        self.names = [i.name for i in self.session.get_inputs()]
        self.labels = list(json.loads((FOLDER / "checkpoint" / "config.json").read_text())["id2label"].values())

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text of a request."""
        return request["text"]

    def predict(self, texts: list[str]) -> np.ndarray:
        """Return the scores of a batch."""
        found = self.tokenizer.encode_batch(texts)
        of = {
            "input_ids": [e.ids for e in found],
            "attention_mask": [e.attention_mask for e in found],
            "token_type_ids": [e.type_ids for e in found],
        }
        logits = self.session.run(None, {name: np.array(of[name]) for name in self.names})[0]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True)

    def encode_response(self, scores: np.ndarray) -> dict[str, Any]:
        """Answer with the label and the score of each."""
        best = int(scores.argmax())
        return {
            "label": self.labels[best],
            "score": float(scores[best]),
            "scores": dict(zip(self.labels, scores.tolist(), strict=True)),
        }


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.005, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
