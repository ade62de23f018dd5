"""Long texts in pieces: the same tokens as the whole text, with every kind of tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from inferer.bundle.reader import TRUNCATIONS, WINDOWS
from inferer.errors import TextError
from inferer.tokens import cuts, encoding
from inferer.tokens.cuts import PIECE_CHARS, Cuts
from inferer.tokens.encoding import INPUTS, Encoder
from tests.support import architectures, tiny

_CORPUS = [
    "the quick brown fox, it's don't ... -- (U.S.). a b  c\n\nd :: https://x.y/z?a=1&b=2 3.14 1,000 =\u0338 ≠ ([x])."
]
_TOKENS = ["<unk>", "<s>", "</s>", "<mask>"]
# What tokenizers join with a neighbour: white space, punctuation, marks, joiners, special tokens, compositions.
_UNITS = (
    *("the quick ", "brown,fox ", "it's", "'s ", "don't", "x.y", "3.14", "1,000", "U.S.", "((", "))", "--", "…", "``"),
    *(" ", "  ", "\n", "\t \n", "\r\n", "\u00a0", "\u2028", "\u3000", "\u200b", "\x00", "\ufffd", "▁", "▁ a", "##a"),
    *("[SEP]", " [SEP] ", "[sep]", "[MASK]", " [MASK]", "  <mask>", "<mask> ", "<s>", "</s>"),
    *("a\u0301", "\u0301", " \u0301", "e\u0301 ", "\u0344", "=\u0338", "=", "<\u0338", "É", "ﬁ", "\ufdfa", "İ", "ß"),
    *("ა" * 99 + " ", "ა" * 99 + ".", "....", "中文", "中\u3099", "カ\uff9e", "\uff9e", "한글 ", "ภาษาไทย", "\u0600 "),
    *("新冠病毒", "北京大学", "´", "¨ ", " ゛ ", " \ufe0f ", "ab´ cd "),
    *("😀", "👩‍👩‍👧 ", ".\u200d", "\U0001f3fb", "🏽", "𐀀", "\U00020000"),
)
_REPEATED = (
    "ab´ cd ",
    "ab \ufe0f cd ",
    "新冠病毒",
    "北京大学。",
    "ა" * 99 + " ",
    ".",
    "a\u0301 ",
    "😀",
    "中",
    "the quick [SEP] brown\n\n",
    "  x",
    "ა",
    "é.\n",
)
_texts = st.lists(st.one_of(st.sampled_from(_UNITS), st.text(max_size=8)), min_size=1, max_size=40).map("".join)
KINDS = (
    "bert", "roberta", "albert", "xlm-roberta", "demo", "tiny", "merged", "prefixed", "first", "cased", "composed",
    "spaced", "chinese",
)  # fmt: skip


def _trained(name: str) -> Tokenizer:
    """Return a BPE tokenizer that cuts in a way of its own, or not at all."""
    before = {
        "merged": (None, None),  # merges across spaces: no cut is allowed
        "prefixed": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "first": (normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="first")),
        "cased": (normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()),
        "composed": (normalizers.NFC(), pre_tokenizers.BertPreTokenizer()),
        "chinese": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        "spaced": (
            normalizers.Sequence(
                [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Replace(Regex(" {2,}"), " ")]
            ),
            pre_tokenizers.Metaspace(),
        ),  # as ALBERT's
    }
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    normalizer, pre_tokenizer = before[name]
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=_TOKENS, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS * 50, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=name == "prefixed")])
    if name == "chinese":
        tokenizer.add_tokens(["新冠病毒"])
        tokenizer.add_special_tokens(["北京大学"])
    if name == "cased":
        tokenizer.add_tokens([AddedToken("quick", single_word=True), "x.y"])
    return tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Callable[[str], Path]:
    """Return the function from a kind to its tokenizer.json."""
    folder = tmp_path_factory.mktemp("tokenizers")

    @functools.cache
    def file(kind: str) -> Path:
        if kind == "demo":
            return demo_bundle / "tokenizer.json"
        if kind in architectures.TESTED:
            return architectures.checkpoint(tmp_path_factory, kind) / "tokenizer.json"
        path = folder / f"{kind}.json"
        (tiny.tokenizer() if kind == "tiny" else _trained(kind)).save(str(path))
        return path

    return file


@pytest.fixture(scope="module", params=KINDS)
def file(request: pytest.FixtureRequest, files: Callable[[str], Path]) -> Path:
    """The tokenizer.json of each kind."""
    return files(request.param)


@contextmanager
def at_every_cut() -> Iterator[None]:
    """Cut texts of any length wherever the tokenizer allows, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_SHORT_CHARS", 0)
        patch.setattr(encoding, "PIECE_CHARS", 0)
        patch.setattr(cuts, "PIECE_CHARS", 1)
        yield


