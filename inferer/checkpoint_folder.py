"""The fault of a folder that should be a checkpoint of a sequence classifier, told by the names of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from inferer.bundle.reader import CONFIG, is_bundle

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ADAPTER, _SENTENCES, _STATE = "adapter_config.json", "modules.json", "trainer_state.json"
# Heads that transformers has beside the sequence classifier's, and encoders without one.
_HEAD = re.compile(r"For[A-Z]\w*$|(LMHead|DoubleHeads)?Model$")
_OTHER_FORMATS = {"*.gguf": "GGUF", "tf_model*.h5": "TensorFlow", "flax_model*.msgpack": "Flax", "*.onnx": "ONNX"}
_Check = Callable[[Path], str | None]
_EXPECTED = f"expected a Hugging Face checkpoint folder ({CONFIG}, model.safetensors, tokenizer.json)"


def fault_of(folder: Path) -> str | None:
    """Return why the folder is not a checkpoint of a sequence classifier, with the remedy; None if it may be one."""
    return _first_fault(folder, (*_NO_MODEL, _head, _no_weights))


def fault_of_base(folder: Path) -> str | None:
    """Return why the folder is not a model with any head or none, with the remedy; None if it may be one."""
    return _first_fault(folder, (*_NO_MODEL, _no_weights))


def _first_fault(folder: Path, checks: Iterable[_Check]) -> str | None:
    return next((fault for check in checks if (fault := check(folder)) is not None), None)


def _empty(folder: Path) -> str | None:
    return None if any(folder.iterdir()) else f"is empty: no {CONFIG}; {_EXPECTED}"


def _bundle(folder: Path) -> str | None:
    return (
        "is a bundle, which an export wrote; expected the checkpoint that it was made from"
        if is_bundle(folder)
        else None
    )


def _adapter(folder: Path) -> str | None:
    if not (folder / _ADAPTER).is_file():
        return None
    base = _read(folder / _ADAPTER).get("base_model_name_or_path")
    return (
        f"has a LoRA adapter ({_ADAPTER}) of the base model {base!r}, not a whole model; merge it first: peft's "
        "AutoPeftModelForSequenceClassification.from_pretrained(FOLDER).merge_and_unload().save_pretrained(OTHER), "
        "and the tokenizer likewise"
    )


def _run(folder: Path) -> str | None:
    """Name the newest checkpoint in the output folder of a Trainer that saved no model of its own."""
    inside = {
        int(number.group(1)): one
        for one in folder.glob("checkpoint-*")
        if (number := re.fullmatch(r"checkpoint-(\d+)", one.name))
        and any((one / name).is_file() for name in (CONFIG, _ADAPTER))
    }
    if not inside or has_weights(folder):
        return None
    newest = inside[max(inside)]
    best = Path(str(_read(newest / _STATE).get("best_model_checkpoint") or newest.name)).name
    note = "" if best == newest.name else f" (the best by the run's own figures is {best})"
    return f"is the output folder of a Trainer, without a model of its own; give its newest checkpoint, {newest}{note}"


def _no_config(folder: Path) -> str | None:
    if (folder / CONFIG).is_file():
        return None
    other = _other_format(folder)
    return f"no {CONFIG}; {_EXPECTED}" if other is None else f"no {CONFIG}; {other}"


_NO_MODEL: tuple[_Check, ...] = (_empty, _bundle, _adapter, _run, _no_config)


def _head(folder: Path) -> str | None:
    config = _read(folder / CONFIG)
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    if not names or any("SequenceClassification" in name or not _HEAD.search(name) for name in names):
        return None
    if (folder / _SENTENCES).is_file():
        return (
            f"is a sentence-transformers model ({_SENTENCES}), which embeds texts and names no label; train a "
            "classifier on it: inferer train --base-model FOLDER"
        )
    stem = _HEAD.sub("", names[0])
    return (
        f"{CONFIG} names the architecture {names[0]}, expected a sequence classifier such as "
        f"{stem}ForSequenceClassification; train one on it: inferer train --base-model FOLDER"
    )


def _no_weights(folder: Path) -> str | None:
    if has_weights(folder):
        return None
    return _other_format(folder) or f"has {CONFIG} and no weights; expected model.safetensors or pytorch_model.bin"


def _other_format(folder: Path) -> str | None:
    for pattern, name in _OTHER_FORMATS.items():
        if found := sorted(folder.glob(pattern)):
            return (
                f"has weights for {name} alone ({found[0].name}); expected those of PyTorch, "
                "model.safetensors or pytorch_model.bin"
            )
    return None


def has_weights(folder: Path) -> bool:
    """Return whether the folder has a file of PyTorch weights."""
    return any(True for pattern in WEIGHTS for _ in folder.glob(pattern))


def _read(file: Path) -> dict[str, Any]:
    """Return the JSON table in `file`; empty where it is none, which the reader of the checkpoint reports."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
