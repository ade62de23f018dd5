"""The checkpoint's tokenizer: load it, check it against the model, write it, and prove that the bundle's agrees."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from export.checks.built_in_texts import built_in_texts
from export.errors import ExportError
from inferer.bundle.reader import TOKENIZER
from inferer.errors import first_line
from inferer.tokens.encoding import Encoder
from inferer.tokens.texts import sides_of
from training.model.tokenizer_file import read_tokenizer


def load_tokenizer(path: Path, source: str, *, local_only: bool) -> PreTrainedTokenizerBase:
    """Return the fast tokenizer that `source`, a folder or a hub name, has for the checkpoint at `path`."""
    try:
        return read_tokenizer(source, local_files_only=local_only)
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception (huggingface/tokenizers)
        raise ExportError(f"checkpoint {path}: cannot load the tokenizer of {source}: {first_line(error)}") from error


def check_vocabulary(path: Path, tokenizer: PreTrainedTokenizerBase, embeddings: int) -> None:
    """Raise ExportError when a text could get a token id beyond the model's `embeddings`."""
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= embeddings:
        raise ExportError(
            f"checkpoint {path}: its tokenizer has the id {highest} ({token!r}), "
            f"the model has embeddings for 0 to {embeddings - 1}"
        )


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write the tokenizer's files without the padding and truncation that a saved one may carry."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


def checked_encoder(
    tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int, overlap: int = 0, *, pair: bool = False
) -> Encoder:
    """Return the encoder of the bundle in `folder`, proved to give the token ids of the checkpoint's `tokenizer`.

    overlap: tokens that windows share; the encoder lowers it to the most that it can do. pair: whether it reads pairs.
    Raises ExportError, with the text, where the two differ.
    """
    token_types = "token_type_ids" in tokenizer.model_input_names
    encoder = Encoder(folder / TOKENIZER, max_length, overlap, pair=pair, token_types=token_types)
    for text in built_in_texts(encoder):
        sides = sides_of(text)
        expected = tokenizer(*sides, truncation="longest_first", max_length=max_length)
        found = encoder.encode_one(text)
        types = expected.get("token_type_ids")
        if found.input_ids.tolist() != expected["input_ids"] or types not in (None, found.token_type_ids.tolist()):
            raise ExportError(f"the tokenizer in {TOKENIZER} reads {sides[0][:60]!r} differently from the checkpoint's")
    return encoder
