"""Sound bundles, by their hashes and values, that hang or eat memory while they load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import normalizers

from tests.support import tiny


def endless(folder: Path) -> Path:
    """Write a bundle whose model loops for ever in its first run."""
    model = tiny.model()
    graph = model.graph
    graph.node[-1].output[0] = "sums"
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_next"]) for name in ("go_on", "values")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("values_next", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.node.append(helper.make_node("Loop", ["", "yes", "sums"], ["logits"], body=body))
    onnx.checker.check_model(model)
    return tiny.write_bundle(folder, onnx_model=model)


def growing(folder: Path) -> Path:
    """Write a bundle whose tokenizer makes ten letters of each `o`, twelve times."""
    tiny.write_bundle(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("o", "o" * 10)] * 12)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
