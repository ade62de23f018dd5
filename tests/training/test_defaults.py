"""The learning rates and epochs of a run that names none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.errors import TrainingError
from training.recipe.checks import check_recipe
from training.recipe.defaults import with_schedule
from training.recipe.recipe import Recipe, as_toml, read_recipe


def settled(recipe: Recipe, *, fresh_head: bool = True, **facts: object) -> Recipe:
    """Return `recipe` for 2,000 single-label rows and an encoder as wide as MiniLM's, unless `facts` say otherwise."""
    given = {"width": 384, "rows": 2000, "problem_type": SINGLE_LABEL, **facts}
    return with_schedule(recipe, fresh_head=fresh_head, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "rate"), [(384, 1e-4), (768, 5e-5), (1024, 2e-5)])
def test_the_rate_falls_with_the_width(width: int, rate: float) -> None:
    """A wider encoder learns at a lower rate, and a fresh head at ten times that."""
    made = settled(Recipe(), width=width)
    assert (made.learning_rate, made.head_learning_rate) == (rate, pytest.approx(10 * rate))


def test_a_given_rate_is_the_heads_too() -> None:
    """A run that names its rate gets that one throughout, and one that names both gets both."""
    assert settled(Recipe(learning_rate=3e-5)).head_learning_rate is None
    both = settled(Recipe(learning_rate=3e-5, head_learning_rate=1e-3))
    assert (both.learning_rate, both.head_learning_rate) == (3e-5, 1e-3)
    assert settled(Recipe(head_learning_rate=1e-3)).head_learning_rate == 1e-3
    assert settled(Recipe(), fresh_head=False).head_learning_rate is None
    assert settled(Recipe(), problem_type=REGRESSION).head_learning_rate is None


@pytest.mark.parametrize(
    ("rows", "single", "multi"), [(50, 10, 20), (1000, 8, 16), (2000, 4, 8), (4000, 3, 5), (100_000, 3, 5)]
)
def test_small_data_is_read_more_often(rows: int, single: int, multi: int) -> None:
    """Epochs make about 8,000 texts, 16,000 of several labels, within bounds; given ones stay."""
    assert settled(Recipe(), rows=rows).epochs == single
    assert settled(Recipe(), rows=rows, problem_type=MULTI_LABEL).epochs == multi
    assert settled(Recipe(epochs=0.5), rows=rows).epochs == 0.5


def test_few_labels_are_read_less() -> None:
    """Few labels have half the rate, one head without a rate of its own, and epochs that make about 1,500 texts."""
    few = Recipe(few_labels=True)
    made = settled(few, rows=300)
    assert (made.epochs, made.learning_rate, made.head_learning_rate) == (5, 5e-5, None)
    assert [settled(few, rows=rows).epochs for rows in (16, 128, 2000)] == [20, 12, 3]


def test_head_first_epochs_leave_some_for_all_weights() -> None:
    """Where the default makes too few epochs for the head's own, the run is refused."""
    with pytest.raises(TrainingError, match=r"^head_first_epochs is 4, expected fewer than epochs \(4\)$"):
        settled(Recipe(head_first_epochs=4))
    assert settled(Recipe(head_first_epochs=3)).epochs == 4


def test_validation_rows_choose_the_epoch() -> None:
    """With validation rows the best epoch is kept and two without a better one end the run, unless said otherwise."""
    base = Recipe(file=Path("x.csv"), text_column="t", label_column="l", output=Path("m"))

    def choosing(**options: object) -> tuple[int | None, bool | None]:
        recipe = check_recipe(Recipe(**{**vars(base), **options}))
        return recipe.early_stopping, recipe.keep_best

    assert choosing() == (0, False)
    assert choosing(validation_share=0.1) == (2, True)
    assert choosing(validation_share=0.1, early_stopping=5) == (5, True)
    assert choosing(validation_share=0.1, keep_best=False) == (2, False)
    assert choosing(validation_share=0.1, early_stopping=0) == (0, True)


def test_a_recipe_that_a_run_wrote_takes_a_share_later(tmp_path: Path) -> None:
    """A run without validation rows leaves their options open, and one with them writes what it did."""
    base = Recipe(file=Path("x.csv"), text_column="t", label_column="l", output=Path("m"))
    (tmp_path / "r.toml").write_text(as_toml(check_recipe(base)), encoding="utf-8")
    again = check_recipe(replace(read_recipe(tmp_path / "r.toml"), validation_share=0.2))
    assert (again.early_stopping, again.keep_best) == (2, True)
    given = check_recipe(replace(base, validation_share=0.2, early_stopping=0))
    (tmp_path / "r.toml").write_text(as_toml(given), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml").early_stopping == 0
