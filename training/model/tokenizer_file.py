"""The tokenizer of a checkpoint of any version of transformers, as its tokenizer.json says.

transformers 5 rebuilds normalizer, splitting and post-processor after the tokenizer's class and drops those of the
file; serving reads the file.
"""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tokenizers import models
from transformers import AutoTokenizer, DebertaV2Tokenizer, PreTrainedTokenizerBase, TokenizersBackend
from transformers.convert_slow_tokenizer import DebertaV2Converter
from transformers.models.auto.tokenization_auto import (
    TOKENIZER_MAPPING_NAMES,
    get_tokenizer_config,
    tokenizer_class_from_name,
)
from transformers.utils.hub import cached_file

from inferer.bundle.reader import TOKENIZER
from training.model.custom_code import RefusedError, refuse_code

_SETTINGS = "tokenizer_config.json"
_REMEDY = "load the tokenizer with the transformers of training and save it with use_fast=True"
# Settings that classes apply over tokenizer.json: the part that they change, its type, and its name for them.
_APPLIED = (
    ("do_lower_case", "normalizer", "BertNormalizer", "lowercase"),
    ("strip_accents", "normalizer", "BertNormalizer", "strip_accents"),
    ("tokenize_chinese_chars", "normalizer", "BertNormalizer", "handle_chinese_chars"),
    ("add_prefix_space", "pre_tokenizer", "ByteLevel", "add_prefix_space"),
)


class PreTrainedTokenizerFast(TokenizersBackend):
    """A tokenizer as its tokenizer.json says; transformers 4 and 5 read the file alone where they find this name."""


def read_tokenizer(source: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """Return the fast tokenizer in a folder or of the hub; it pads on the right, as serving does.

    Raises RefusedError for one that serving would read differently, and transformers' own errors.
    """
    settings = get_tokenizer_config(source, **options)
    refuse_code(_SETTINGS, settings, f"delete auto_map from a copy if {TOKENIZER} is complete")
    if settings.get("split_special_tokens"):
        raise RefusedError(f"{_SETTINGS} has split_special_tokens: true, which {TOKENIZER} cannot say; expected false")
    kind = _class_of(source, settings, options)
    file = _find(source, TOKENIZER, options)
    if file is None:
        tokenizer = _converted(source, settings, kind, options)
    else:
        _refuse_contradiction(_object_in(file), settings, kind)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(source, trust_remote_code=False, **options)
        if kind is not None:
            _complete(tokenizer, settings, kind)
    tokenizer.padding_side = "right"
    # tokenizer.json marks them as special; transformers 4 fails on the list that 5 would save beside it.
    tokenizer.extra_special_tokens = []
    tokenizer.init_kwargs.pop("extra_special_tokens", None)
    return tokenizer


def _find(source: str | Path, name: str, options: dict[str, Any]) -> Path | None:
    """Return the file `name` in a folder or of the hub, None if there is none."""
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **options)
    return None if found is None else Path(found)


