"""Configurations and tokenizers that would be read in another way than by training: each is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer
from transformers import BertConfig, ModernBertConfig, MPNetConfig

from tests.support.architectures import checkpoint, copy_of, refusal, run_export, write_json
from training.model.config_file import read_config, unread_keys
from training.model.custom_code import RefusedError
from training.model.tokenizer_file import read_tokenizer

KINDS = {"bert": BertConfig, "modernbert": ModernBertConfig, "mpnet": MPNetConfig}
ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 5.0}}


def config_file(folder: Path, kind: str, **changes: Any) -> Path:
    """Write the config.json of a small model of `kind` with `changes`, as 4.57.6 would; return `folder`."""
    folder.mkdir(exist_ok=True)
    plain = KINDS[kind](num_hidden_layers=2, hidden_size=8, num_attention_heads=2).to_dict()
    for key in ("layer_types", "rope_parameters"):
        plain.pop(key, None)
    write_json(folder / "config.json", {**plain, "transformers_version": "4.57.6", **changes})
    return folder


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type: 'relative_key' (written by"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads: {'0': [1]} (written by transformers 4.57.6)"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention: True, expected false"),
        ("bert", {"quantization_config": {"bits": 4}}, "quantization_config: {'bits': 4}, expected null"),
        ("bert", {"hidden_act": "gleu"}, "hidden_act: 'gleu', expected one of gelu, "),
        ("bert", {"num_hidden_layers": "2"}, "'num_hidden_layers' expected int, got str"),
        (
            "bert",
            {"transformers_version": "5.99.0", "heat": 0.5},
            "heat: 0.5, written by transformers 5.99.0 and unknown",
        ),
        (
            "bert",
            {"transformers_version": "5.99.0", "model_type": "newbert"},
            f"'newbert' (written by transformers 5.99.0), unknown to transformers {transformers.__version__}; install ",
        ),
        ("bert", {"model_type": "our_bert"}, "4.57.6), unknown to transformers "),
        ("mpnet", {"is_decoder": True}, "is_decoder: True (written by transformers 4.57.6)"),
        ("modernbert", {"rope_parameters": ROPE}, "which 4.57.6 did not read"),
        ("modernbert", {"layer_types": ["full_attention"] * 2}, "which 4.57.6 did not read"),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "reads rope_type in place of type"),
        ("modernbert", {"local_rope_theta": None}, "local_rope_theta: null, expected a number"),
        ("modernbert", {"local_attention": -1}, "local_attention: -1, expected 0 or more"),
        ("modernbert", {"classifier_pooling": "max"}, "'classifier_pooling' expected one of ('cls', 'mean'), got max"),
        (
            "modernbert",
            {
                "transformers_version": "6.0",
                "rope_parameters": {"full_attention": {**ROPE["full_attention"], "heat": 2}},
            },
            "heat, written by transformers 6.0 and unknown",
        ),
    ],
)
def test_a_key_that_would_be_read_in_another_way_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], said: str
) -> None:
    """The line names the key, its value and the version that wrote it, or what is expected."""
    with pytest.raises(RefusedError, match=r"^config\.json") as caught:
        read_config(config_file(tmp_path, kind, **changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {"position_embedding_type": "absolute", "pruned_heads": {}, "is_decoder": False}),
        ("bert", {"is_decoder": True}),  # computed as before
        ("bert", {"pooler_fc_size": 768, "directionality": "bidi", "gradient_checkpointing": False}),
        ("bert", {"transformers_version": "5.99.0", "inferer_threshold": 0.4, "pooler_type": "first_token_transform"}),
        ("bert", {"torch_dtype": "float16", "return_dict": False, "output_attentions": True}),
        ("bert", {"attn_implementation": "flash_attention_2", "chunk_size_feed_forward": 4}),
        ("mpnet", {"relative_attention_num_buckets": 16}),
        ("modernbert", {"global_rope_theta": 3.0, "local_rope_theta": 2.0, "reference_compile": True}),
        ("modernbert", {"transformers_version": "5.0.0", "rope_parameters": ROPE}),
        ("modernbert", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "repad_logits_with_grad": False}),
    ],
)
def test_keys_without_a_lost_effect_are_read(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """Older spellings, settings of the outputs and idle keys neither block a checkpoint nor draw a note."""
    config = read_config(config_file(tmp_path, kind, **changes))
    assert unread_keys(config) == []
    assert config.return_dict
    assert not config.output_attentions


def test_a_note_of_the_user_is_named_and_does_not_block(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """The export goes on and says that nothing reads the key."""
    folder = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "noted", my_project="blue")
    assert run_export(folder, tmp_path / "bundle", "--scheme", "fp32") == 0
    assert "does not read, so they have no effect: my_project" in capsys.readouterr().err


def test_the_export_refuses_in_one_line(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused key ends the export with code 2, one line and no bundle."""
    folder = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "old", position_embedding_type="relative_key")
    said = refusal(folder, tmp_path / "out", capsys)
    assert f"checkpoint {folder}: cannot be loaded: config.json has position_embedding_type: 'relative_key'" in said
    assert "\n" not in said


