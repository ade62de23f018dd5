"""FastAPI and the pipeline on Optimum's int8 model, the recipe avx512_vnni; FastAPI's own pool of threads.

MODEL: the folder of benchmarks.peers.models. THREADS: onnxruntime's threads per run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnxruntime as ort
from fastapi import FastAPI
from optimum.onnxruntime import ORTModelForSequenceClassification
from pydantic import BaseModel
from transformers import PreTrainedTokenizerFast, pipeline

FOLDER = Path(os.environ["MODEL"])
options = ort.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
model = ORTModelForSequenceClassification.from_pretrained(
    FOLDER / "optimum", file_name="model_quantized.onnx", session_options=options, trust_remote_code=False
)
special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(FOLDER / "checkpoint" / "tokenizer.json"), model_max_length=512, **special
)
classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", trust_remote_code=False)
app = FastAPI()


class Question(BaseModel):
    """One text."""

    text: str


@app.post("/predict")
def predict(question: Question) -> dict[str, Any]:
    """Answer with the label and the score of each."""
    found = classify(question.text, top_k=None, truncation=True)
    scores = {one["label"]: one["score"] for one in found}
    return {"label": found[0]["label"], "score": found[0]["score"], "scores": scores}
