"""Small classifiers with random weights, made on the spot: one per architecture, each with its own kind of tokenizer.

Seeds are fixed, and the weights are large enough that texts get different answers. What is made lies
under pytest's base folder and is made once a session, whichever test file asks first.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AlbertTokenizerFast,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    CamembertConfig,
    CamembertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertTokenizerFast,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraTokenizerFast,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaTokenizerFast,
)

from export.__main__ import main
from inferer.bundle.manifest import SINGLE_LABEL

STEP = re.compile(r".* \d/\d \[\d\d:\d\d\]")  # one drawing of the export's bar

TESTED = (
    "bert", "roberta", "distilbert", "albert", "xlm-roberta", "electra", "camembert", "mpnet", "deberta-v2",
    "modernbert",
)  # fmt: skip
LAYERS = 2
POSITIONS = 64  # tokens that each of the models can read
# Not in alphabetical order: sorting them anywhere would move answers to another name.
LABELS = ("retailer", "brand", "other")
TEXTS = (
    "ok",
    "hand bags",
    "not worth the money, sadly",
    "the parcel came two days late and the box was open",
    "each time the ending surprised me more than before",
    "¿Dónde está la estación?",
)
LONG_TEXT = " ".join(TEXTS * 12)

_SEED = 20260107
_CORPUS = (
    "the quick brown fox jumps over the lazy dog",
    "not worth the money, sadly. best purchase ever!",
    "the parcel came two days late and the box was open",
    "i have read this novel three times, and each time the ending surprised me more than before",
    "an efficient index structure for similarity search over large collections of time series",
    "their support answered within the hour and sent a new charger without any questions",
    "hand bags and shoes, http://example.com/offer?id=42",
)
_WIDTH = 32
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def checkpoint(factory: pytest.TempPathFactory, architecture: str) -> Path:
    """Return the session's checkpoint folder of `architecture`; tests that change it copy it first."""
    folder = factory.getbasetemp() / "architectures" / architecture
    if not folder.is_dir():
        write_checkpoint(folder, architecture)
    return folder


def bundle(factory: pytest.TempPathFactory, architecture: str) -> Path:
    """Return the bundle that the session's checkpoint of `architecture` was exported to."""
    folder = factory.getbasetemp() / "architectures" / f"{architecture}-bundle"
    if not folder.is_dir():
        code = run_export(checkpoint(factory, architecture), folder, "--keep-fp32")
        if code != 0:
            pytest.fail(f"python -m export ended with {code} for {architecture}")
    return folder


