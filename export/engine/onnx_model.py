"""Conversion from PyTorch to fp32 ONNX by optimum, and the linear layers that int8 must cover."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections import Counter
from pathlib import Path

import onnx
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from export.errors import ExportError
from inferer.errors import first_line

OPSET = 18  # optimum-onnx 0.1.0's recommended minimum for these architectures


def token_linears(model: PreTrainedModel) -> Counter[str]:
    """Return the number of calls per text of each linear layer that runs on every token, found by one run of the model.

    Their input is 3-d, one row per token; layers of the classification head get one row per text. ALBERT calls its one
    layer many times, and each call is a MatMul in the exported graph.
    """
    calls: Counter[str] = Counter()
    names: dict[torch.nn.Module, str] = {
        module: name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    }

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls[names[module]] += inputs[0].dim() == 3

    hooks = [module.register_forward_pre_hook(count) for module in names]
    try:
        with torch.no_grad():
            ids = torch.ones((1, 3), dtype=torch.long)
            model(input_ids=ids, attention_mask=torch.ones_like(ids))  # RoBERTa warns without a mask
    finally:
        for hook in hooks:
            hook.remove()
    return +calls


def to_onnx(model: PreTrainedModel, target: Path) -> None:
    """Write `model` to `target` as fp32 ONNX with the inputs of its architecture and the output `logits`.

    Raises ExportError for an architecture that optimum cannot export.
    """
    logger = logging.getLogger("optimum")
    level = logger.level
    logger.setLevel(logging.ERROR)
    folder = target.parent / "optimum"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # tracing notes constants; the parity check covers them
            # optimum passes dynamo=False to torch.onnx.export, whose default needs onnxscript
            onnx_export_from_model(model, folder, opset=OPSET, task="text-classification", do_validation=False)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ExportError(
            f"architecture '{model.config.model_type}' cannot be exported: {first_line(error)}"
        ) from error
    finally:
        logger.setLevel(level)
    proto = onnx.load(folder / "model.onnx")
    _drop_identities(proto.graph)
    onnx.save(proto, target)
    shutil.rmtree(folder)


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Let every node read a weight by its own name.

    The exporter puts Identity nodes before shared weights (ALBERT's layer), and quantization would silently leave those
    in fp32.
    """
    weights = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Identity" and names.get(node.input[0], node.input[0]) in weights:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = names[name]
    kept = [node for node in graph.node if not (node.op_type == "Identity" and node.output[0] in names)]
    del graph.node[:]
    graph.node.extend(kept)
