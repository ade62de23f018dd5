"""A bundle small enough to compute by hand: the logits of a text are the sum of its words' rows.

    word      retailer-like label 0   1    2
    good              2               0    0
    bad               0               2    0
    odd               0               0    2
    (others)          0               0    0

Made with onnx.helper and a WordLevel tokenizer; no torch. `[CLS] … [SEP]` around, 8 tokens at most. Bundles of pairs
have `[CLS] … [SEP] … [SEP]`, and the words of the second text count twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from inferer.bundle.files import sha256_of
from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SIGMOID, SINGLE_LABEL
from inferer.bundle.reader import FORMAT_VERSION, sealed

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "odd", "plain")
LABELS = ("pos", "neg", "other")
INFERENCE = ("entailment", "neutral", "contradiction")
MAX_LENGTH = 8
# Every word's row of logits; a text's are their sum.
TABLE = np.zeros((len(WORDS), len(LABELS)), dtype=np.float32)
TABLE[4, 0] = TABLE[5, 1] = TABLE[6, 2] = 2.0
# The golden set: texts with the logits that the table gives them, by hand. int8 is the same model here.
GOLDEN = [
    {"text": text, "fp32": logits, "int8": logits}
    for text, logits in (
        ("good", [2.0, 0.0, 0.0]),
        ("bad plain bad", [0.0, 4.0, 0.0]),
        ("odd odd good", [2.0, 0.0, 4.0]),
        ("good good good plain plain bad good", [6.0, 2.0, 0.0]),  # the last word is beyond 8 tokens
    )
]


def tokenizer() -> Tokenizer:
    """Return the WordLevel tokenizer."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return words


def model(inputs: tuple[str, ...] = ("input_ids", "attention_mask"), table: np.ndarray = TABLE) -> onnx.ModelProto:
    """Return the ONNX model: rows gathered by id, masked, summed over the tokens."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    summed = "rows"
    if "attention_mask" in inputs:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["masked"]),
        ]
        summed = "masked"
    if "token_type_ids" in inputs:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["types", "last"], ["second"]),
            helper.make_node("Mul", [summed, "second"], ["again"]),
            helper.make_node("Add", [summed, "again"], ["weighted"]),
        ]
        summed = "weighted"
    nodes.append(helper.make_node("ReduceSum", [summed, "tokens"], ["logits"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(table[0])])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_bundle(folder: Path, *, onnx_model: onnx.ModelProto | None = None, **changes: Any) -> Path:
    """Write a whole, valid bundle into `folder`; `changes` go over the manifest. Return the folder.

    problem_type, labels and id2label are written to config.json alike.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problem_type = changes.pop("problem_type", SINGLE_LABEL)
    labels = changes.pop("labels", LABELS)
    onnx.save(onnx_model or model(), folder / "model_quantized.onnx")
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "problem_type": problem_type,
        "vocab_size": len(WORDS),
    }
    (folder / "config.json").write_text(json.dumps(config))
    manifest = {
        "format_version": FORMAT_VERSION,
        "problem_type": problem_type,
        "max_length": MAX_LENGTH,
        "max_positions": 16,
        "truncation": "head",
        "thresholds": dict.fromkeys(labels, 0.5) if problem_type == MULTI_LABEL else None,
        "windows": {"overlap": 2, "pooling": "mean"},
        "abstain_threshold": None,
        "temperature": 1.0,
        "platt": None,
        "quantization": {"scheme": "int8-tensor", "quantized_matmuls": 0},
        "golden": GOLDEN,
        **changes,
    }
    return seal(folder, manifest)


def write_inference_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle of natural language inference, in which good entails, odd is neutral and bad contradicts."""
    pairs = {("good", "good"): [6.0, 0.0, 0.0], ("odd bad", "bad"): [0.0, 2.0, 6.0]}
    return _write_pair_bundle(folder, pairs, TABLE[:, [0, 2, 1]], **{"labels": INFERENCE, **changes})


def write_rank_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle that ranks: good is worth 1, odd 0.5 and bad -1."""
    table = np.zeros((len(WORDS), 1), dtype=np.float32)
    table[4:7, 0] = 1.0, -1.0, 0.5
    pairs = {("good", "good"): [3.0], ("odd", "bad bad"): [-3.5]}
    given = {"labels": ("relevance",), "problem_type": REGRESSION, "activation": SIGMOID, **changes}
    return _write_pair_bundle(folder, pairs, table, **given)


def _write_pair_bundle(
    folder: Path, pairs: dict[tuple[str, str], list[float]], table: np.ndarray, **changes: Any
) -> Path:
    golden = [{"text": a, "text_pair": b, "fp32": row, "int8": row} for (a, b), row in pairs.items()]
    onnx_model = model(("input_ids", "attention_mask", "token_type_ids"), table)
    given = {"text_pair": True, "truncation": "longest_first", "golden": golden, "onnx_model": onnx_model, **changes}
    return write_bundle(folder, **given)


def seal(folder: Path, manifest: dict[str, Any]) -> Path:
    """Write the manifest with its own hash and those of the files that are in `folder` now."""
    files = {f.name: sha256_of(f) for f in sorted(folder.iterdir()) if f.name != "inferer.json"}
    (folder / "inferer.json").write_text(json.dumps(sealed({**manifest, "files": files})))
    return folder