def run_export(*arguments: object) -> int:
    """Run `python -m export` in this process, as a user would call it; return its exit code."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return main([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def refusal(checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """Export into `folder`, check that it is refused in words and nothing written, and return the words."""
    capsys.readouterr()
    assert run_export(checkpoint, folder / "bundle", *options) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not folder.exists() or not list(folder.iterdir())
    return said[said.index("export: ") :].rstrip("\n")


def write_checkpoint(folder: Path, architecture: str, **changes: Any) -> Path:
    """Write a random-weight checkpoint of `architecture` to `folder`, `changes` over its config. Return the folder."""
    tokenizer = _TOKENIZERS[architecture]()
    config_class, model_class, own = _MODELS[architecture]
    labels = changes.pop("labels", LABELS)
    config = config_class(
        **{
            **_COMMON,
            **own,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": SINGLE_LABEL,
            **changes,
        },
    )
    model = model_class(config)
    _fill(model)
    if model.config.vocab_size >= len(tokenizer):
        _balance(model, tokenizer)
    unfinished = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)
    return folder


def write_state_dict(folder: Path, source: Path, weights: object = None) -> tuple[Path, dict[str, Any]]:
    """Write the checkpoint folder `source` as a bare state dict, or `weights` in place of it, into `folder`.

    Returns the .pt file and the config that describes it; its model_name is a folder without weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "described"
    shutil.copytree(source, described, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "weights.pt"
    torch.save(state_of(source) if weights is None else weights, file)
    config = {
        "model_type": AutoConfig.from_pretrained(source).model_type,
        "model_name": str(described),
        "labels": list(LABELS),
        "problem_type": SINGLE_LABEL,
        "max_seq_length": POSITIONS,
    }
    return file, config


def copy_of(source: Path, target: Path, **changes: Any) -> Path:
    """Copy the checkpoint folder `source` to `target` and change its config.json; None takes a key out."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in {**config, **changes}.items() if value is not None}
    write_json(target / "config.json", kept)
    return target


def write_json(path: Path, value: object) -> Path:
    """Write `value` to the file `path` as JSON and return the path."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the checkpoint in `folder`, by name."""
    return dict(AutoModelForSequenceClassification.from_pretrained(folder).state_dict())


def checkpoint_logits(folder: Path, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
    """Return the logits that evaluation computes for `texts`, in batches."""
    from training.evaluation.checkpoint_logits import compute_logits, load_model

    loaded = load_model(folder)
    return compute_logits(loaded, loaded.encoder.encode(texts), batch_size)


def torch_logits(folder: Path, texts: Iterable[str], max_length: int = POSITIONS) -> np.ndarray:
    """Return what torch and transformers answer from the checkpoint in `folder`, float32 of [texts, labels]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)  # AutoTokenizer rebuilds it after its class
    rows = []
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            rows.append(model(**inputs).logits[0].numpy())
    return np.stack(rows)


def _fill(model: PreTrainedModel) -> None:
    """Give every weight a random value of a size that keeps activations near one, as training would."""
    numbers = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            random = torch.randn(weight.shape, generator=numbers)
            if weight.dim() == 2 and "embeddings." not in name:
                gain = 3 if weight.shape[0] == model.config.num_labels else 1  # so that answers lie far apart
                weight.copy_(random * gain * weight.shape[1] ** -0.5)
            elif weight.dim() == 2:
                weight.copy_(random)
            else:
                weight.add_(random * 0.1)


def _balance(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Move the last bias so that no label is ahead over all of TEXTS together."""
    model.eval()
    with torch.no_grad():
        rows = [
            model(**tokenizer(text, truncation=True, max_length=POSITIONS, return_tensors="pt")).logits
            for text in TEXTS
        ]
        (bias,) = (w for name, w in model.named_parameters() if name in ("classifier.bias", "classifier.out_proj.bias"))
        bias -= torch.cat(rows).mean(dim=0)


def _word_piece(wrapper: type[PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    words = sorted({word.strip(",.!") for line in _CORPUS for word in line.split()})
    letters = sorted({letter for line in _CORPUS for letter in line if letter != " "})
    pieces = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = _template(tokenizer)
    return wrapper(tokenizer_object=tokenizer, model_max_length=POSITIONS)


def _byte_level_bpe() -> PreTrainedTokenizerFast:
    return RobertaTokenizerFast(tokenizer_object=_bytes(), model_max_length=POSITIONS)


def _bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _unigram() -> PreTrainedTokenizerFast:
    tokenizer = _of_pieces(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    tokenizer.post_processor = _template(tokenizer)
    return AlbertTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS)


def _sentence_piece() -> PreTrainedTokenizerFast:
    tokenizer = _of_pieces(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS)


def _generic(made: Callable[[], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of `made` without a class of its own, as transformers 5 may save it."""
    own = made()
    special = {name: getattr(own, name) for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=own.backend_tokenizer,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


def _of_pieces(special: tuple[str, ...]) -> Tokenizer:
    """Return a unigram model of the corpus's letters and starts of words; longer pieces are likelier.

    Not trained: the trainer's vocabulary differs from run to run, and with it every answer.
    """
    letters = sorted({letter for line in _CORPUS for letter in line if letter != " "})
    starts = sorted({f"▁{word[:length]}" for line in _CORPUS for word in line.split() for length in (0, 2, 4)})
    pieces = [(name, 0.0) for name in special] + [(piece, len(piece) - 8.0) for piece in (*letters, *starts)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=special.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _template(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )


_TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bert": functools.partial(_word_piece, BertTokenizerFast),
    "distilbert": functools.partial(_word_piece, DistilBertTokenizerFast),
    "electra": functools.partial(_word_piece, ElectraTokenizerFast),
    "roberta": _byte_level_bpe,
    "albert": _unigram,
    "xlm-roberta": _sentence_piece,
    "camembert": functools.partial(_generic, _sentence_piece),
    "mpnet": functools.partial(_generic, _byte_level_bpe),
    "deberta-v2": functools.partial(_generic, _unigram),
    "modernbert": functools.partial(_generic, _byte_level_bpe),
}
# DistilBertConfig maps these common names to its own (dim, n_layers, …).
_COMMON: dict[str, Any] = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_MODELS: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel], dict[str, Any]]] = {
    "bert": (BertConfig, BertForSequenceClassification, {"intermediate_size": 2 * _WIDTH}),
    "distilbert": (DistilBertConfig, DistilBertForSequenceClassification, {"hidden_dim": 2 * _WIDTH}),
    "electra": (
        ElectraConfig,
        ElectraForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "embedding_size": _WIDTH // 2},
    ),
    # Position ids count from the pad id (1) on, so that two of the positions are never reached.
    "roberta": (
        RobertaConfig,
        RobertaForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
    ),
    "xlm-roberta": (
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
    ),
    "albert": (
        AlbertConfig,
        AlbertForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "embedding_size": _WIDTH // 2, "num_hidden_layers": LAYERS + 1},
    ),
    # The second layer sees four tokens to each side.
    "modernbert": (
        ModernBertConfig,
        ModernBertForSequenceClassification,
        {
            "intermediate_size": 2 * _WIDTH,
            "local_attention": 8,
            "layer_types": ["full_attention", "sliding_attention"],
            **dict.fromkeys(("bos_token_id", "cls_token_id"), 0),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
        },
    ),
    "camembert": (
        CamembertConfig,
        CamembertForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
    ),
    "mpnet": (
        MPNetConfig,
        MPNetForSequenceClassification,
        {"intermediate_size": 2 * _WIDTH, "max_position_embeddings": POSITIONS + 2},
    ),
    # As DeBERTa-v3 is, with fewer buckets.
    "deberta-v2": (
        DebertaV2Config,
        DebertaV2ForSequenceClassification,
        {
            "intermediate_size": 2 * _WIDTH,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "pooler_dropout": 0,
            "pooler_hidden_act": "gelu",
            "pooler_hidden_size": _WIDTH,
        },
    ),
}
