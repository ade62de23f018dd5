"""Flask and onnxruntime's own int8, nothing else: no batching, no checks, no limits.

MODEL: the folder of benchmarks.peers.models. THREADS: onnxruntime's threads per run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from flask import Flask, Response, jsonify, request
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])
tokenizer = Tokenizer.from_file(str(FOLDER / "checkpoint" / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(512)
options = ort.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = ort.InferenceSession(str(FOLDER / "ort_int8.onnx"), options, providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
labels = list(json.loads((FOLDER / "checkpoint" / "config.json").read_text())["id2label"].values())
app = Flask(__name__)


@app.post("/predict")
def predict() -> Response:
    """Answer with the label and the score of each."""
    encoding = tokenizer.encode(request.get_json()["text"])
    of = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
    logits = session.run(None, {name: np.array([of[name]]) for name in names})[0][0]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = int(scores.argmax())
    return jsonify(
        label=labels[best], score=float(scores[best]), scores=dict(zip(labels, scores.tolist(), strict=True))
    )
