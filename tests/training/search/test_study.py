"""The settings of a search and its trials: bounds, order, pruning, and the file that outlives a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.recipe.recipe import Recipe
from training.search.budget import seconds_of, shown
from training.search.outcome import sentence
from training.search.settings import Space, open_options
from training.search.study import Study

DEFAULT = Recipe(learning_rate=1.5e-4, head_learning_rate=1.5e-3, epochs=4.0)
ALL = Space(("learning_rate", "head_learning_rate", "epochs"), DEFAULT)
HEAD = Space(("head_learning_rate",), DEFAULT)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("30", 1800), (" 2H ", 7200), ("0.5 h", 1800), ("10s", 10)]
)
def test_a_budget_has_a_unit_or_is_in_minutes(text: str, seconds: float) -> None:
    """Seconds, minutes and hours are read, and a plain number is minutes."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "9s", "-5m", "0", "1e3m", "5d", "169h", "nan", "30mm"])
def test_a_budget_that_cannot_be_meant_is_refused(text: str) -> None:
    """Another form, too short a time and more than a week are refused with the value and an example."""
    with pytest.raises(TrainingError, match=rf"--auto is '{text}', expected (a time such as|10s to 168h)"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (41.4, "41 s"), (59.6, "1 min"), (432, "7 min 12 s"), (3600, "1 h"), (7530, "2 h 5 min")],
)
def test_a_time_is_shown_in_two_units(seconds: float, text: str) -> None:
    """Times have the two largest units."""
    assert shown(seconds) == text


def test_options_that_are_given_are_not_searched() -> None:
    """Only what the recipe leaves open is searched; a recipe that names all has nothing to search."""
    assert open_options(Recipe(epochs=3.0)) == ("learning_rate", "head_learning_rate")
    assert open_options(Recipe(few_labels=True)) == ("learning_rate", "epochs")
    with pytest.raises(TrainingError, match=r"nothing to search: .* learning_rate 0.00015, .* epochs 4; leave one"):
        open_options(DEFAULT)


def test_the_defaults_are_a_point_of_the_space() -> None:
    """The point of the defaults gives exactly the recipe with the defaults; another one changes its options alone."""
    assert ALL.default_params() == {"learning_rate": 1.5e-4, "head_learning_rate": 10, "epochs": 4}
    assert ALL.recipe_of(ALL.default_params()) is DEFAULT
    assert ALL.settings({"learning_rate": 3.14159e-4, "head_learning_rate": 3, "epochs": 8}) == {
        "learning_rate": 3.1e-4,
        "head_learning_rate": 9.3e-4,
        "epochs": 8.0,
    }
    assert HEAD.settings({"head_learning_rate": 30}) == {"head_learning_rate": 0.0045}
    one_rate = Space(("head_learning_rate",), Recipe(learning_rate=1e-4, epochs=4.0))
    assert one_rate.default_params() == {"head_learning_rate": 1}


def test_the_bounds_follow_the_defaults() -> None:
    """Rates reach from a third to three times the default, epochs from half to twice, above those of the head alone."""
    assert ALL.rates == pytest.approx((5e-5, 4.5e-4))
    assert ALL.epochs == (2, 8)
    assert Space(("epochs",), Recipe(epochs=3.0, head_first_epochs=2, learning_rate=1e-4)).epochs == (3, 6)


def ended(study: Study, value: float | None, seconds: float = 1.0) -> dict[str, float]:
    """Run the next trial to its end; return its settings."""
    trial = study.next()
    assert trial is not None
    study.end(trial, value, seconds)
    return dict(trial.params)


def test_the_first_trial_is_the_defaults(tmp_path: Path) -> None:
    """A search begins with the defaults, and stays within the bounds."""
    study = Study(tmp_path / "log", ALL, 0)
    assert ended(study, 0.5) == ALL.default_params()
    for _ in range(12):
        found = ended(study, 0.4)
        assert ALL.rates[0] <= found["learning_rate"] <= ALL.rates[1]
        assert 2 <= found["epochs"] <= 8
        assert found["head_learning_rate"] in (1, 3, 10, 30)


