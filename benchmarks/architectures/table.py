"""The table of architectures in docs/export.md: a small random checkpoint of each, exported, and compared with torch.

    python -m benchmarks.architectures.table [NAME…]

Prints a row per architecture: its class, and a bound on the difference of its fp32 logits from torch's, or the sentence
of the refusal. Texts run alone and in batches, from one token to the most that the model reads.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from export.__main__ import main as export
from export.checkpoint import TESTED_TYPES
from export.engine.graph import Graph
from export.engine.layers import find_layers
from export.engine.pre_norm.layers import find_pre_norm_layers
from inferer.bundle.reader import FP32, FP32_MODEL, TOKENIZER, read_bundle
from inferer.session import Session
from inferer.tokens.encoding import Encoder, Encoding

PROMISED_FAST, PROMISED, CHECKED, REFUSED = (
    "promised and fast",
    "promised",
    "exported when checks pass",
    "refused",
)
OTHER_SCHEME = "exported with `--scheme {}`"
MOST_DIFFERENCE = 1e-4
_NEAR = 1e-5  # differences below come from rounding and vary with the CPU
_TOKENS = 64
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TEXTS = (
    "ok",
    "hand bags",
    "not worth the money sadly",
    "the parcel came two days late and the box was open",
    "each time the ending surprised me more than before " * 12,
)
_WORDS = sorted({word for text in _TEXTS for word in text.split()})
_COMMON: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": _TOKENS + 2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "num_labels": 3,
    "problem_type": "single_label_classification",
    "id2label": {0: "x", 1: "y", 2: "z"},
    "label2id": {"x": 0, "y": 1, "z": 2},
}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_hidden_size": 32,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
}
_DEBERTA_V2 = {**_DEBERTA, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
_OLD_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": _TOKENS}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 3,
    "max_position_embeddings": _TOKENS,
}
_WITHOUT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")


@dataclass(frozen=True)
class Case:
    """An architecture: its name in the table, its settings over the common ones, and the common ones it lacks."""

    shown: str
    settings: dict[str, Any]
    without: tuple[str, ...] = ()
    is_decoder: bool = False


CASES: dict[str, Case] = {
    "bert": Case("BERT", {}),
    "roberta": Case("RoBERTa", {}),
    "xlm-roberta": Case("XLM-RoBERTa", {}),
    "camembert": Case("CamemBERT", {}),
    "distilbert": Case("DistilBERT", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}),
    "albert": Case("ALBERT", {"embedding_size": 16}),
    "electra": Case("ELECTRA", {"embedding_size": 16}),
    "mpnet": Case("MPNet", {}),
    "deberta-v2": Case("DeBERTa v2, v3", _DEBERTA_V2),
    "modernbert": Case(
        "ModernBERT",
        {"local_attention": 8, "num_hidden_layers": 4, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "deberta": Case("DeBERTa v1", _DEBERTA),
    "ernie": Case("ERNIE", {}),
    "data2vec-text": Case("Data2Vec-text", {}),
    "megatron-bert": Case("Megatron-BERT", {}),
    "rembert": Case("RemBERT", {"input_embedding_size": 16, "output_embedding_size": 16}),
    "roformer": Case("RoFormer", {"embedding_size": 32}),
    "mobilebert": Case("MobileBERT", {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}),
    "nomic_bert": Case("NomicBERT", {}),
    "eurobert": Case("EuroBERT", _GROUPED),
    "gte": Case("GTE", {}),
    "jina_embeddings_v3": Case("Jina v3", {}),
    "roberta-prelayernorm": Case("RoBERTa-PreLayerNorm", {}),
    "xlm-roberta-xl": Case("XLM-RoBERTa-XL", {}),
    "xmod": Case("X-MOD", {"default_language": "en_XX", "languages": ["en_XX"]}),
    "xlm": Case("XLM", _XLM),
    "flaubert": Case("FlauBERT", _XLM),
    "luke": Case("LUKE", {"entity_vocab_size": 10, "entity_emb_size": 16}),
    "esm": Case("ESM", {"mask_token_id": 4, "token_dropout": False}),
    "big_bird": Case("BigBird", {}),
    "gpt2": Case("GPT-2", _OLD_GPT, is_decoder=True),
    "gpt_neox": Case("GPT-NeoX", {}, is_decoder=True),
    "opt": Case("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 32}, is_decoder=True),
    "bloom": Case("BLOOM", {"n_layer": 2, "n_head": 4}, is_decoder=True),
    "llama": Case("Llama", _GROUPED, is_decoder=True),
    "mistral": Case("Mistral", {**_GROUPED, "sliding_window": 16}, is_decoder=True),
    "qwen3": Case("Qwen 3", _GROUPED, is_decoder=True),
    "gemma3_text": Case("Gemma 3", {**_GROUPED, "sliding_window": 16}, is_decoder=True),
    "squeezebert": Case(
        "SqueezeBERT",
        {
            "embedding_size": 32,
            **{f"{name}_groups": 1 for name in ("q", "k", "v", "post_attention", "intermediate", "output")},
        },
    ),
    "ibert": Case("I-BERT", {}),
    "mra": Case("MRA", {}),
    "perceiver": Case(
        "Perceiver",
        {
            "num_latents": 8,
            "d_latents": 32,
            "d_model": 32,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 4,
            "num_cross_attention_heads": 4,
        },
    ),
    "fnet": Case("FNet", {}),
    "convbert": Case("ConvBERT", {"embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 2}),
    "yoso": Case("YOSO", {}),
    "canine": Case("CANINE", {}),
    "funnel": Case("Funnel", {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1]}, _WITHOUT),
    "longformer": Case("Longformer", {"attention_window": [16, 16]}),
    "nystromformer": Case("Nyströmformer", {"segment_means_seq_len": 64, "num_landmarks": 8}),
    "reformer": Case(
        "Reformer",
        {
            "attn_layers": ["local", "lsh"],
            "axial_pos_shape": [8, 8],
            "axial_pos_embds_dim": [16, 16],
            "max_position_embeddings": _TOKENS,
            "attention_head_size": 8,
            "feed_forward_size": 64,
            "is_decoder": False,
            "lsh_attn_chunk_length": 16,
            "local_attn_chunk_length": 16,
            "num_buckets": 4,
            "num_hashes": 1,
        },
    ),
    "xlnet": Case("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, _WITHOUT),
    "bart": Case("BART", _BART, _WITHOUT),
    "t5": Case("T5", _T5),
    "layoutlm": Case("LayoutLM", {}),
}


@dataclass(frozen=True)
class Row:
    """An architecture's class, and the measured difference, of which the table tells a bound, or why it is refused."""

    name: str
    kind: str
    difference: float | None = None
    int8_layers: int = 0
    sentence: str = ""

    def said(self) -> str:
        """Return the last column of the row."""
        if self.sentence or self.difference is None:
            return self.sentence
        bound = _NEAR if self.difference <= _NEAR else MOST_DIFFERENCE
        return f"{self.int8_layers} int8 layers; logits within {bound:.0e}"

    def markdown(self) -> str:
        """Return the row of the table."""
        return f"| {CASES[self.name].shown} (`{self.name}`) | {self.kind} | {self.said()} |"


