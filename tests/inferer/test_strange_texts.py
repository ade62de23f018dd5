"""Strange texts, with every kind of tokenizer: each gets a prediction or an error that names the fault."""

from __future__ import annotations

import math

import pytest

from inferer import EmptyTextError, ModelInferer, Prediction, TextError
from tests.support import architectures
from tests.support.server import Server

pytestmark = pytest.mark.slow

PLANES = range(17)
# In each plane: code points in use, unassigned ones, and the last, which is never a character.
PLACES = (
    *(0x0001, 0x00AD, 0x0301, 0x0915, 0x200D, 0x202E, 0x3042),
    *(0x4E00, 0xA000, 0xE000, 0xF600, 0xFE0F, 0xFFFD, 0xFFFF),
)


@pytest.fixture(scope="module", params=architectures.TESTED)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelInferer:
    """A model of each tested architecture: WordPiece, byte-level BPE and Unigram."""
    return ModelInferer(architectures.bundle(tmp_path_factory, request.param), intra_op_threads=1)


def predicted(model: ModelInferer, text: str) -> Prediction | None:
    """Return the checked prediction for `text`, or None when the text is refused as empty."""
    try:
        prediction = model.predict(text)
    except EmptyTextError:
        return None
    assert math.isclose(sum(prediction.scores.values()), 1, abs_tol=1e-9)
    assert prediction == model.predict(text)
    assert prediction.truncated == (prediction.num_tokens > model.max_length)
    return prediction


@pytest.mark.parametrize("plane", PLANES)
def test_characters_of_every_plane_get_a_prediction(model: ModelInferer, plane: int) -> None:
    """A character of any plane gets a prediction, alone or after a word; alone it may be refused as empty."""
    for place in PLACES:
        character = chr(plane << 16 | place)
        predicted(model, character)
        assert predicted(model, f"bags {character}") is not None


def test_all_planes_in_one_text_get_a_prediction(model: ModelInferer) -> None:
    """A text with characters of every plane gets a prediction."""
    assert predicted(model, "".join(chr(plane << 16 | place) for plane in PLANES for place in PLACES)) is not None


def test_a_lone_surrogate_is_refused_by_place(model: ModelInferer) -> None:
    """A lone surrogate anywhere in a text is a TextError that names its place."""
    for place, text in ((0, "\udc00 bags"), (5, "bags \ud83d"), (2, "\U0001f937a\udfff")):
        with pytest.raises(TextError, match=rf"lone surrogate .* at character {place}"):
            model.predict(text)


def test_nul_is_kept_or_dropped(model: ModelInferer) -> None:
    """NUL gets a prediction or is refused as empty, and a word beside it is not lost."""
    predicted(model, "\x00")
    assert predicted(model, "bags\x00") is not None
    assert predicted(model, "\x00" * 1000 + " bags") is not None


def test_a_million_characters_get_a_prediction(model: ModelInferer) -> None:
    """A million characters without a space get a prediction."""
    prediction = model.predict("a" * 1_000_000)
    assert prediction.num_tokens >= 3
    assert prediction.truncated == (prediction.num_tokens > model.max_length)


def test_strange_texts_over_http(server: Server) -> None:
    """Over HTTP each strange text gets a prediction or a client error."""
    for text in [chr(plane << 16 | place) + " good" for plane in PLANES for place in (0x0041, 0xFFFF)]:
        assert server.predict({"text": text}).json()["label"] == "pos"
    assert server.predict({"text": "\x00"}).status == 200
    assert server.predict({"text": "\ud800"}).status == 400
    assert server.predict({"text": "a" * 1_000_000}).status == 413