@pytest.fixture
def bert(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the BERT checkpoint."""
    return copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "bert")


def settings(folder: Path, **changes: Any) -> Path:
    """Change tokenizer_config.json in `folder`; None takes a key out."""
    file = folder / "tokenizer_config.json"
    found = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    write_json(file, {key: value for key, value in found.items() if value is not None})
    return folder


@pytest.mark.parametrize(
    "name", ["TokenizersBackend", "BertTokenizer", "BertTokenizerFast", "NoSuchTokenizer", "RobertaTokenizerFast", None]
)
def test_the_tokenizer_is_that_of_the_file_whatever_its_class(bert: Path, name: str | None) -> None:
    """tokenizer.json is read as it stands under every name of a class, and special tokens keep their roles."""
    file = json.loads((bert / "tokenizer.json").read_text(encoding="utf-8"))
    file["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Lowercase"}, {"type": "Prepend", "prepend": "x"}],
    }
    write_json(bert / "tokenizer.json", file)
    tokenizer = read_tokenizer(settings(bert, tokenizer_class=name))
    expected = Tokenizer.from_file(str(bert / "tokenizer.json"))
    for text in ("Hand BAGS", "a [SEP] b", "été"):
        assert tokenizer(text)["input_ids"] == expected.encode(text).ids
    assert (tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token) == ("[PAD]", "[CLS]", "[SEP]")


def test_roles_of_special_tokens_come_from_the_class_where_no_file_has_them(bert: Path) -> None:
    """A folder of old, with a class and tokenizer.json alone, has a padding token and BERT's inputs."""
    write_json(bert / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    (bert / "special_tokens_map.json").unlink(missing_ok=True)
    tokenizer = read_tokenizer(bert)
    assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token) == ("[PAD]", "[UNK]", "[MASK]")
    assert tokenizer.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]


def test_padding_on_the_left_is_not_followed(bert: Path) -> None:
    """Serving pads on the right, and so do training and evaluation."""
    assert read_tokenizer(settings(bert, padding_side="left")).padding_side == "right"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"do_lower_case": False, "backend": None},
            "do_lower_case is false in tokenizer_config.json, lowercase is true",
        ),
        ({"strip_accents": False, "backend": None}, "strip_accents is false in tokenizer_config.json"),
        ({"split_special_tokens": True}, "split_special_tokens: true"),
    ],
)
def test_a_setting_that_contradicts_the_file_is_refused(bert: Path, changes: dict[str, Any], said: str) -> None:
    """Training may have followed either of the two files."""
    with pytest.raises(RefusedError, match=said):
        read_tokenizer(settings(bert, tokenizer_class="BertTokenizer", **changes))


def slow(bert: Path, **changes: Any) -> Path:
    """Leave BERT's vocabulary in place of tokenizer.json."""
    vocabulary = sorted(read_tokenizer(bert).get_vocab().items(), key=lambda item: item[1])
    (bert / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    (bert / "tokenizer.json").unlink()
    return settings(bert, tokenizer_class="BertTokenizer", backend=None, **changes)


def test_a_vocabulary_of_word_pieces_is_converted(bert: Path) -> None:
    """vocab.txt alone gives the token ids of tokenizer.json."""
    expected = read_tokenizer(bert)("Hand bags, été")["input_ids"]
    assert read_tokenizer(slow(bert))("Hand bags, été")["input_ids"] == expected


@pytest.mark.parametrize("changes", [{"never_split": ["bags"]}, {"do_basic_tokenize": False}])
def test_settings_of_slow_tokenizers_alone_are_refused(bert: Path, changes: dict[str, Any]) -> None:
    """No fast tokenizer can do them."""
    with pytest.raises(RefusedError, match=next(iter(changes))):
        read_tokenizer(slow(bert, **changes))


@pytest.mark.parametrize("missing", ["vocab.txt", "class", "sentencepiece"])
def test_without_a_file_that_converts_exactly_the_remedy_is_named(bert: Path, missing: str) -> None:
    """Transformers would make a tokenizer of five tokens, or one without the table of normalizations."""
    slow(bert)
    if missing == "vocab.txt":
        (bert / "vocab.txt").unlink()
    elif missing == "class":
        settings(bert, tokenizer_class="NoSuchTokenizer")
    else:
        shutil.move(bert / "vocab.txt", bert / "spiece.model")
        settings(bert, tokenizer_class="AlbertTokenizer")
    with pytest.raises(RefusedError, match=r"tokenizer\.json is missing.*use_fast=True"):
        read_tokenizer(bert)


def test_a_saved_tokenizer_loads_in_4_and_5(bert: Path, tmp_path: Path) -> None:
    """A bundle's tokenizer_config.json names the generic class of 4, which 5 takes too, and lists no extra tokens."""
    read_tokenizer(settings(bert, extra_special_tokens=["hand"])).save_pretrained(tmp_path / "saved")
    said = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in said
