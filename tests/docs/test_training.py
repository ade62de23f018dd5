"""docs/training.md says what is true: every option with its default, the files of a run, its commands and recipes."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.server import ROOT, run_to_end
from training import evaluate
from training.data.reader import FORMATS
from training.recipe.flags import parser
from training.recipe.recipe import OPTIONS, Recipe
from training.report import evaluation_report as report
from training.report import results
from training.run.resume import run_folder_for

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
TITLES = {
    "": "Of the whole",
    "data": "[data]",
    "raw_names": "[raw_names]",
    "model": "[model]",
    "training": "[training]",
}


def section(heading: str) -> str:
    """Return what stands under a heading, up to the next of its level."""
    level = heading.split(" ")[0]
    return PAGE.split(f"\n{heading}\n", 1)[1].split(f"\n{level} ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table rows in `text`, without headers."""
    found = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in found if row[0].strip() not in ("option", "---", "file")]


def options_in_the_page() -> dict[str, tuple[str, str, str]]:
    """Return of each option in the tables its sub-heading, its default and what is said of it."""
    found = {}
    for part in section("## Every option").split("\n### ")[1:]:
        title, text = part.split("\n", 1)
        for name, default, said in rows(text):
            found[name.strip("`")] = (title, default, said)
    return found


def test_every_option_stands_in_the_page_in_its_section_and_order() -> None:
    """The tables have every option of a recipe, no others, each in its section."""
    found = options_in_the_page()
    assert sorted(found) == sorted(OPTIONS)
    for name, (title, _, _) in found.items():
        assert TITLES[OPTIONS[name].section] in title, name


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_of_an_option_is_what_the_page_says(name: str) -> None:
    """The default in the table, read as TOML, is the recipe's; "none" is one that is not there."""
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
    one, said = OPTIONS[name], options_in_the_page()[name][2]
    assert ("No flag" in said) == (one.metavar is None)
    assert (f"The flag is `{one.flag}`" in said) == bool(one.flag)
    assert len(said) > 20


def test_words_that_an_option_takes_are_named() -> None:
    """Each word that an option takes in place of a number, or instead of other words, stands in the page."""
    for name, one in OPTIONS.items():
        for word in one.choices:
            assert f'"{word}"' in options_in_the_page()[name][2], (name, word)


def test_the_files_of_a_run_are_those_that_it_writes() -> None:
    """The table of what a run leaves has every file that the run's code names."""
    named = set(re.findall(r"`([\w.]+\.(?:json|csv|png|toml|md|safetensors))`", section("## What a run leaves")))
    written = {
        *(results.RECORD, results.RECIPE, results.EPOCHS, results.HELD_OUT, results.CALIBRATION, results.VALIDATION),
        *(results.CURVES, results.LENGTHS, report.REPORT, report.CONFUSION, report.MISTAKES),
    }
    assert named == written | {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert f"`{run_folder_for(Path('NAME')).folder}`" in section("## Stopped, and going on")


def test_every_format_is_named() -> None:
    """Each ending of a file that training reads stands in the table of sources."""
    for ending in FORMATS:
        assert f"`{ending}`" in section("## Data"), ending


def test_every_recipe_has_a_row_with_its_command() -> None:
    """Each recipe stands in the table of systems, with the command that its own head gives."""
    table = [row for row in rows(section("## The systems")) if row[0] != "system"]
    shown = {row[1].split("]")[0].strip("["): row[2].strip("`") for row in table}
    assert sorted(shown) == sorted(path.name for path in (ROOT / "recipes").glob("*.toml"))
    for row in table:
        head = (ROOT / "recipes" / row[1].split("]")[0].strip("[")).read_text(encoding="utf-8")
        assert f"#   {row[2].strip('`')}\n" in head, row[2]


def test_every_flag_of_a_command_exists() -> None:
    """Each flag that the page gives to training, evaluation or export is one that the command has."""
    known = {
        "training": parser().format_help(),
        "training.evaluate": evaluate._parser().format_help(),
        "export": run_to_end(sys.executable, "-m", "export", "-h").stdout,
    }
    commands = re.findall(r"-m (training\.evaluate|training|export) ([^\n`]*)", PAGE)
    assert {module for module, _ in commands} == set(known)
    for module, given in commands:
        for flag in re.findall(r"(?<!\S)--[a-z][\w-]*", given):
            assert flag in known[module], f"python -m {module} has no {flag}"
    prose = set(re.findall(r"`(--[a-z][a-z-]*)", PAGE)) - {"--calibrate", "--build-arg", "--user", "--no-", "--cpu"}
    for flag in prose:
        assert flag in known["training"] + known["training.evaluate"], flag


def test_links_within_the_page_lead_to_headings() -> None:
    """Each link to a place in the page is a heading's."""
    headings = re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    places = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert link in places, link
