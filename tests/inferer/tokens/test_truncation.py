"""Truncation of long texts, by every strategy and with every kind of tokenizer: cuts, windows, pooling."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inferer import ModelInferer
from inferer.bundle.reader import TRUNCATIONS
from inferer.errors import TextError, TextTooLongError
from inferer.scoring import pool
from inferer.tokens.encoding import Encoder, Encoding
from tests.support import tiny
from tests.support.architectures import LONG_TEXT, write_checkpoint

ARCHITECTURES = ("bert", "roberta", "albert", "xlm-roberta")  # each with its own kind of tokenizer
WORDS = ("good", "bad", "odd", "plain")
MARKS = ("[CLS]", "[SEP]", "[PAD]", "<s>", "</s>", "<pad>", "[MASK]")

_cut_from = ("head", "tail", "head_tail", "windows")
_letters = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40)
_texts = st.lists(st.one_of(st.sampled_from((*WORDS, *MARKS, *LONG_TEXT.split()[:30])), _letters), max_size=60).map(
    " ".join
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers") / request.param
    return write_checkpoint(folder, request.param) / "tokenizer.json"


def encoded(encoder: Encoder, text: str, truncation: str) -> tuple[Encoding, ...]:
    """Return the encodings of `text`; discard an example that is not a valid text."""
    try:
        return encoder.encode(text, truncation, spans=True)
    except TextTooLongError:
        raise
    except TextError:
        assume(False)
        raise


def plain(file: Path) -> Tokenizer:
    """Return the library's tokenizer of `file`, without the padding and truncation of the file."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@given(text=_texts, max_length=st.integers(3, 24), overlap=st.integers(0, 24), truncation=st.sampled_from(TRUNCATIONS))
@example(text=LONG_TEXT, max_length=24, overlap=6, truncation="windows")
def test_any_text_fits_by_any_strategy(
    tokenizer: Path, text: str, max_length: int, overlap: int, truncation: str
) -> None:
    """Any text fits the limit, keeps its special tokens and reports its truncation, or is refused."""
    whole = plain(tokenizer).encode(text)
    encoder = Encoder(tokenizer, max_length, overlap)
    try:
        encodings = encoded(encoder, text, truncation)
    except TextTooLongError:
        assert truncation == "error"
        assert len(whole.ids) > max_length
        return
    long = len(whole.ids) > max_length
    for one in encodings:
        ids = one.input_ids.tolist()
        assert 1 <= one.own_tokens == len(ids) - 2 <= max_length - 2
        assert (ids[0], ids[-1]) == (whole.ids[0], whole.ids[-1])
        assert one.attention_mask.tolist() == [1] * len(ids)
        assert one.spans is not None
        assert len(one.spans) == len(one.token_type_ids) == len(ids)
        assert one.num_tokens == len(whole.ids)
        assert one.truncated == (long and truncation != "windows")
    assert len(encodings) == 1 or (long and truncation == "windows")
    if not long:
        assert encodings[0].input_ids.tolist() == whole.ids
        assert encodings[0].spans is not None
        assert [tuple(span) for span in encodings[0].spans.tolist()] == whole.offsets


@given(text=_texts, max_length=st.integers(3, 24), side=st.sampled_from(("right", "left")))
@example(text=LONG_TEXT, max_length=24, side="right")
@example(text=LONG_TEXT, max_length=24, side="left")
def test_head_and_tail_equal_the_librarys_truncation(tokenizer: Path, text: str, max_length: int, side: str) -> None:
    """Truncations "head" and "tail" give the ids, mask and types of the tokenizer's own truncation, right and left."""
    (one,) = encoded(Encoder(tokenizer, max_length), text, "head" if side == "right" else "tail")
    library = plain(tokenizer)
    library.enable_truncation(max_length, direction=side)
    expected = library.encode(text)
    assert one.input_ids.tolist() == expected.ids
    assert one.attention_mask.tolist() == expected.attention_mask
    assert one.token_type_ids.tolist() == expected.type_ids


@given(text=_texts, max_length=st.integers(3, 24))
@example(text=LONG_TEXT, max_length=24)
def test_head_tail_is_the_first_quarter_and_the_last_three(tokenizer: Path, text: str, max_length: int) -> None:
    """Truncation "head_tail" keeps a long text's first tokens and its last, in order; a short text stays whole."""
    (one,) = encoded(Encoder(tokenizer, max_length), text, "head_tail")
    own = plain(tokenizer).encode(text).ids[1:-1]
    room = max_length - 2
    first = round(room * 128 / 510)
    expected = own if len(own) <= room else own[:first] + own[len(own) - (room - first) :]
    assert one.input_ids.tolist()[1:-1] == expected


def test_head_tail_at_512_tokens_is_the_one_of_the_paper(tokenizer: Path) -> None:
    """Of 510 tokens kept, 128 are the text's first and 382 its last, as in Sun et al., 5.3.1."""
    text = LONG_TEXT * 20
    own = plain(tokenizer).encode(text).ids[1:-1]
    assert len(own) > 1000
    (one,) = Encoder(tokenizer, 512).encode(text, "head_tail")
    assert one.input_ids.tolist()[1:-1] == own[:128] + own[-382:]


