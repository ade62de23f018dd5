"""config.json of any version of transformers, read exactly or refused by key.

transformers keeps a key that it does not know as an attribute that nothing reads, and computes other scores.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, GenerationConfig, PretrainedConfig
from transformers.activations import ACT2FN

from training.model.custom_code import RefusedError, refuse_code
from training.quiet import quiet_transformers

# Keys that 4.30 to 4.57 read for some architectures and 5 no longer does, each with the values that have no effect.
_DROPPED: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "pruned_heads": (None, {}),
    "untie_r": (None, True),
}
# Keys of ModernBERT that 5 reads and 4 keeps without reading, such as those of a base model that 5 saved.
_SINCE_5 = ("rope_parameters", "layer_types", "sliding_window")
_OUTPUTS = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
# Keys without an effect that published checkpoints carry from version to version.
_IDLE = {
    "_name_or_path",
    "cross_attention_hidden_size",
    "directionality",
    "down_scale_factor",
    "finetuning_task",
    "gap_size",
    "gradient_checkpointing",
    "language",
    "model_type",
    "name_or_path",
    "net_structure_type",
    "num_labels",
    "num_memory_blocks",
    "output_past",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "repad_logits_with_grad",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "task_specific_params",
    "tie_encoder_decoder",
    "tie_weights_",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "xla_device",
}
_OURS = "inferer_"  # what training notes
_NESTED = ("rope_parameters", "rope_scaling")


def read_config(source: str | Path, **options: Any) -> PretrainedConfig:
    """Return the configuration in a folder or of the hub, set to compute plain logits.

    Raises RefusedError for custom code and for keys that would lose their effect, and transformers' own errors.
    """
    from huggingface_hub.errors import StrictDataclassError  # comes with transformers

    found, _ = PretrainedConfig.get_config_dict(source, **options)
    stock = f"if its weights fit the stock architecture {found.get('model_type')!r}, delete auto_map from a copy"
    refuse_code("config.json", found, stock)
    _refuse_unknown_type(found)
    try:
        with quiet_transformers(bars=True):  # it warns of ids of special tokens that nothing reads
            config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    except StrictDataclassError as error:  # a value of another type, or outside the choices of its field
        raise RefusedError(f"config.json: {' '.join(str(error).split())}") from error
    _refuse_lost_keys(found, config)
    _refuse_values(found, config)
    config._attn_implementation = None
    for key, value in _OUTPUTS.items():
        setattr(config, key, value)
    config.chunk_size_feed_forward = 0  # it saves memory, and changes no score
    return config


def unread_keys(config: PretrainedConfig) -> list[str]:
    """Return the keys of a config.json that nothing reads and no published one carries."""
    found = vars(config)
    words = _words(type(config)) | set(GenerationConfig._get_default_generation_params()) | _IDLE | set(_DROPPED)
    nested = [key for name in _NESTED if isinstance(found.get(name), dict) for key in _nested(found[name])]
    return [
        key
        for key in (*found, *nested)
        if not hasattr(type(config), key)
        and key not in words
        and not key.startswith(("_", _OURS))
        and not key.endswith("_token_id")
    ]


def _refuse_unknown_type(found: dict[str, Any]) -> None:
    """Raise RefusedError for an architecture that the installed version does not have."""
    kind, writer = found.get("model_type"), found.get("transformers_version")
    here = transformers.__version__
    if kind is None or kind in CONFIG_MAPPING:
        return
    newer = writer and _release(writer) > _release(here)
    remedy = f"install {writer} or later" if newer else "fine-tune a base model that it knows, such as modernbert"
    told = f"config.json has model_type: {kind!r}{_written_by(writer)}, unknown to transformers {here}"
    raise RefusedError(f"{told}; {remedy}")


def _written_by(writer: object) -> str:
    return f" (written by transformers {writer})" if writer else ""


def _refuse_lost_keys(found: dict[str, Any], config: PretrainedConfig) -> None:
    """Raise RefusedError for keys that the version that wrote them reads in another way than the installed one."""
    here, writer = transformers.__version__, found.get("transformers_version")
    by = _written_by(writer)
    words = _words(type(config))
    for key, idle in _DROPPED.items():
        if key in found and found[key] not in idle and key not in words:
            raise RefusedError(
                f"config.json has {key}: {found[key]!r}{by}, which transformers {here} does not compute for "
                f"{config.model_type!r}, so scores would be wrong; expected {idle[-1]!r}: fine-tune a base with it"
            )
    if config.model_type == "modernbert" and writer and _release(writer) < (5,):
        for key in (key for key in _SINCE_5 if found.get(key) is not None):
            raise RefusedError(
                f"config.json has {key}: {found[key]!r}{by}, which {writer} did not read and {here} does; delete it "
                f"from a copy if {writer} trained the model"
            )
    unread = unread_keys(config)
    if unread and writer and _release(writer) > _release(here):
        named = ", ".join(f"{key}: {found[key]!r}" if key in found else key for key in unread)
        raise RefusedError(
            f"config.json has {named}, written by transformers {writer} and unknown to {here}, the one installed; "
            f"install {writer} or later; what is a note of your own can go from a copy"
        )


def _refuse_values(found: dict[str, Any], config: PretrainedConfig) -> None:
    """Raise RefusedError for values that transformers takes and computes wrongly or not at all."""
    rules = [("quantization_config", None, "save the weights dequantized"), ("add_cross_attention", False, "set false")]
    for key, idle, remedy in rules:
        if found.get(key):
            raise RefusedError(f"config.json has {key}: {found[key]!r}, expected {json.dumps(idle)}; {remedy}")
    for key, value in found.items():
        activation = key.endswith(("_act", "activation")) and not key.startswith(("summary_", _OURS))
        if activation and isinstance(value, str) and value not in ACT2FN:
            raise RefusedError(f"config.json has {key}: {value!r}, expected one of {', '.join(sorted(ACT2FN))}")
    if config.model_type == "modernbert":
        scaling = found.get("rope_scaling")
        if isinstance(scaling, dict) and "type" in scaling and "rope_type" not in scaling:
            raise RefusedError(
                f"config.json has rope_scaling: {scaling!r}; transformers {transformers.__version__} reads rope_type "
                "in place of type: rename the key in a copy"
            )
        if "local_rope_theta" in found and found["local_rope_theta"] is None:
            raise RefusedError(
                "config.json has local_rope_theta: null, expected a number: that of global_rope_theta, in a copy"
            )
        if found.get("local_attention", 0) < 0:
            raise RefusedError(f"config.json has local_attention: {found['local_attention']!r}, expected 0 or more")


def _release(version: object) -> tuple[int, ...]:
    """Return the three numbers of a version of transformers."""
    return tuple(int(number) for number in re.findall(r"\d+", str(version))[:3])


def _nested(found: dict[str, Any]) -> list[str]:
    """Return the keys of a dictionary and of those in it."""
    return [
        key for name, value in found.items() for key in (name, *(_nested(value) if isinstance(value, dict) else ()))
    ]


def _words(kind: type[PretrainedConfig]) -> frozenset[str]:
    """Return each word in the source of a configuration and its model; another key has no effect."""
    modules = {one.__module__ for one in kind.__mro__ if one.__module__.startswith("transformers.models.")}
    modules |= {name.replace(".configuration_", ".modeling_") for name in modules}
    return frozenset().union(*map(_words_of, (*modules, "transformers.modeling_rope_utils")))


@functools.cache
def _words_of(module: str) -> frozenset[str]:
    try:
        found = importlib.import_module(module)
    except ImportError:  # the configuration of an architecture without a model for torch
        return frozenset()
    return frozenset(re.findall(r"\w+", inspect.getsource(found)))
