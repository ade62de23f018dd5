"""onnxruntime's own int8 on batches of texts, for the servers that gather them.

MODEL: the folder of benchmarks.peers.models. THREADS: onnxruntime's threads per run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer


class Model:
    """The model of one worker."""

    def __init__(self) -> None:
        folder = Path(os.environ["MODEL"])
        self._tokenizer = Tokenizer.from_file(str(folder / "checkpoint" / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(512)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self._session = ort.InferenceSession(str(folder / "ort_int8.onnx"), options, providers=["CPUExecutionProvider"])
        self._names = [i.name for i in self._session.get_inputs()]
        self._labels = list(json.loads((folder / "checkpoint" / "config.json").read_text())["id2label"].values())

    def answers(self, texts: list[str]) -> list[dict[str, Any]]:
        """Return the label of each text, and the score of every label."""
        found = self._tokenizer.encode_batch(texts)
        of = {
            "input_ids": [e.ids for e in found],
            "attention_mask": [e.attention_mask for e in found],
            "token_type_ids": [e.type_ids for e in found],
        }
        logits = self._session.run(None, {name: np.array(of[name]) for name in self._names})[0]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        return [
            {
                "label": self._labels[int(row.argmax())],
                "score": float(row.max()),
                "scores": dict(zip(self._labels, row.tolist(), strict=True)),
            }
            for row in scores
        ]
