"""One engine in a process of its own, which times its runs when the parent asks over a pipe.

    python timed.py ENGINE FOLDER THREADS

FOLDER: that of benchmarks.peers.models. A line of JSON on stdin is an order, a line on stdout its answer:
{"ids": [[…]], "seconds": s} runs the batch until s have passed, once at least, and answers {"ms": [per run]};
{"texts": [[…], …]} runs each text alone and answers {"logits": [[…], …]}. The first line on stdout is the version.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Ids = list[list[int]]
Run = Callable[[Any], Any]
# From token ids to the engine's own inputs, and from these to logits; only the second is timed.
Engine = tuple[str, Callable[[Ids], Any], Run]


def _arrays(ids: Ids, names: list[str]) -> dict[str, np.ndarray]:
    of = {"input_ids": np.array(ids, np.int64)}
    of["attention_mask"] = np.ones_like(of["input_ids"])
    of["token_type_ids"] = np.zeros_like(of["input_ids"])
    return {name: of[name] for name in names}


def pytorch(kind: str, folder: Path, threads: int) -> Engine:
    """PyTorch in fp32, in bfloat16, or with its dynamic int8."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "checkpoint", trust_remote_code=False).eval()
    if kind == "bf16":
        model = model.to(torch.bfloat16)
    if kind == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def prepare(ids: Ids) -> dict[str, Any]:
        found = torch.tensor(ids)
        return {"input_ids": found, "attention_mask": torch.ones_like(found)}

    def run(feeds: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return model(**feeds).logits.float().numpy()

    return f"torch {torch.__version__}", prepare, run


def onnxruntime(file: str, folder: Path, threads: int) -> Engine:
    """Onnxruntime with a file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return (
        f"onnxruntime {ort.__version__}",
        lambda ids: _arrays(ids, names),
        lambda feeds: session.run(["logits"], feeds)[0],
    )


def openvino(kind: str, folder: Path, threads: int) -> Engine:
    """OpenVINO, in bfloat16 on the fp32 file or in int8 by NNCF."""
    import openvino as ov

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if kind == "bf16":
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    file = folder / "fp32.onnx" if kind == "bf16" else folder / "openvino" / "int8.xml"
    compiled = ov.Core().compile_model(file, "CPU", settings)
    request = compiled.create_infer_request()
    names = [i.get_any_name() for i in compiled.inputs]
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    version = f"openvino {ov.__version__.split('-')[0]}, {precision}"
    return version, lambda ids: _arrays(ids, names), lambda feeds: request.infer(feeds)[0].copy()


def ctranslate2(_: str, folder: Path, threads: int) -> Engine:
    """CTranslate2's encoder in int8, and the head in numpy."""
    import ctranslate2 as ct2

    encoder = ct2.Encoder(str(folder / "ctranslate2"), device="cpu", compute_type="int8", intra_threads=threads)
    head = dict(np.load(folder / "ctranslate2" / "head.npz"))

    def prepare(ids: Ids) -> list[Any]:
        arrays = np.array(ids, np.int32), np.full(len(ids), len(ids[0]), np.int32)
        return [ct2.StorageView.from_array(array) for array in arrays]

    def run(feeds: list[Any]) -> Any:
        found = encoder.forward_batch(*feeds)
        if "pre_classifier.weight" in head:
            first = np.array(found.last_hidden_state)[:, 0]
            hidden = np.maximum(first @ head["pre_classifier.weight"].T + head["pre_classifier.bias"], 0)
        else:
            hidden = np.array(found.pooler_output)
        return hidden @ head["classifier.weight"].T + head["classifier.bias"]

    return f"ctranslate2 {ct2.__version__}", prepare, run


def ours(_: str, folder: Path, threads: int) -> Engine:
    """Our session, as `ModelInferer` loads it."""
    from inferer import ModelInferer
    from inferer.tokens.encoding import Encoding
    from inferer.version import __version__

    session = ModelInferer(folder / "bundle", intra_op_threads=threads)._session

    def prepare(ids: Ids) -> list[Encoding]:
        return [
            Encoding(np.array(row, np.int32), np.ones(len(row), np.int64), np.zeros(len(row), np.int64), len(row), ())
            for row in ids
        ]

    return f"inferer {__version__}", prepare, session.run_batch


ENGINES: dict[str, Callable[[Path, int], Engine]] = {
    "pytorch fp32": lambda folder, threads: pytorch("fp32", folder, threads),
    "pytorch bf16": lambda folder, threads: pytorch("bf16", folder, threads),
    "pytorch int8": lambda folder, threads: pytorch("int8", folder, threads),
    "ort fp32": lambda folder, threads: onnxruntime("fp32.onnx", folder, threads),
    "ort int8": lambda folder, threads: onnxruntime("ort_int8.onnx", folder, threads),
    "optimum int8": lambda folder, threads: onnxruntime("optimum/model_quantized.onnx", folder, threads),
    "openvino bf16": lambda folder, threads: openvino("bf16", folder, threads),
    "openvino int8": lambda folder, threads: openvino("int8", folder, threads),
    "ctranslate2 int8": lambda folder, threads: ctranslate2("int8", folder, threads),
    "ours": lambda folder, threads: ours("", folder, threads),
}


def main() -> None:
    """Load the engine and carry out orders until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints does not disturb the answers
    version, prepare, run = ENGINES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    answer: dict[str, Any] = {"version": version}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        order = json.loads(line)
        if "texts" in order:
            answer = {"logits": [np.asarray(run(prepare([ids])))[0].tolist() for ids in order["texts"]]}
            continue
        feeds = prepare(order["ids"])
        answer = {"ms": []}
        end = time.perf_counter() + order["seconds"]
        while not answer["ms"] or time.perf_counter() < end:
            began = time.perf_counter()
            run(feeds)
            answer["ms"].append((time.perf_counter() - began) * 1000)


if __name__ == "__main__":
    main()
