"""DeBERTa's spm.model without tokenizer.json, as the hub has it: the token ids of transformers 4."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.export.checkpoints.environments import python_with
from tests.support.server import run_to_end
from training.model.custom_code import RefusedError
from training.model.tokenizer_file import read_tokenizer

pytestmark = pytest.mark.slow

TEXTS = (
    "The parcel came two days late.",
    "  spaces   in\tfront,\nin lines and behind  ",
    "\ufb01ne \uff21\uff22\uff23 caf\u00e9 cafe\u0301 \u2460 \u00a0 \u200b x\u00ad",
    "\u6c49\u5b57 \U0001f600 \u00bfD\u00f3nde est\u00e1?",
    "[CLS] in the text [MASK] and <0x41>",
    "",
)
# The script trains a model with DeBERTa's special pieces and prints the ids of each variant of tokenizer_config.json,
# and saves the slow tokenizer.
SCRIPT = """
import json, sys
from pathlib import Path
import sentencepiece
from transformers import AutoTokenizer, DebertaV2Tokenizer

folder, texts = Path(sys.argv[1]), sys.argv[2:]
corpus = (" ".join(texts) + " it is a parcel, the fine days come late and the spaces stay behind").split()
lines = [" ".join(corpus[i : i + 7]) for i in range(len(corpus))] * 5
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_prefix=str(folder / "spm"), vocab_size=400, hard_vocab_limit=False,
    normalization_rule_name="nmt_nfkc", byte_fallback=True, minloglevel=2,
    pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
)
(folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
found = []
for changes in ({}, {"do_lower_case": True}, {"split_by_punct": True}):
    (folder / "tokenizer_config.json").write_text(json.dumps({"vocab_type": "spm", **changes}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found.append([changes, tokenizer(texts)["input_ids"], len(tokenizer)])
DebertaV2Tokenizer.from_pretrained(folder).save_pretrained(folder / "slow")
print(json.dumps(found))
"""


def test_the_ids_are_those_of_transformers_4(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Normalization, splitting and special tokens are the old converter's; the saved tokenizer.json has them."""
    python = python_with(tmp_path_factory.getbasetemp(), "transformers==4.57.6", "sentencepiece")
    made = run_to_end(python, "-c", SCRIPT, str(tmp_path), *TEXTS, HF_HUB_OFFLINE="1")
    assert made.returncode == 0, made.stderr
    variants = json.loads(made.stdout.splitlines()[-1])
    assert len({str(ids) for _, ids, _ in variants}) == 3
    for changes, ids, size in variants:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"vocab_type": "spm", **changes}), encoding="utf-8")
        tokenizer = read_tokenizer(tmp_path)
        assert [tokenizer(text)["input_ids"] for text in TEXTS] == ids
        assert len(tokenizer) == size
        tokenizer.save_pretrained(tmp_path / "saved")
        again = read_tokenizer(tmp_path / "saved")
        assert [again(text)["input_ids"] for text in TEXTS] == ids
        assert (again.pad_token, again.cls_token, again.mask_token) == ("[PAD]", "[CLS]", "[MASK]")
    slow = tmp_path / "slow"
    (slow / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}), encoding="utf-8")
    assert [read_tokenizer(slow)(text)["input_ids"] for text in TEXTS] == ids  # of the last variant
    added = json.loads((slow / "added_tokens.json").read_text(encoding="utf-8"))
    (slow / "added_tokens.json").write_text(json.dumps({**added, "<user>": size}), encoding="utf-8")
    with pytest.raises(RefusedError, match=r"lacks the added tokens \{'<user>': \d+\}"):
        read_tokenizer(slow)
    for damaged, words in (("{", "is not valid JSON"), ("[]", "holds list in place of a JSON object")):
        (slow / "added_tokens.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(RefusedError, match=rf"added_tokens\.json {words}"):
            read_tokenizer(slow)


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    """A file of other bytes under the name ends in a sentence."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}), encoding="utf-8")
    (tmp_path / "spm.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(RefusedError, match=r"spm\.model is not a SentencePiece model"):
        read_tokenizer(tmp_path)
