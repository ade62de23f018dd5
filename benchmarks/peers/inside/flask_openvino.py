"""Flask and OpenVINO: int8 by NNCF where it could be made, else bfloat16; a request of its own per thread.

MODEL: the folder of benchmarks.peers.models. THREADS: OpenVINO's threads.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import openvino
from flask import Flask, Response, jsonify, request
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])
tokenizer = Tokenizer.from_file(str(FOLDER / "checkpoint" / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(512)
int8 = FOLDER / "openvino" / "int8.xml"
settings = {"INFERENCE_NUM_THREADS": int(os.environ["THREADS"]), "PERFORMANCE_HINT": os.environ["HINT"]}
compiled = openvino.Core().compile_model(int8 if int8.is_file() else FOLDER / "fp32.onnx", "CPU", settings)
names = [i.get_any_name() for i in compiled.inputs]
labels = list(json.loads((FOLDER / "checkpoint" / "config.json").read_text())["id2label"].values())
own = threading.local()
app = Flask(__name__)


@app.post("/predict")
def predict() -> Response:
    """Answer with the label and the score of each."""
    if not hasattr(own, "run"):
        own.run = compiled.create_infer_request()
    encoding = tokenizer.encode(request.get_json()["text"])
    of = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
    logits = own.run.infer({name: np.array([of[name]]) for name in names})[0][0]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = int(scores.argmax())
    return jsonify(
        label=labels[best], score=float(scores[best]), scores=dict(zip(labels, scores.tolist(), strict=True))
    )