def test_settings_are_not_tried_twice(tmp_path: Path) -> None:
    """A search of four settings has four trials, and then none."""
    study = Study(tmp_path / "log", HEAD, 0)
    assert sorted(ended(study, 0.5)["head_learning_rate"] for _ in range(4)) == [1, 3, 10, 30]
    assert study.next() is None
    assert len(study.tried()) == 4


def test_a_trial_that_was_killed_is_tried_again(tmp_path: Path) -> None:
    """After a kill the trials that had ended are kept, the broken one comes next, and those after it are as ever."""
    whole = Study(tmp_path / "whole", ALL, 7)
    expected = [ended(whole, value) for value in (0.5, 0.6, 0.4)]
    before = Study(tmp_path / "log", ALL, 7)
    assert [ended(before, value) for value in (0.5, 0.6)] == expected[:2]
    broken = before.next()
    assert broken is not None
    after = Study(tmp_path / "log", ALL, 7)
    assert [one.value for one in after.tried()] == [0.5, 0.6]
    assert after.spent() == 2.0
    assert ended(after, 0.4) == dict(broken.params) == expected[2]
    assert ended(after, 0.4) not in expected


def test_a_trial_below_the_median_is_pruned(tmp_path: Path) -> None:
    """A trial is worse where its best figure so far is below the median of the others at the same part of theirs."""
    study = Study(tmp_path / "log", ALL, 0)
    for figures in ((0.3, 0.5, 0.7), (0.2, 0.6, 0.8)):
        trial = study.next()
        assert trial is not None
        assert not any(study.is_worse(trial, (i + 1) / 3, one) for i, one in enumerate(figures))
        study.end(trial, figures[-1], 1.0)
    trial = study.next()
    assert trial is not None
    assert not study.is_worse(trial, 1 / 6, 0.0)  # the rate has hardly risen
    assert not study.is_worse(trial, 2 / 3, 0.56)
    study.end(trial, 0.7, 1.0)
    trial = study.next()
    assert trial is not None
    assert study.is_worse(trial, 2 / 3, 0.54)
    study.end(trial, None, 1.0)
    assert [one.value for one in study.tried()] == [0.7, 0.8, 0.7, None]


def test_a_trial_out_of_time_counts_its_time_alone(tmp_path: Path) -> None:
    """A trial that ran out of time is not among those tried, and may come again."""
    study = Study(tmp_path / "log", HEAD, 0)
    trial = study.next()
    assert trial is not None
    study.end(trial, None, 5.0, judged=False)
    assert study.tried() == []
    assert study.spent() == 5.0


RECORD = {
    "budget_seconds": 600.0, "seconds": 540.0, "trials": 8, "pruned": 3, "figure": "macro_f1", "rows": 200,
    "default": {"settings": {"epochs": 4.0}, "value": 0.8}, "best": {"settings": {"epochs": 6.0}, "value": 0.82},
    "adopted": True, "gain": {"value": 0.02, "interval": [0.01, 0.03]},
}  # fmt: skip


def test_the_sentence_says_what_was_found_and_gained() -> None:
    """The sentence has the settings, both figures, the rows and the gain with its interval."""
    assert sentence(RECORD) == (
        "8 trials in 9 min, 3 of them pruned: epochs 6; macro-F1 0.8200 against 0.8000 by default (epochs 4) on the "
        "200 rows that chose, gain +0.0200 (95 % interval +0.0100 to +0.0300)"
    )
    chance = sentence(RECORD | {"gain": {"value": 0.02, "interval": [-0.01, 0.05]}})
    assert "(95 % interval -0.0100 to +0.0500; it holds 0, so the gain may be chance)" in chance


def test_the_sentence_says_that_the_defaults_stay() -> None:
    """Without a better trial the defaults are kept, and with one trial the budget was too short."""
    kept = RECORD | {"adopted": False, "best": RECORD["default"], "gain": None}
    assert sentence(kept).endswith(": the defaults are kept (epochs 4; macro-F1 0.8000 on 200 rows)")
    short = "10 min were too short for a second trial; the defaults are taken (epochs 4)"
    assert sentence(kept | {"trials": 1}) == short
    assert sentence(kept | {"trials": 0, "default": {"settings": {"epochs": 4.0}, "value": None}}) == short
