"""Save small random checkpoints with their logits, under any transformers from 4.30 on: `python save.py FOLDER`.

It imports nothing of the project: it runs in environments with other versions.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification

MAX_LENGTH = 64
LABELS = ("retailer", "brand", "other")
_PIECES = ("in", "or", "the", "fox", "quick", "brown", "jump", "s", "parcel", "late", "read", "novel", "shoe", "bag")
_LETTERS = "abcdefghijklmnopqrstuvwxyzéàß0123456789.,!?'$#@-/:;()[]<>日本語"
_LINES = (
    "hand bags",
    "The quick brown FOX jumps over the lazy dog!",
    "not worth the money, sadly :(  two  spaces\tand a tab",
    "¿Dónde está la estación? Übergröße, cafe\u0301 and café",
    "日本語のテキスト and \uff26\uff55\uff4c\uff4c width \ufb01 ligature",
    "a text with [SEP] and </s> and <mask> [MASK] inside",
    "😀 emoji, a zero\u200bwidth space, non\u00a0breaking, control \x07 character",
    "don't stop; it's http://example.com/offer?id=42 (50% off)",
    "  leading and trailing  ",
    "I have read this novel three times, and each time the ending surprised me more than before. " * 3,
)
TEXTS = [f"{' '.join(_LETTERS[i : i + 4])} {line}" if i else line for i in range(5) for line in _LINES]

_COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
}
_AFTER_PAD = {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1}
_OWN: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": _AFTER_PAD,
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    "albert": {"embedding_size": 16, "num_hidden_layers": 3},
    "xlm-roberta": _AFTER_PAD,
    "camembert": _AFTER_PAD,
    "electra": {"embedding_size": 16},
    "mpnet": {"max_position_embeddings": MAX_LENGTH + 2},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": 32,
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "layer_norm_eps": 1e-7,
    },
    "modernbert": {"num_hidden_layers": 4, "local_attention": 8, "classifier_pooling": "mean"},
}
# ModernBERT's own thetas, as 4.48 to 4.57 and as 5 writes them; both are read.
_THETAS: dict[bool, dict[str, Any]] = {
    False: {"global_rope_theta": 5000.0, "local_rope_theta": 300.0},
    True: {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        }
    },
}


def main(folder: Path) -> None:
    """Save each architecture that this version of transformers has into `folder`, and the logits of TEXTS."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    major = int(transformers.__version__.split(".")[0])
    for architecture, own in _OWN.items():
        if architecture not in transformers.CONFIG_MAPPING:
            continue
        tokenizer = _TOKENIZERS[architecture](architecture)
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
        thetas = _THETAS[major >= 5] if architecture == "modernbert" else {}
        config = AutoConfig.for_model(
            architecture,
            **{**_COMMON, **own, **thetas, **ids, "vocab_size": len(tokenizer)},
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
            problem_type="single_label_classification",
        )
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).eval()
        _fill(model)
        _save(model, tokenizer, folder / architecture, binary=architecture == "roberta" and major < 5)


def _fill(model: Any) -> None:
    """Give each weight a random value as large as a trained one, rounded to bfloat16."""
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            random = torch.randn(weight.shape)
            matrix = weight.dim() == 2 and "embeddings." not in name
            size = 2 * weight.shape[-1] ** -0.5 if matrix else 1.0 if weight.dim() == 2 else 0.1
            weight.copy_((random * size + (weight if weight.dim() == 1 else 0)).bfloat16().float())


def _save(model: Any, tokenizer: Any, folder: Path, *, binary: bool) -> None:
    """Save to `folder`; in binary, half-precision weights with LayerNorm's old names."""
    with torch.no_grad():
        rows = [tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt") for text in TEXTS]
        logits = [model(**row).logits[0].tolist() for row in rows]
    tokenizer.save_pretrained(folder)
    if binary:
        state = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
            for name, weight in model.bfloat16().state_dict().items()
        }
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        torch.save(state, folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    ids = [row["input_ids"][0].tolist() for row in rows]
    (folder / "expected.json").write_text(json.dumps({"texts": TEXTS, "ids": ids, "logits": logits}))


def _word_piece(architecture: str) -> Any:
    special = (
        ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
        if architecture == "mpnet"
        else ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    )
    pieces = [*special, *_LETTERS, *(f"##{one}" for one in _LETTERS), *_PIECES, *(f"##{one}" for one in _PIECES)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(special))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    cls, sep = ("<s>", "</s>") if architecture == "mpnet" else ("[CLS]", "[SEP]")
    if architecture == "mpnet":
        tokenizer.post_processor = processors.RobertaProcessing((sep, 2), (cls, 0))
    else:
        tokenizer.post_processor = _template(tokenizer, cls, sep)
    name = {"bert": "Bert", "distilbert": "DistilBert", "electra": "Electra", "mpnet": "MPNet"}[architecture]
    return getattr(transformers, f"{name}TokenizerFast")(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _byte_level(architecture: str) -> Any:
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    if architecture == "modernbert":
        special = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the"), ("o", "r"), ("Ġ", "a"), ("a", "n"), ("Ġ", "b")]
    pieces = [*special, *letters, *("".join(pair) for pair in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.add_special_tokens(list(special))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if architecture == "modernbert":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.post_processor = _template(tokenizer, "[CLS]", "[SEP]")
        return _generic(tokenizer, special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _unigram(architecture: str) -> Any:
    """Return a tokenizer as SentencePiece's converters make it; that of DeBERTa falls back to bytes."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if architecture in ("albert", "deberta-v2"):
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    if architecture == "deberta-v2":
        special[:2] = ["[PAD]", "[UNK]"]
    spare = [f"<0x{byte:02X}>" for byte in range(256)] if architecture == "deberta-v2" else []
    pieces = [(name, 0.0) for name in special] + [(name, -20.0) for name in spare]
    pieces += [(piece, len(piece) - 9.0) for one in (*_LETTERS, *_PIECES, "") for piece in (one, f"▁{one}") if piece]
    pieces = list(dict(pieces).items())
    unknown = special.index("[UNK]" if architecture == "deberta-v2" else "<unk>")
    bytes_too = {"byte_fallback": True} if spare and _BYTES else {}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, **bytes_too))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    cls, sep = ("<s>", "</s>") if special[0] == "<s>" else ("[CLS]", "[SEP]")
    tokenizer.post_processor = _template(tokenizer, cls, sep)
    tokenizer.add_special_tokens(special)
    if architecture == "deberta-v2":
        return _generic(tokenizer, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"))
    name = {"albert": "Albert", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}[architecture]
    return getattr(transformers, f"{name}TokenizerFast")(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _generic(tokenizer: Tokenizer, special: tuple[str, ...]) -> Any:
    """Return the generic fast tokenizer: PreTrainedTokenizerFast in 4, TokenizersBackend in 5."""
    cls, pad, sep, unknown, mask = special
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        cls_token=cls,
        pad_token=pad,
        sep_token=sep,
        unk_token=unknown,
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )


def _template(tokenizer: Tokenizer, cls: str, sep: str) -> Any:
    return processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (cls, sep)],
    )


_BYTES = tuple(map(int, tokenizers.__version__.split(".")[:2])) >= (0, 19)  # Unigram takes byte_fallback
_TOKENIZERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("bert", "distilbert", "electra", "mpnet"), _word_piece),
    **dict.fromkeys(("roberta", "modernbert"), _byte_level),
    **dict.fromkeys(("albert", "xlm-roberta", "camembert", "deberta-v2"), _unigram),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
