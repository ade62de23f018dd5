"""One conversion per model: tests export the same few checkpoints in many ways, and torch takes seconds for each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedModel

import export.pipeline

_WITHOUT_EFFECT = ("id2label", "label2id", "problem_type", "_name_or_path", "inferer_truncation", "inferer_threshold")


@pytest.fixture(scope="session", autouse=True)
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The export copies the ONNX file of a model with the same config and weights, once it is converted."""
    folder, convert = tmp_path_factory.mktemp("converted"), export.pipeline.to_onnx

    def cached(model: PreTrainedModel, target: Path) -> None:
        config = {key: value for key, value in model.config.to_dict().items() if key not in _WITHOUT_EFFECT}
        content = hashlib.sha256(f"{type(model).__name__} {config!r}".encode())
        for name, weight in sorted(model.state_dict().items()):
            content.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode() + weight.numpy().tobytes())
        file = folder / f"{content.hexdigest()}.onnx"
        if not file.is_file():
            convert(model, target)
            shutil.copy(target, file)
        else:
            shutil.copy(file, target)

    export.pipeline.to_onnx = cached
    yield
    export.pipeline.to_onnx = convert
