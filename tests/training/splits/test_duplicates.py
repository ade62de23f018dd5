"""Texts shared between parts leave the training part, and a shuffle equals Hugging Face's."""

from __future__ import annotations

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.splits.splits import first_shuffled, without_shared_texts
from training.splits.stratify import plain


def rows(*texts: str) -> Dataset:
    """Return a data set with these texts."""
    targets = tuple((i % 2,) for i in range(len(texts)))
    return Dataset(texts, targets, ("a", "b"), SINGLE_LABEL, Columns("text", "label"))


def test_texts_that_are_held_out_too_are_taken_out() -> None:
    """Training rows with a held-out text, ignoring case and spaces, are taken out and counted; others stay."""
    train = rows("One", " two\n\tTWO ", "three", "Straße", "four", "four")
    kept, removed = without_shared_texts(train, rows("ONE ", "Two two", "STRASSE", "other"))
    assert (kept.texts, kept.targets, removed) == (("three", "four", "four"), ((0,), (0,), (1,)), 3)
    assert without_shared_texts(kept, rows("other")) == (kept, 0)


def test_parts_that_are_the_same_are_refused() -> None:
    """A training part without a row left is an error in one line."""
    with pytest.raises(TrainingError, match="each of the 2 texts to train on is among the held-out texts too"):
        without_shared_texts(rows("a", "b"), rows("B", "A"))


@settings(max_examples=100)
@given(texts=st.lists(st.text("aA bßé\t", max_size=4), min_size=1, max_size=8), held=st.lists(st.text("aAb ")))
def test_no_held_out_text_is_left(texts: list[str], held: list[str]) -> None:
    """No text is left in both parts, and no text of one part alone is taken out."""
    held_plain = {plain(text) for text in held}
    expected = tuple(text for text in texts if plain(text) not in held_plain)
    if expected:
        assert without_shared_texts(rows(*texts), rows(*held))[0].texts == expected


@pytest.mark.parametrize(("size", "n", "seed"), [(1, 1, 0), (50, 7, 42), (1000, 1000, 2**32 - 1)])
def test_a_shuffle_is_hugging_face_s(size: int, n: int, seed: int) -> None:
    """The first n shuffled rows equal datasets.Dataset.shuffle(seed).select(range(n))."""
    data = rows(*map(str, range(size)))
    theirs = datasets.Dataset.from_dict({"text": data.texts}).shuffle(seed=seed).select(range(n))
    found = first_shuffled(data, n, seed, "rows")
    assert list(found.texts) == list(theirs["text"])
    assert found.targets == tuple((int(text) % 2,) for text in found.texts)


def test_no_number_means_all_rows_in_order() -> None:
    """With n 0 all rows keep their order; a negative or too large n is refused."""
    data = rows("a", "b", "c")
    assert first_shuffled(data, 0, 1, "rows") == data
    for n in (4, -1):
        with pytest.raises(TrainingError, match=rf"^rows is {n}, expected 0 \(all\) to 3, the rows"):
            first_shuffled(data, n, 1, "rows")
