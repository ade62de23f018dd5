"""Balancing: every class has the same number of rows, all from the training part."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inferer.bundle.manifest import SINGLE_LABEL
from recipes.query_type.balance import balanced
from training.data.dataset import Columns, Dataset, rows_needed
from training.splits.stratify import stratified_split


def single(counts: list[int]) -> Dataset:
    """Return a single-label data set with `counts` rows per class and different texts."""
    rows = [(i,) for i, count in enumerate(counts) for _ in range(count)]
    texts = tuple(f"Name {i}" for i in range(len(rows)))
    names = tuple(f"class {i}" for i in range(len(counts)))
    return Dataset(texts, tuple(rows), names, SINGLE_LABEL, Columns("text", "label"))


def pairs(data: Dataset) -> Counter[tuple[str, tuple[int, ...]]]:
    """Return the count of each text with its label."""
    return Counter(zip(data.texts, data.targets, strict=True))


seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(1, 40), min_size=2, max_size=5)


@given(counts=sizes, seed=seeds, size=st.integers(1, 60))
def test_each_class_has_the_same_number_of_rows(counts: list[int], seed: int, size: int) -> None:
    """Each class has the rows asked for; a smaller one keeps all of its own, a larger one repeats none."""
    data = single(counts)
    even = balanced(data, seed, size)
    assert even.counts() == dict.fromkeys(data.labels, size)
    assert (even.labels, even.problem_type, even.columns) == (data.labels, data.problem_type, data.columns)
    before, after = pairs(data), pairs(even)
    assert after.keys() <= before.keys()
    for pair, n in before.items():
        if counts[pair[1][0]] <= size:
            assert after[pair] >= n
        else:
            assert after[pair] <= n


@given(extra=st.lists(st.integers(0, 40), min_size=2, max_size=4), seed=seeds, data=st.data())
def test_no_held_out_text_is_among_the_balanced_rows(extra: list[int], seed: int, data: st.DataObject) -> None:
    """With any seed, no held-out text is in the balanced training rows, ignoring case and spaces."""
    whole = single([rows_needed(0.2) + n for n in extra])
    train, held_out = stratified_split(whole, 0.2, seed)
    even = balanced(train, seed, data.draw(st.integers(1, 200)))

    def plain(part: Dataset) -> set[str]:
        return {" ".join(text.casefold().split()) for text in part.texts}

    assert not plain(even) & plain(held_out)
    assert plain(held_out) == plain(whole) - plain(train)


def test_the_seed_alone_decides_the_draw() -> None:
    """The same seed draws the same rows; another seed draws others, from small and from large classes."""
    data = single([7, 200])
    first = balanced(data, 3, 50)
    assert balanced(data, 3, 50) == first
    other = balanced(data, 4, 50)
    assert other.texts[:50] != first.texts[:50]
    assert other.texts[50:] != first.texts[50:]


def test_a_class_is_drawn_by_its_own_rows_alone() -> None:
    """The draw of one class does not change when another class has more rows."""
    few, more = balanced(single([10, 30]), 0, 20), balanced(single([10, 60]), 0, 20)
    assert few.texts[:20] == more.texts[:20]


def test_topping_up_draws_with_replacement() -> None:
    """The rows that top up a small class are a bootstrap: some rows come often, others once."""
    even = balanced(single([20, 400]), 0, 400)
    times = Counter(text for text, row in zip(even.texts, even.targets, strict=True) if row == (0,))
    assert sum(times.values()) == 400
    assert len(times) == 20
    assert max(times.values()) - min(times.values()) > 5
