"""Pairs of texts: the tokenizer's own template and types, the library's truncation, windows, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from inferer import ModelInferer, PairError
from inferer.bundle.reader import PAIR_TRUNCATIONS
from inferer.errors import BundleError, ConfigError, EmptyTextError, TextError, TextTooLongError
from inferer.tokens.encoding import Encoder
from inferer.tokens.template import read_template
from inferer.tokens.truncation import longest_first
from tests.support import tiny
from tests.support.architectures import LONG_TEXT, TESTED, write_checkpoint

WORDS = ("good", "bad", "odd", "plain", "ok", "hand bags", "¿Dónde", "我不知道", "🤷", "[SEP]")
_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


@pytest.fixture(scope="module", params=TESTED)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of each promised architecture."""
    folder = tmp_path_factory.mktemp("tokenizers") / request.param
    return write_checkpoint(folder, request.param) / "tokenizer.json"


@pytest.fixture(scope="module")
def pairs(inference_bundle: Path) -> ModelInferer:
    """A model that reads pairs, of 5 words together."""
    return ModelInferer(inference_bundle, intra_op_threads=1)


@given(first=_words, second=_words, max_length=st.integers(6, 40), strategy=st.sampled_from(PAIR_TRUNCATIONS[:3]))
def test_ids_types_and_truncation_are_the_librarys(
    tokenizer: Path, first: str, second: str, max_length: int, strategy: str
) -> None:
    """Ids and types of a pair, cut by each of the library's strategies, are those of the library itself."""
    library = Tokenizer.from_file(str(tokenizer))
    library.no_padding()
    library.enable_truncation(max_length, strategy=strategy)
    encoder = Encoder(tokenizer, max_length, pair=True)
    try:
        (found,) = encoder.encode((first, second), strategy)
    except TextTooLongError:
        assert strategy != "longest_first"
        return  # the library fails, or leaves a side empty
    expected = library.encode(first, second)
    assert found.input_ids.tolist() == expected.ids
    assert found.token_type_ids.tolist() == expected.type_ids
    library.no_truncation()
    assert found.num_tokens == len(library.encode(first, second).ids)
    assert sum(side.kept for side in found.sides) == len(found.input_ids) - (found.num_tokens - _own(found))


def _own(encoding: object) -> int:
    return sum(side.num_tokens for side in encoding.sides)  # type: ignore[attr-defined]


def test_the_longer_text_is_cut_first() -> None:
    """The longer text loses tokens until both are equal; of two long ones the longer keeps the odd token."""
    assert longest_first(3, 9, 8) == (3, 5)
    assert longest_first(9, 3, 8) == (5, 3)
    assert longest_first(9, 10, 7) == (3, 4)
    assert longest_first(10, 9, 7) == (4, 3)
    assert longest_first(9, 9, 7) == (3, 4)
    assert longest_first(1, 100, 7) == (1, 6)


@pytest.mark.parametrize(
    ("truncation", "first", "second"),
    [
        ("longest_first", ["a0", "a1"], ["b0", "b1", "b2"]),
        ("tail", ["a4", "a5"], ["b5", "b6", "b7"]),
        ("only_second", None, None),
        ("only_first", None, None),
    ],
)
def test_both_texts_of_a_long_pair_are_cut(
    tmp_path: Path, truncation: str, first: list[str] | None, second: list[str] | None
) -> None:
    """The ends of both texts are cut, with "tail" the starts; where one fills all the room, the pair is refused."""
    texts = " ".join(f"a{i}" for i in range(6)), " ".join(f"b{i}" for i in range(8))
    words = ["[CLS]", "[SEP]", "[UNK]", "a", *" ".join(texts).split()]
    encoder = Encoder(_written(tmp_path, words), 8, pair=True)
    if first is None:
        with pytest.raises(TextTooLongError, match="which leaves 0 of 5 for the other, at least 1 are needed"):
            encoder.encode(texts, truncation)
        return
    (found,) = encoder.encode(texts, truncation, spans=True)
    tokens = [words[i] for i in found.input_ids]
    assert tokens == ["[CLS]", *first, "[SEP]", *(second or []), "[SEP]"]
    assert [(side.num_tokens, side.truncated, side.kept) for side in found.sides] == [(6, True, 2), (8, True, 3)]
    assert found.spans is not None
    for side, text, kept in zip(found.sides, texts, (first, second or []), strict=True):
        assert [text[start:end] for start, end in found.spans[side.places].tolist()] == kept


def _written(folder: Path, words: list[str]) -> Path:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_windows_and_head_tail_keep_the_first_text_whole(tokenizer: Path) -> None:
    """Each window has the whole first text and a part of the second; together the windows have all of it."""
    encoder = Encoder(tokenizer, 40, 4, pair=True)
    whole = encoder.encode(("hand bags", "ok"), "windows")[0]
    question = whole.input_ids[whole.sides[0].places].tolist()
    own = Encoder(tokenizer, 4000, pair=True).encode_one(("hand bags", LONG_TEXT))
    windows = encoder.encode(("hand bags", LONG_TEXT), "windows")
    seen: list[int] = []
    for window in windows:
        assert window.input_ids[window.sides[0].places].tolist() == question
        part = window.input_ids[window.sides[1].places].tolist()
        assert len(window.input_ids) <= 40
        seen = [*seen[: max(0, len(seen) - 4)], *part] if seen else part
    assert seen == own.input_ids[own.sides[1].places].tolist()
    assert not any(window.truncated for window in windows)
    (cut,) = encoder.encode(("hand bags", LONG_TEXT), "head_tail")
    assert [side.truncated for side in cut.sides] == [False, True]
    assert cut.sides[1].gap is not None
    assert cut.input_ids[cut.sides[0].places].tolist() == question