def write_checkpoint(name: str, folder: Path, **changes: Any) -> None:
    """Write a checkpoint of the architecture `name` into `folder`, with `changes` over its settings.

    Its random weights have the size of trained ones.
    """
    case = CASES[name]
    common = {key: value for key, value in _COMMON.items() if key not in case.without}
    settings = {**common, **case.settings, **changes}
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(name, **settings))
    _fill(model)
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    _tokenizer(is_decoder=case.is_decoder).save_pretrained(folder)


def measure(name: str, scratch: Path, **changes: Any) -> Row:
    """Export a checkpoint of the architecture `name` by the command, and return its row.

    changes: over the architecture's settings. Ends the process where the bundle's logits differ from torch's.
    """
    checkpoint, bundle = scratch / name, scratch / f"{name}-bundle"
    write_checkpoint(name, checkpoint, **changes)
    said, code = _exported(checkpoint, bundle, "--keep-fp32")
    kind = PROMISED if name in TESTED_TYPES else CHECKED
    if code == 2 and (remedy := re.search(r"export with --scheme (\S+?),?( |$)", said)):
        kind = OTHER_SCHEME.format(remedy.group(1))
        keep = () if remedy.group(1) == FP32 else ("--keep-fp32",)
        said, code = _exported(checkpoint, bundle, "--scheme", remedy.group(1), *keep)
    if code == 2:
        sentence = said.removeprefix("export: ").removeprefix(f"architecture '{name}' cannot be exported: ")
        return Row(name, REFUSED, sentence=sentence.partition("; fine-tune another base model")[0])
    if code != 0:
        raise SystemExit(f"{name}: the export ended with {code}: {said}")
    difference = _difference(checkpoint, bundle)
    if not difference <= MOST_DIFFERENCE:
        raise SystemExit(f"{name}: the bundle's logits differ from torch's by {difference:.3g}")
    manifest = read_bundle(bundle).manifest
    quantized = int(manifest["quantization"]["quantized_matmuls"])
    if kind == PROMISED and _is_rewritten(bundle):
        kind = PROMISED_FAST
    return Row(name, kind, difference, quantized)


