"""`--auto` as a command: the rows that choose, the settings of the final run, a kill in the middle, mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer.bundle.manifest import SINGLE_LABEL
from tests.support.fruit import FLAGS, write_base, write_table
from tests.support.server import ROOT, environment, run_to_end
from training.__main__ import main
from training.data.dataset import Columns, Dataset
from training.errors import DivergedError, TrainingError
from training.evaluation.predictions import Predictions
from training.recipe.checks import check_recipe
from training.recipe.recipe import Recipe, read_recipe
from training.run.resume import run_folder_for
from training.search import trial as trials
from training.search.search import search_folder_for, searched
from training.splits.splits import Splits, read_splits

HEADS_ALONE = ("--epochs", "8", "--learning-rate", "0.003", "--batch-size", "8", "--max-length", "24")
Run = Callable[..., Predictions]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def given(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table and the base model."""
    return write_table(tmp_path_factory.mktemp("given") / "fruit.csv"), base


def command(given: tuple[Path, Path], target: Path, *flags: str) -> list[str]:
    """Return the arguments of a search for the head's rate."""
    table, base = given
    common = ["--data", str(table), "--text-column", "text", "--base-model", str(base), "--output", str(target)]
    return [*common, *HEADS_ALONE, "--label-column", "colour", "--auto", "1h", *flags]


def recipe_of(given: tuple[Path, Path], target: Path, **options: Any) -> Recipe:
    """Return a recipe that leaves the head's rate open."""
    common = {"label_column": "colour", "epochs": 8.0, "learning_rate": 0.003, "batch_size": 8, "max_length": 24}
    made = {**common, "file": given[0], "text_column": "text", "base_model": str(given[1]), "output": target, **options}
    return check_recipe(Recipe(**made))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Recipe]]:
    """Return a function that puts models that are right on given shares of the rows, by trial, in place of training."""

    def use(*shares: float | Exception) -> list[Recipe]:
        seen: list[Recipe] = []

        def run(recipe: Recipe, splits: Splits, *_: Any) -> Predictions:
            share = shares[len(seen)]
            seen.append(recipe)
            if isinstance(share, Exception):
                raise share
            truth = splits.held_out.multi_hot()
            wrong = np.roll(truth, 1, axis=1)
            chosen = np.where(np.arange(len(truth))[:, None] < share * len(truth), truth, wrong)
            return Predictions(chosen.astype(float), chosen)

        monkeypatch.setattr(trials, "run_trial", run)
        return seen

    return use


def test_the_best_settings_are_those_of_the_final_run(given: tuple[Path, Path], tmp_path: Path, fake: Any) -> None:
    """The final recipe has the settings of the best trial, the first trial was the defaults, the folder goes."""
    seen = fake(0.5, 0.7, 0.9, 0.6)
    recipe = recipe_of(given, tmp_path / "model")
    with searched(recipe, read_splits(recipe), 3600, restart=False) as (found, record):
        assert search_folder_for(recipe.target).is_dir()
        assert record["best"]["settings"] == {"head_learning_rate": seen[2].head_learning_rate}
        assert found.head_learning_rate == seen[2].head_learning_rate
        assert found.learning_rate == 0.003
    assert not search_folder_for(recipe.target).exists()
    assert seen[0].head_learning_rate is None
    assert (record["trials"], record["pruned"], record["rows"], record["adopted"]) == (4, 0, 50, True)
    assert record["gain"]["value"] == pytest.approx(record["best"]["value"] - record["default"]["value"])
    assert record["gain"]["interval"][0] > 0


