"""Flask and the text-classification pipeline of transformers in fp32, as most tutorials have it.

MODEL: the folder of benchmarks.peers.models. THREADS: PyTorch's threads.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from flask import Flask, Response, jsonify, request
from transformers import pipeline

torch.set_num_threads(int(os.environ["THREADS"]))
classify = pipeline(
    "text-classification", model=str(Path(os.environ["MODEL"]) / "checkpoint"), device="cpu", trust_remote_code=False
)
app = Flask(__name__)


@app.post("/predict")
def predict() -> Response:
    """Answer with the label and the score of each."""
    found = classify(request.get_json()["text"], top_k=None, truncation=True)
    scores = {one["label"]: one["score"] for one in found}
    return jsonify(label=found[0]["label"], score=found[0]["score"], scores=scores)
