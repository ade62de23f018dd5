"""Conversion from PyTorch to fp32 ONNX by torch.export, and the linear layers that int8 must cover."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from onnx.onnx_ml_pb2 import ModelProto, NodeProto
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from export.engine.graph import fold_constants
from export.engine.unsupported import cannot_be_exported
from inferer.tokens.encoding import INPUTS

OPSET = 18  # the one that torch 2.13's exporter writes; others it converts to
_SCOPES = "pkg.torch.onnx.name_scopes"  # the modules around a node, in its metadata
_LOGGERS = (
    *("torch.onnx", "torch.export", "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes"),
    *("torch._dynamo", "onnxscript", "onnx_ir"),
)
_MOST_BYTES = 2_000_000_000  # protobuf writes at most 2 GiB; the graph needs the rest
_TEXTS, _TOKENS = 2, 9  # of the example; both are dynamic, and 0 and 1 would be taken as constants


def token_linears(model: PreTrainedModel) -> Counter[str]:
    """Return the number of calls per text of each linear layer that runs on every token, found by one run of the model.

    Their input is 3-d, one row per token; layers of the classification head get one row per text, and the last layer of
    a decoder, which gives every token logits, is left out. ALBERT calls its one layer many times, and each call is a
    MatMul in the exported graph.
    """
    calls: Counter[str] = Counter()
    encoder, labels = f"{model.base_model_prefix}.", model.config.num_labels
    names: dict[torch.nn.Module, str] = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and (name.startswith(encoder) or module.out_features != labels)
    }

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        # DeBERTa's query and key also run on embeddings of distances, which are constants.
        calls[names[module]] += bool(inputs) and inputs[0].dim() == 3 and inputs[0].shape[1] == _TOKENS

    hooks = [module.register_forward_hook(count) for module in names]
    try:
        with torch.no_grad():
            model(**_example(model))
    except Exception as error:  # whatever the model's own code raises
        raise cannot_be_exported(model.config.model_type, error) from error
    finally:
        for hook in hooks:
            hook.remove()
    return +calls


def as_linears(model: PreTrainedModel) -> None:
    """Replace the Conv1D modules of GPT-2, which are linear layers with transposed weights, by linear layers."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, Conv1D):
                layer = torch.nn.Linear(module.nx, module.nf)
                layer.weight = torch.nn.Parameter(module.weight.detach().T.contiguous())
                layer.bias = module.bias
                setattr(parent, name, layer)


def to_onnx(model: PreTrainedModel, target: Path) -> None:
    """Write `model` to `target` as fp32 ONNX with the inputs of its architecture and the output `logits`.

    Nodes are called after their module and operator, …/query/MatMul. Attention is written out as matrix products
    ("eager"), which the rewriting of the encoder recognizes. Raises ExportError for a model that torch.export cannot
    trace for texts of any length.
    """
    example = _example(model)
    attention = model.config._attn_implementation
    kind = model.config.model_type
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size > _MOST_BYTES:
        raise cannot_be_exported(kind, f"its weights are {size / 1e9:.2f} GB; an ONNX file holds 2")
    try:
        with _quiet(), _without_caches(model), torch.no_grad():
            model.set_attn_implementation("eager")
            program = torch.onnx.export(
                model,
                kwargs=example,
                input_names=list(example),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(example, (torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC)),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch.export raises whatever the model's own code raises under it
        raise cannot_be_exported(kind, error) from error
    finally:
        model.set_attn_implementation(attention)
    assert program is not None  # noqa: S101 - it is one with dynamo
    proto = program.model_proto
    for value in proto.graph.input:
        if any(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            raise cannot_be_exported(kind, f"its graph fixes the shape of {value.name}")
    _name_nodes(proto)
    _share_weights(proto)
    fold_constants(proto)
    onnx.save(proto, target)


def model_inputs(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the inputs that the architecture reads.

    Token types are one where the model has more than one of them: RoBERTa takes them and has a single one.
    """
    taken = set(inspect.signature(model.forward).parameters)
    if int(getattr(model.config, "type_vocab_size", 0) or 0) < 2:
        taken.discard("token_type_ids")
    return tuple(name for name in INPUTS if name in taken)


def _example(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    shape = (_TEXTS, _TOKENS)
    pad = model.config.pad_token_id
    ids = torch.full(shape, 2 if pad != 2 else 3)
    filled = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    filled["attention_mask"][-1, -2:] = 0
    if isinstance(end := getattr(model.config, "eos_token_id", None), int):
        ids[:, -1] = end  # where BART looks for the text as a whole
    return {name: filled[name] for name in model_inputs(model)}


@contextlib.contextmanager
def _without_caches(model: PreTrainedModel) -> Iterator[None]:
    """Let decoders return no keys and values of earlier tokens, which are for the writing of texts."""
    configs: dict[int, Any] = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    caching = [config for config in configs.values() if getattr(config, "use_cache", False)]
    for config in caching:
        config.use_cache = False
    try:
        yield
    finally:
        for config in caching:
            config.use_cache = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: progress, advice that the export's checks make needless, tracebacks of what it raises."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_nodes(proto: ModelProto) -> None:
    """Call each node after the module that made it; drop what else the exporter notes on nodes.

    A module's later nodes of the same operator get numbers: /albert/…/query/MatMul_1.
    """
    used: Counter[str] = Counter()
    for node in proto.graph.node:
        name = f"/{_module(node).replace('.', '/')}/{node.op_type}".replace("//", "/")
        node.name = f"{name}_{used[name]}" if used[name] else name
        used[name] += 1
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:]


def _share_weights(proto: ModelProto) -> None:
    """Let nodes with equal weights read the same one: the exporter transposes anew for each call of ALBERT's layer."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in proto.graph.initializer:
        content = tensor.data_type, tuple(tensor.dims), hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).digest()
        renamed[tensor.name] = first.setdefault(content, tensor.name)
        if renamed[tensor.name] == tensor.name:
            kept.append(tensor)
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def _module(node: NodeProto) -> str:
    """Return the name of the module that made `node`, such as bert.encoder.layer.0.attention.self.query."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    named = [str(scope) for scope in ast.literal_eval(scopes)[:-1]]  # the last is the operator
    return named[-1] if named else ""