def _exported(checkpoint: Path, bundle: Path, *flags: str) -> tuple[str, int]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = export([str(checkpoint), str(bundle), "--max-length", str(_TOKENS), *flags])
    return said.getvalue().replace("\r", "\n").strip().splitlines()[-1], code


def _is_rewritten(bundle: Path) -> bool:
    """Return whether the export knows the encoder's layers, and so rewrites them."""
    graph = Graph(onnx.load(bundle / FP32_MODEL))
    return bool(find_layers(graph) or find_pre_norm_layers(graph))


def _difference(checkpoint: Path, bundle: Path) -> float:
    """Return the largest difference of the bundle's fp32 logits, alone and in batches, from torch's of each text."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=False).eval()
    encoder = Encoder(bundle / TOKENIZER, _TOKENS)
    encodings = [encoder.encode_one(text) for text in _TEXTS]
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor(e.input_ids)[None].long(), **_mask(e)).logits.numpy() for e in encodings]
    expected = np.concatenate(rows)
    session = Session(bundle / FP32_MODEL, 1, pad_id=read_bundle(bundle).pad_token_id)
    alone = np.stack([session.run(encoding) for encoding in encodings])
    together = session.run_batch(encodings)
    return float(max(np.abs(found - expected).max() for found in (alone, together)))


def _mask(encoding: Encoding) -> dict[str, torch.Tensor]:
    return {"attention_mask": torch.ones(1, len(encoding.input_ids), dtype=torch.long)}


def _fill(model: PreTrainedModel) -> None:
    """Give every weight a random value of a size that keeps activations near one; padding has none, as in training."""
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            random = torch.randn(weight.shape, generator=numbers)
            if weight.dim() == 2 and not any(part in name for part in ("embed", "wte", "wpe")):
                weight.copy_(random * (3 if len(weight) == _COMMON["num_labels"] else 1) * weight.shape[1] ** -0.5)
            elif weight.dim() >= 2:
                weight.copy_(random * (1 if weight.dim() == 2 else 0.2))
            else:
                weight.add_(random * 0.1)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0


def _tokenizer(*, is_decoder: bool) -> PreTrainedTokenizerFast:
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = dict.fromkeys([*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *_WORDS])
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if not is_decoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {f"{token.strip('[]').lower()}_token": token for token in _SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=_TOKENS, **names)


def main(names: list[str]) -> None:
    """Print the table's rows, each as soon as it is measured."""
    logging.set_verbosity_error()
    print("| architecture | class | measured, or why not |\n| --- | --- | --- |")
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as scratch:
            print(measure(name, Path(scratch)).markdown(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