def _object_in(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON or of UTF-8
        raise RefusedError(f"{file.name} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{file.name} holds {type(found).__name__} in place of a JSON object")
    return found


def _class_of(source: str | Path, settings: dict[str, Any], options: dict[str, Any]) -> type[Any] | None:
    """Return the class of transformers that the checkpoint names or its architecture has; None for the generic one."""
    file = _find(source, "config.json", options)
    config = {} if file is None else _object_in(file)
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    found = tokenizer_class_from_name(name or TOKENIZER_MAPPING_NAMES.get(str(config.get("model_type"))) or "")
    return None if found is TokenizersBackend else found


def _defaults(kind: type[Any]) -> dict[str, Any]:
    """Return the settings of a tokenizer's class where a checkpoint does not say otherwise."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def _refuse_contradiction(file: dict[str, Any], settings: dict[str, Any], kind: type[Any] | None) -> None:
    """Raise RefusedError where the class would change a part of tokenizer.json, in transformers 4 and 5 alike.

    Training may have read texts in either way. transformers 5, which notes its backend, writes what it read with.
    """
    if "backend" in settings or kind is None:
        return
    defaults = _defaults(kind)
    for key, part, of, name in _APPLIED:
        said, applied = file.get(part) or {}, settings.get(key, defaults.get(key))
        if key in defaults and said.get("type") == of and said.get(name) != applied:
            where = _SETTINGS if key in settings else f"{kind.__name__} by default"
            raise RefusedError(
                f"{key} is {json.dumps(applied)} in {where}, {name} is {json.dumps(said.get(name))} in {TOKENIZER}; "
                f"if training read texts as {TOKENIZER} does, say so in a copy of {_SETTINGS}, else {_REMEDY}"
            )


def _complete(tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any], kind: type[Any]) -> None:
    """Give the tokenizer what its class adds to the files: special tokens by role, and the inputs of the model."""
    vocabulary = tokenizer.get_vocab()
    for role, token in _defaults(kind).items():
        if (
            role in tokenizer.SPECIAL_TOKENS_ATTRIBUTES
            and getattr(tokenizer, role) is None
            and str(token) in vocabulary
        ):
            setattr(tokenizer, role, str(token))
    if "model_input_names" not in settings:
        tokenizer.model_input_names = list(kind.model_input_names)


def _converted(
    source: str | Path, settings: dict[str, Any], kind: type[Any] | None, options: dict[str, Any]
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that transformers makes of a vocabulary without tokenizer.json, where that is exact.

    It is for WordPiece and BPE. Of SentencePiece it drops the table of normalizations; for DeBERTa, which the hub has
    without tokenizer.json, the converter of transformers 4 is still there.
    """
    names = {} if kind is None else kind.vocab_files_names
    files = [_find(source, name, options) for role, name in names.items() if role != "tokenizer_file"]
    if kind is DebertaV2Tokenizer and files[0] is not None:
        made = _of_sentencepiece(files[0], settings)
        _refuse_other_tokens(made, settings, _find(source, "added_tokens.json", options))
        return made
    exact = kind is not None and getattr(kind, "model", None) in (models.WordPiece, models.BPE)
    if not exact or not all(files):
        raise RefusedError(f"{TOKENIZER} is missing, the file of a fast tokenizer, which serving reads; {_REMEDY}")
    for key, idle in (("do_basic_tokenize", (None, True)), ("never_split", (None, []))):
        if settings.get(key) not in idle:
            raise RefusedError(f"{_SETTINGS} has {key}: {settings[key]!r}, which no fast tokenizer can do")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    return tokenizer


def _of_sentencepiece(file: Path, settings: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Return DeBERTa's tokenizer as transformers 4 makes it of spm.model."""
    defaults = _defaults(DebertaV2Tokenizer)
    choices = {key: settings.get(key, defaults[key]) for key in ("do_lower_case", "split_by_punct")}
    slow = SimpleNamespace(vocab_file=str(file), **choices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no fast tokenizer of 4 falls back to bytes
        try:
            converter = DebertaV2Converter(slow)
            slow.convert_tokens_to_ids = [piece.piece for piece in converter.proto.pieces].index
            tokenizer = converter.converted()
        except Exception as error:  # of protobuf, for other bytes, and of the list
            raise RefusedError(f"{file.name} is not a SentencePiece model with [CLS] and [SEP]: {error}") from error
    roles = PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES
    given = {role: settings.get(role, defaults.get(role)) for role in roles}
    special = {role: one["content"] if isinstance(one, dict) else one for role, one in given.items() if one}
    length = {"model_max_length": settings["model_max_length"]} if "model_max_length" in settings else {}
    names = {"model_input_names": list(DebertaV2Tokenizer.model_input_names)}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **special, **length)  # type: ignore[no-untyped-call]
    return cast(PreTrainedTokenizerBase, made)


def _refuse_other_tokens(tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any], added: Path | None) -> None:
    """Raise RefusedError for added tokens that the SentencePiece model and the special tokens do not give."""
    told = {one["content"]: int(place) for place, one in settings.get("added_tokens_decoder", {}).items()}
    if added is not None:
        told |= _object_in(added)
    vocabulary = tokenizer.get_vocab()
    other = {token: place for token, place in told.items() if vocabulary.get(token) != place}
    if other:
        raise RefusedError(f"{TOKENIZER} is missing, and spm.model lacks the added tokens {other}; {_REMEDY}")