def test_the_defaults_are_kept_unless_they_are_beaten(
    given: tuple[Path, Path], tmp_path: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal, pruned and diverged trials leave the recipe as it is."""
    fake(0.7, 0.7, trials.PrunedError(), DivergedError("infinite"))
    recipe = recipe_of(given, tmp_path / "model")
    with searched(recipe, read_splits(recipe), 3600, restart=False) as (found, record):
        assert found == recipe
    assert (record["trials"], record["pruned"], record["adopted"], record["gain"]) == (4, 2, False, None)
    said = capsys.readouterr().err
    assert re.search(r"trial 1: head_learning_rate 0\.003, macro-F1 0\.\d+, 0 s, the defaults; ", said)
    assert "pruned" in said
    assert "diverged" in said
    assert "the defaults are kept" in said


def test_the_settings_kept_are_those_that_were_tried(given: tuple[Path, Path], tmp_path: Path, fake: Any) -> None:
    """The run has the epochs that the search names as defaults: those of the rows without the ones that chose."""
    seen = fake(*[0.7] * 100)
    recipe = replace(recipe_of(given, tmp_path / "model"), epochs=None, head_learning_rate=0.01)
    with searched(recipe, read_splits(recipe), 3600, restart=False) as (found, record):
        assert found.epochs == seen[0].epochs == record["default"]["settings"]["epochs"]
    assert not record["adopted"]


def test_rows_without_the_figure_that_chooses_are_named(
    given: tuple[Path, Path], tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rows to choose by give the defaults' trial no figure, as equal numbers do, the search ends there."""
    fake(0.7)
    monkeypatch.setattr("training.search.search.measure", lambda *_, **__: {"macro_f1": None})
    recipe = recipe_of(given, tmp_path / "model")
    with (
        pytest.raises(TrainingError, match="^--auto chooses by macro-F1, which the 50 rows to choose by lack$"),
        searched(recipe, read_splits(recipe), 3600, restart=False),
    ):
        pass


def test_a_budget_too_short_for_a_second_trial_says_so(
    given: tuple[Path, Path],
    tmp_path: Path,
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the defaults themselves run out of time, they are taken, with a sentence; a longer budget begins there."""

    def late(*_: Any) -> Predictions:
        time.sleep(0.6)
        raise trials.OutOfTimeError

    monkeypatch.setattr(trials, "run_trial", late)
    recipe = recipe_of(given, tmp_path / "model")
    with (
        pytest.raises(OSError, match="full"),
        searched(recipe, read_splits(recipe), 0.5, restart=False) as (found, record),
    ):
        raise OSError("full")
    assert found == recipe
    assert record["default"]["value"] is None
    assert "too short for a second trial; the defaults are taken" in capsys.readouterr().err
    seen = fake(0.5, 0.6, 0.5, 0.5)
    with searched(recipe, read_splits(recipe), 3600, restart=False) as (found, record):
        assert found.head_learning_rate == seen[1].head_learning_rate
    assert seen[0].head_learning_rate is None
    assert record["trials"] == 4


def test_a_search_whose_final_run_failed_is_not_repeated(given: tuple[Path, Path], tmp_path: Path, fake: Any) -> None:
    """The same command takes the settings that were found; other options are refused by name until --restart."""
    seen = fake(0.5, 0.9, 0.6, 0.7, 0.5, 0.5, 0.5, 0.5)
    recipe = recipe_of(given, tmp_path / "model")
    splits = read_splits(recipe)
    with pytest.raises(OSError, match="full"), searched(recipe, splits, 3600, restart=False) as (first, _):
        raise OSError("full")
    other = recipe_of(given, tmp_path / "model", seed=5)
    with (
        pytest.raises(TrainingError, match="model.search: a search that stopped there differs: seed was 0, is 5"),
        searched(other, splits, 3600, restart=False),
    ):
        pass
    with searched(recipe, splits, 3600, restart=False) as (again, _):
        assert again == first
        assert len(seen) == 4
    with searched(other, splits, 3600, restart=True):
        assert len(seen) == 8


def test_the_rows_that_choose_are_not_held_out(given: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """Trials see validation rows, or else a tenth of the training rows and 50 at least, and never the held-out ones."""
    seen: list[Splits] = []

    def run(_recipe: Recipe, splits: Splits, *_: Any) -> Predictions:
        seen.append(splits)
        chosen = splits.held_out.multi_hot()
        return Predictions(chosen.astype(float), chosen)

    monkeypatch.setattr(trials, "run_trial", run)
    for share in (0.0, 0.2):
        recipe = recipe_of(given, tmp_path / "model", validation_share=share)
        splits = read_splits(recipe)
        with searched(recipe, splits, 3600, restart=False):
            pass
        part = seen[-1]
        assert not set(part.held_out.texts) & set(splits.held_out.texts)
        assert not set(part.held_out.texts) & set(part.train.texts)
        if splits.validation is None:
            assert len(part.held_out) == 50
            assert len(part.train) == len(splits.train) - 50
        else:
            assert (part.train, part.held_out) == (splits.train, splits.validation)


def test_too_few_rows_to_choose_by_are_an_error(given: tuple[Path, Path], tmp_path: Path) -> None:
    """Of fewer than 100 training rows none are taken."""
    recipe = recipe_of(given, tmp_path / "model", test_share=0.5)
    with (
        pytest.raises(TrainingError, match="takes 50 of the 80 training rows to choose by; give 100 or more"),
        searched(recipe, read_splits(recipe), 60, restart=False),
    ):
        pass


def data_of(n: int) -> Splits:
    """Return rows of two labels."""
    texts = tuple(f"{('red', 'green')[i % 2]} word{i % 40}" for i in range(n))
    targets = tuple((i % 2,) for i in range(n))
    rows = Dataset(texts, targets, ("a", "b"), SINGLE_LABEL, Columns("text", "colour"))
    return Splits(rows.subset(range(n - 10)), rows.subset(range(n - 10, n)), None, None, "made", (), (), {})


def test_a_trial_stops_where_it_is_worse_or_out_of_time(given: tuple[Path, Path], tmp_path: Path) -> None:
    """A trial ends after the epoch that is worse, and at the first step after the deadline; it saves nothing."""
    recipe = recipe_of(given, tmp_path / "model", epochs=5.0)
    shares: list[float] = []

    def is_worse(share: float, value: float) -> bool:
        assert 0 <= value <= 1
        shares.append(share)
        return share > 0.5

    with pytest.raises(trials.PrunedError):
        trials.run_trial(recipe, data_of(50), tmp_path / "trial", is_worse, time.monotonic() + 100)
    assert shares == pytest.approx([0.2, 0.4, 0.6])
    with pytest.raises(trials.OutOfTimeError):
        trials.run_trial(recipe, data_of(50), tmp_path / "trial", is_worse, time.monotonic())
    assert len(shares) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (("--auto", "soon"), "--auto is 'soon', expected a time such as 90s, 30m or 2h"),
        (("--head-learning-rate", "0.01"), "--auto has nothing to search: the recipe and the flags name learning_rate"),
    ],
)
def test_a_mistake_is_named_before_the_data_is_read(
    flags: tuple[str, ...], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong budget and a recipe without open settings are found before the table is opened."""
    assert main(command((tmp_path / "missing.csv", tmp_path / "base"), tmp_path / "model", *flags)) == 2
    assert f"training: {fault}" in capsys.readouterr().err


@pytest.mark.usefixtures("own_signals")
def test_several_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launcher's processes do not search."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command((tmp_path / "missing.csv", tmp_path / "base"), tmp_path / "model")) == 2
    assert "--auto runs in one process, not in 2: search without the launcher" in capsys.readouterr().err


@pytest.mark.usefixtures("own_signals")
def test_a_missing_optuna_is_named_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without optuna, --auto says how to install it."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "training.search.study", raising=False)
    assert main(command((tmp_path / "missing.csv", tmp_path / "base"), tmp_path / "model")) == 2
    assert capsys.readouterr().err == "training: --auto needs optuna: pip install optuna\n"


def lines_of(text: str) -> list[str]:
    """Return the settings of the trials that a log names."""
    return re.findall(r"trial \d+: ([^,]*),", text.replace("\r", "\n"))


@pytest.mark.slow
def test_a_search_killed_in_the_middle_goes_on(given: tuple[Path, Path], tmp_path: Path) -> None:
    """After SIGKILL the same command keeps the trials, tries the others, trains, and leaves the folder of a run."""
    target, log = tmp_path / "model", tmp_path / "log"
    settings = environment(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "training", *command(given, target)], cwd=ROOT, env=settings, stdout=out, stderr=out
        )
        deadline = time.monotonic() + 120
        while len(lines_of(log.read_text())) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.wait()
    before = lines_of(log.read_text())
    assert process.returncode == -9, log.read_text()
    assert 2 <= len(before) <= 3
    done = run_to_end(
        sys.executable, "-m", "training", *command(given, target), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert f"resuming after {len(before)} trials" in done.stderr
    after = lines_of(done.stderr)
    assert len({*before, *after}) == len(before) + len(after) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "model"]
    record = json.loads((target / "training.json").read_text())
    assert record["search"]["trials"] == 4
    recipe = read_recipe(target / "recipe.toml")
    if record["search"]["adopted"]:
        assert recipe.head_learning_rate == record["search"]["best"]["settings"]["head_learning_rate"]
    assert "auto" not in (target / "recipe.toml").read_text().replace('precision = "auto"', "")
    card = (target / "README.md").read_text()
    assert "Search of the settings: 4 trials in" in card


@pytest.mark.slow
@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("figure", "labels"),
    [
        ("micro_f1", ("--label-column", "fruits", "--label-separator", "|", "--allow-unlabelled")),
        ("spearman", ("--label-column", "id", "--problem-type", "regression")),
        ("ndcg_at_10", ("--label-column", "pear", "--problem-type", "regression", "--group-column", "query")),
    ],
)
def test_every_kind_of_model_can_be_searched(figure: str, labels: tuple[str, ...], base: Path, tmp_path: Path) -> None:
    """Multi-label, a regression and a ranking have their own figure, and train with what was found."""
    table = write_table(tmp_path / "fruit.csv")
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},query", *(f"{line},{i // 8}" for i, line in enumerate(lines))]))
    common = ["--data", str(table), "--text-column", "text", "--base-model", str(base), *FLAGS, *labels]
    common[common.index("--epochs") + 1] = "2"
    assert main([*common, "--output", str(tmp_path / "model"), "--auto", "1h"]) == 0
    search = json.loads((tmp_path / "model" / "training.json").read_text())["search"]
    assert search["trials"] == 4
    assert search["figure"] == figure
    assert not run_folder_for(tmp_path / "model").folder.exists()