def test_a_long_first_text_leaves_no_windows(tokenizer: Path) -> None:
    """Windows need a quarter of the room: fewer tokens each would run the first text again and again."""
    encoder = Encoder(tokenizer, 40, 4, pair=True)
    with pytest.raises(TextTooLongError, match=r"the first text has \d+ tokens, which leaves \d+ of \d+ for the other"):
        encoder.encode((LONG_TEXT[:300], LONG_TEXT), "windows")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("good", PairError, "the model reads pairs of texts, and the second text is missing"),
        (("good",), TextError, r"a pair must be a tuple of two texts, not \('good',\)"),
        (("good", "bad", "odd"), TextError, "a pair must be a tuple of two texts"),
        (("good", 3), TextError, "the second text must be a str, not int"),
        (("", "good"), EmptyTextError, "the first text is empty"),
        (("good", " \n"), EmptyTextError, "the second text is empty"),
        (("good", "\ud83d"), TextError, r"the second text has a lone surrogate \(U\+D83D\)"),
        (7, TextError, "a pair must be a tuple of two texts, not 7"),
    ],
)
def test_a_wrong_pair_is_refused(pairs: ModelInferer, text: object, error: type[TextError], words: str) -> None:
    """Each fault names the text; in a batch its place too."""
    with pytest.raises(error, match=f"^{words}"):
        pairs.predict(text)  # type: ignore[arg-type]
    with pytest.raises(error, match=f"^text 1: {words}"):
        pairs.predict_batch([("good", "bad"), text])  # type: ignore[list-item]


def test_a_pair_for_a_model_of_one_text_is_refused(model: ModelInferer) -> None:
    """A model that reads one text refuses a pair."""
    for call in (lambda: model.predict("good", "bad"), lambda: model.predict_batch([("good", "bad")])):
        with pytest.raises(PairError, match="the model reads one text, not a pair of texts"):
            call()


def test_predictions_of_pairs(pairs: ModelInferer) -> None:
    """The second text counts by its own type; windows and counts are told by side; bits are those of any batch."""
    alone = pairs.predict("good odd", "bad")
    assert (alone.label, alone.num_tokens, alone.truncated) == ("contradiction", 6, False)
    assert pairs.logits("good odd", "bad").tolist() == [2.0, 2.0, 4.0]
    cut = pairs.predict("good", "bad " * 9)
    assert cut.sides == ((1, False), (9, True))
    windows = pairs.predict("good", "bad " * 9, truncation="windows")
    assert (windows.windows, windows.truncated, windows.sides) == (4, False, ((1, False), (9, False)))
    batch = [("good odd", "bad"), ("good", "bad " * 9), ("good odd", "odd"), ("good odd", "bad")]
    found = pairs.predict_batch(batch)
    assert [one.scores for one in found] == [pairs.predict(*pair).scores for pair in batch]
    assert found[0] == alone == found[3]


def test_options_of_pairs(pairs: ModelInferer, model: ModelInferer) -> None:
    """A truncation of one text is refused for pairs, and the reverse."""
    with pytest.raises(ConfigError, match="truncation: 'head' is not allowed; expected one of longest_first"):
        pairs.predict("good", "bad", truncation="head")
    with pytest.raises(ConfigError, match="truncation: 'only_first' is not allowed; expected one of head"):
        model.predict("good", truncation="only_first")


def test_a_template_without_the_second_text_is_refused(tmp_path: Path) -> None:
    """A tokenizer is refused for pairs if its template leaves out the second text."""
    made = tiny.tokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A $A [SEP] $B", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(ValueError, match="its template for two texts makes"):
        read_template(made, pair=True)
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be served: its template for two texts"):
        Encoder(tmp_path / "tokenizer.json", 8, pair=True)
    assert Encoder(tmp_path / "tokenizer.json", 8).encode_one("good").input_ids.tolist() == [2, 4, 3]


def test_contributions_of_both_texts_cover_words_by_hand(pairs: ModelInferer) -> None:
    """Words of both texts are left out, in windows too; a long pair has few parts, the telling words alone."""
    explanation = pairs.explain("good plain", "bad", label="contradiction")
    whole = pairs.predict("good plain", "bad").scores["contradiction"]
    without = {
        ("text", "good"): pairs.predict("plain", "bad").scores["contradiction"],
        ("text", "plain"): whole,
        ("text_pair", "bad"): 1 / (1 + 1 + 2.718281828459045**2),
    }
    found = {(part.side, part.text): part.contribution for part in explanation.parts}
    assert found == pytest.approx({part: whole - score for part, score in without.items()})
    parts = pairs.explain("good", "plain " * 12 + "bad", truncation="windows", max_parts=4).parts
    assert len(parts) <= 5
    assert (parts[0].side, parts[0].text, parts[-1].text) == ("text", "good", "bad")
    assert sum(part.words for part in parts) == 14