@given(text=_texts, max_length=st.integers(3, 24), overlap=st.integers(0, 24))
@example(text=LONG_TEXT, max_length=24, overlap=6)
def test_windows_cover_the_text_and_overlap(tokenizer: Path, text: str, max_length: int, overlap: int) -> None:
    """Windows hold every token of the text, in order; neighbours share `overlap` tokens, at most half of a window."""
    encodings = encoded(Encoder(tokenizer, max_length, overlap), text, "windows")
    own = plain(tokenizer).encode(text).ids[1:-1]
    shared = min(overlap, (max_length - 2) // 2)
    found = encodings[0].input_ids.tolist()[1:-1]
    for one, following in pairwise(encodings):
        assert one.own_tokens == max_length - 2, "only the last window is short"
        ids = following.input_ids.tolist()[1:-1]
        assert len(ids) > shared, "a window that adds nothing"
        assert found[len(found) - shared :] == ids[:shared]
        found += ids[shared:]
    assert found == own


def test_a_special_token_inside_the_text_is_the_texts_own(tiny_bundle: Path, demo_bundle: Path) -> None:
    """A literal [SEP] in the text is cut like any word, and the real special tokens stay at the ends."""
    demo = Encoder(demo_bundle / "tokenizer.json", 6)
    ids = plain(demo_bundle / "tokenizer.json").encode("[CLS] a [SEP] b [SEP] c").ids
    assert demo.encode_one("[CLS] a [SEP] b [SEP] c").input_ids.tolist() == [*ids[:5], ids[-1]]
    assert demo.encode("[CLS] a [SEP] b [SEP] c", "head_tail")[0].input_ids.tolist() == [ids[0], ids[1], *ids[-4:]]


@pytest.mark.slow
def test_a_long_text_in_windows_takes_little_time(tiny_bundle: Path) -> None:
    """A text of 200,000 tokens gives its 50,000 windows within the time limit of a test."""
    encodings = Encoder(tiny_bundle / "tokenizer.json", tiny.MAX_LENGTH, 2).encode("good " * 200_000, "windows")
    assert len(encodings) == 50_000
    assert sum(one.own_tokens for one in encodings) == 200_000 + 2 * 49_999


# --- pooling -------------------------------------------------------------------------------------------


def test_the_mean_weighs_windows_by_their_length() -> None:
    """Of windows of 6 and 2 tokens, the first counts three times as much as the second."""
    rows = [np.array([4.0, 0.0], np.float32), np.array([0.0, 8.0], np.float32)]
    assert pool(rows, [6, 2], "mean").tolist() == [3.0, 2.0]
    assert pool(rows, [6, 2], "max").tolist() == [4.0, 8.0]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_one_window_keeps_its_bits(pooling: str) -> None:
    """The logits of a text in one window are those of its run, bit for bit."""
    row = np.array([0.1, 1 / 3], np.float32)
    assert pool([row], [5], pooling).tobytes() == row.tobytes()


def test_windows_by_hand(tiny_bundle: Path, tmp_path: Path) -> None:
    """Seven words in windows of six with two shared: the mean is weighted by 6 and 3, the maximum is each label's."""
    text = "good good good good good bad bad"  # windows: 5 good and 1 bad; bad, bad and the good before them
    model = ModelInferer(tiny_bundle)
    assert model.logits(text, truncation="windows").tolist() == pytest.approx(
        [(10 * 6 + 2 * 3) / 9, (2 * 6 + 4 * 3) / 9, 0]
    )
    highest = ModelInferer(tiny.write_bundle(tmp_path / "max", windows={"overlap": 2, "pooling": "max"}))
    assert highest.logits(text, truncation="windows").tolist() == [10, 4, 0]
    prediction = model.predict(text, truncation="windows")
    assert (prediction.windows, prediction.truncated, prediction.num_tokens) == (2, False, 9)
    assert prediction.as_dict()["windows"] == 2


def test_a_short_text_gets_the_same_scores_by_every_strategy(model: ModelInferer) -> None:
    """A text that fits gets the same scores by every strategy, and only "windows" counts windows."""
    predictions = [model.predict("good odd", truncation=truncation) for truncation in TRUNCATIONS]
    assert len({tuple(prediction.scores.items()) for prediction in predictions}) == 1
    assert [prediction.windows for prediction in predictions] == [None, None, None, 1, None]
    assert [prediction.truncated for prediction in predictions] == [False] * 5


def test_the_tokens_that_are_kept_decide(model: ModelInferer) -> None:
    """A word at the end counts for tail, head_tail and windows, not for head; one in the middle for windows alone."""
    end, middle = "plain " * 9 + "bad", "plain " * 6 + "bad " + "plain " * 6
    labels = {how: [model.predict(text, truncation=how).label for text in (end, middle)] for how in _cut_from}
    assert labels == {
        "head": ["pos", "pos"], "tail": ["neg", "pos"], "head_tail": ["neg", "pos"], "windows": ["neg", "neg"],
    }  # fmt: skip


def test_windows_of_one_text_run_together(demo_bundle: Path) -> None:
    """The windows of one text share runs."""
    model = ModelInferer(demo_bundle, parallel_runs=1)
    runs: list[int] = []
    model.batcher.on_run = lambda texts, _: runs.append(texts)
    windows = model.predict("milk and bread " * 100, truncation="windows").windows
    assert windows == sum(runs) > 5
    assert len(runs) <= 2


def test_predictions_in_windows_are_the_same_bits_in_any_batch(demo_bundle: Path) -> None:
    """A long text in windows gets the same bits alone, in a batch and without batching."""
    texts = [" ".join(["milk", "target", "hand bags", "huggies"][n % 4] for n in range(k)) for k in (3, 90, 200, 64)]
    model, alone = ModelInferer(demo_bundle), ModelInferer(demo_bundle, batching=False)
    together = model.predict_batch(texts, truncation="windows")
    assert [prediction.windows for prediction in together] != [1] * 4
    assert together == [alone.predict(text, truncation="windows") for text in texts]
    assert together == [model.predict(text, truncation="windows") for text in texts]