@functools.cache
def encoder_of(file: Path) -> Encoder:
    """Return the encoder that cuts no text of a test short."""
    return Encoder(file, 200_000)


@functools.cache
def plain(file: Path) -> Tokenizer:
    """Return the library's tokenizer of `file`, without padding and truncation."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check(file: Path, text: str, spans: bool) -> None:
    """Check that `text` has the tokens of the whole text, or the same refusal."""
    encoder = encoder_of(file)
    whole = plain(file).encode(text)
    try:
        (one,) = encoder.encode(text, "error", spans=spans)
    except TextError:
        assert text.isspace() or len(whole.ids) <= encoder._special
        return
    assert one.input_ids.tolist() == whole.ids
    assert one.token_type_ids.tolist() == whole.type_ids
    assert one.attention_mask.tolist() == whole.attention_mask
    assert (one.num_tokens, one.truncated) == (len(whole.ids), False)
    if spans:
        assert one.spans is not None
        assert [*map(tuple, one.spans.tolist())] == whole.offsets


@given(text=_texts, spans=st.booleans())
@example(text="=\u0338 =\n\u0338.\u0338 x.\u200dy it's. [SEP].[SEP] .", spans=True)
@example(text="\u200b \u200b. \x00 a", spans=True)
def test_pieces_have_the_tokens_of_the_whole(file: Path, text: str, spans: bool) -> None:
    """A text cut wherever its tokenizer allows has the ids, types, spans and number of tokens of the whole text."""
    with at_every_cut():
        check(file, text, spans)


@pytest.mark.parametrize("text", _REPEATED)
def test_long_texts_have_the_tokens_of_the_whole(file: Path, text: str) -> None:
    """A text of 20,000 characters has the same tokens as by the library, with its own lengths of pieces."""
    check(file, (text * 20_000)[:20_000], spans=False)


@pytest.mark.parametrize("truncation", [one for one in TRUNCATIONS if one != "error"])
def test_long_texts_are_truncated_as_the_whole(
    files: Callable[[str], Path], truncation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text in pieces has the encodings of the same text tokenized whole, by every strategy."""
    encoder = Encoder(files("demo"), 64, 16)
    text = "where is the, nearest station. ა\n" * 1000
    assert len(list(encoder._cuts.pieces(text))) > 5
    found = encoder.encode(text, truncation, spans=True)
    monkeypatch.setattr(encoding, "_SHORT_CHARS", len(text))
    expected = encoder.encode(text, truncation, spans=True)
    assert len(found) == len(expected)
    assert (len(found) > 100) == (truncation == WINDOWS)
    for one, other in zip(found, expected, strict=True):
        for name in (*INPUTS, "spans"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert (one.num_tokens, one.truncated, one.own_tokens, one.sides) == (
            *(other.num_tokens, other.truncated, other.own_tokens, other.sides),
        )


@pytest.mark.parametrize(
    ("kind", "text", "is_cut"),
    [
        ("demo", "ა" * 99 + " ", True),
        ("demo", "a\n", True),
        ("demo", ".", True),
        ("demo", "中", True),
        ("demo", "ა", False),
        ("roberta", "a b", True),
        ("roberta", ".", False),
        ("albert", "a b", True),
        ("xlm-roberta", "a b", True),
        ("merged", "a b", False),
        ("prefixed", "a b", True),
        ("cased", ".", False),
        ("cased", "a b", True),
    ],
)
def test_which_texts_are_cut(files: Callable[[str], Path], kind: str, text: str, is_cut: bool) -> None:
    """Texts that their tokenizer allows to cut have pieces of little more than PIECE_CHARS, and others one piece."""
    text *= 100_000 // len(text)
    pieces = list(Cuts(plain(files(kind))).pieces(text))
    assert "".join(text[start:end] for start, end in pieces) == text
    if is_cut:
        assert max(end - start for start, end in pieces) <= PIECE_CHARS + 100
    else:
        assert len(pieces) == 1


def test_a_cut_is_never_inside_a_special_token(files: Callable[[str], Path]) -> None:
    """No cut is within a special token of the text, which would become its letters."""
    tokenizer = plain(files("demo"))
    for offset in range(8):
        text = "." * (PIECE_CHARS - offset) + "[SEP]" * 2000
        for _, end in Cuts(tokenizer).pieces(text):
            assert end == len(text) or (end - (PIECE_CHARS - offset)) % 5 == 0
