"""A model's file in a peer's own format, made in the peer's environment.

    python convert.py openvino|optimum|ctranslate2 FOLDER

FOLDER: that of benchmarks.peers.models, with `checkpoint`, `fp32.onnx` and `calibration.txt`. The result is
FOLDER/openvino/int8.xml, FOLDER/optimum or FOLDER/ctranslate2.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def to_openvino(folder: Path, target: Path) -> None:
    """Static int8 by NNCF, calibrated on the texts of calibration.txt."""
    import nncf
    import numpy as np
    import openvino
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "checkpoint" / "tokenizer.json"))
    tokenizer.no_padding()
    model = openvino.Core().read_model(folder / "fp32.onnx")
    names = [i.get_any_name() for i in model.inputs]

    def feeds(text: str) -> dict[str, Any]:
        encoding = tokenizer.encode(text)
        of = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
        return {name: np.array([of[name]]) for name in names}

    texts = (folder / "calibration.txt").read_text(encoding="utf-8").splitlines()
    data = nncf.Dataset(texts, feeds)
    int8 = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))
    target.mkdir()
    openvino.save_model(int8, target / "int8.xml")


def to_optimum(folder: Path, target: Path) -> None:
    """Dynamic int8 by Optimum's recipe for CPUs with AVX-512 VNNI."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    ORTModelForSequenceClassification.from_pretrained(
        folder / "checkpoint", export=True, trust_remote_code=False
    ).save_pretrained(target)
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer(target / "model.onnx").quantize(save_dir=target, quantization_config=config)
    (target / "model.onnx").unlink()


def to_ctranslate2(folder: Path, target: Path) -> None:
    """CTranslate2's int8 encoder, and the head as arrays: CTranslate2 has the encoder alone."""
    import numpy as np
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    model = AutoModelForSequenceClassification.from_pretrained(folder / "checkpoint", trust_remote_code=False)
    body = target.with_name(target.name + ".body")
    model.base_model.save_pretrained(body)
    tokenizer_file = str(folder / "checkpoint" / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, model_max_length=512, **SPECIAL).save_pretrained(body)
    TransformersConverter(str(body)).convert(str(target), quantization="int8")
    shutil.rmtree(body)
    heads = {
        f"{name}.{part}": getattr(getattr(model, name), part).detach().numpy()
        for name in ("pre_classifier", "classifier")
        if hasattr(model, name)
        for part in ("weight", "bias")
    }
    np.savez(target / "head.npz", **heads)


def main() -> None:
    """Convert."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    target = folder / kind
    made = target.with_name(target.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    {"openvino": to_openvino, "optimum": to_optimum, "ctranslate2": to_ctranslate2}[kind](folder, made)
    made.rename(target)


if __name__ == "__main__":
    main()
