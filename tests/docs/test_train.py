"""Checks of docs/train.md: every option with its default, the files of a run, formats, recipes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import page, rows, section
from tests.support.server import ROOT
from training.data.reader import FORMATS
from training.recipe.recipe import OPTIONS, Recipe
from training.report import evaluation_report as report
from training.report import results
from training.run.resume import run_folder_for

PAGE = page("docs/train.md")


def options_in_the_page() -> dict[str, tuple[str, str, str]]:
    """Return each option's sub-heading, default and effect, as the tables have them."""
    found = {}
    for part in section(PAGE, "## Every option").split("\n### ")[1:]:
        title, text = part.split("\n", 1)
        for name, default, effect in rows(text):
            found[name.strip("`")] = (title, default, effect)
    return found


def test_the_page_has_every_option_in_its_section() -> None:
    """The tables have every option of a recipe, no others, each in its section."""
    found = options_in_the_page()
    assert sorted(found) == sorted(OPTIONS)
    for name, (title, _, _) in found.items():
        part = OPTIONS[name].section
        assert (f"`[{part}]`" if part else "The run") in title, name


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_of_an_option_is_what_the_page_says(name: str) -> None:
    """The default in the table, read as TOML, is the recipe's; "none" means no default."""
    default, shown = getattr(Recipe(), name), options_in_the_page()[name][1]
    if default in (None, (), {}):
        assert shown == "none"
        return
    value = tomllib.loads(f"value = {shown.strip('`')}")["value"]
    assert (tuple(value) if isinstance(value, list) else value) == default
    assert isinstance(value, list) or type(value) is type(default)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_flag_of_an_option_is_what_the_page_says(name: str) -> None:
    """An option without a flag, or with another name as a flag, says so; the others do not."""
    one, effect = OPTIONS[name], options_in_the_page()[name][2]
    assert len(effect) > 20
    assert ("No flag" in effect) == (one.metavar is None)
    assert (f"The flag is `{one.flag}`" in effect) == bool(one.flag)


def test_the_page_names_the_words_that_an_option_takes() -> None:
    """The page has each word that an option takes in place of a number, or instead of other words."""
    for name, one in OPTIONS.items():
        for word in one.choices:
            assert f'"{word}"' in options_in_the_page()[name][2], (name, word)


def test_the_files_of_a_run_are_those_that_it_writes() -> None:
    """The table of a run's files has every file that the run's code names."""
    named = set(re.findall(r"`([\w.]+\.(?:json|csv|png|toml|md|safetensors))`", section(PAGE, "## The files of a run")))
    written = {
        *(results.RECORD, results.RECIPE, results.EPOCHS, results.HELD_OUT, results.CALIBRATION, results.VALIDATION),
        *(results.CURVES, results.LENGTHS, report.REPORT, report.CONFUSION, report.MISTAKES),
    }
    assert named == written | {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert f"`{run_folder_for(Path('NAME')).folder}`" in section(PAGE, "## Resume a run")


def test_the_page_names_every_format() -> None:
    """The table of sources has each ending of a file that training reads."""
    for ending in FORMATS:
        assert f"`{ending}`" in section(PAGE, "## Data"), ending


def test_the_planted_errors_are_those_of_the_benchmark() -> None:
    """The table of planted errors is that of benchmarks/results/label_errors.json."""
    result = json.loads((ROOT / "benchmarks/results/label_errors.json").read_text(encoding="utf-8"))
    hits = {50: result["planted"]["of_first_50"], result["flipped"]: result["planted"][f"of_first_{result['flipped']}"]}
    hits[result["found"]] = result["flipped_found"]
    text = section(PAGE, "## Which labels are wrong?")
    shown = {int(row[0].split(",")[0]): row[1:] for row in rows(text)}
    assert shown == {
        n: [f"{count} ({count / n:.0%})".replace("%", " %"), f"{n * result['at_random']:.0f} (5 %)"]
        for n, count in hits.items()
    }
    assert f"{result['rows']:,} titles of papers ({result['flipped']} rows)" in text
    assert (result["planted"] == result["by_score_alone"]) == ("finds as many" in text)


def test_every_recipe_has_a_row_with_its_command() -> None:
    """The table of systems has each recipe, with the command that the recipe's own head gives."""
    table = rows(section(PAGE, "## The systems"))
    shown = {row[1].split("]")[0].strip("["): row[2].strip("`") for row in table}
    assert sorted(shown) == sorted(path.name for path in (ROOT / "recipes").glob("*.toml"))
    for row in table:
        head = (ROOT / "recipes" / row[1].split("]")[0].strip("[")).read_text(encoding="utf-8")
        assert f"#   {row[2].strip('`')}\n" in head, row[2]
