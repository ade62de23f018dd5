"""Figures as rows for a reader: one wording and one layout for the screen and the model card. Reads plain types."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

_FORMATS = {
    "percent": lambda value: f"{100 * value:.2f} %",
    "points": lambda value: f"{100 * value:+.2f} pt",
    "score": lambda value: f"{value:.4f}",
    "change": lambda value: f"{value:+.4f}",
    "nats": lambda value: f"{value:.5f}",
}
_WIDTH = 80

Row = tuple[str, str, str, str]


def rows_of(figures: Mapping[str, Any], words: Mapping[str, tuple[str, str]]) -> list[Row]:
    """Return a row for each figure that is there: what, value, 95 % interval, n.

    words: of each figure, in order, what it is called and in which format it is shown.
    """
    rows = []
    for name, (what, kind) in words.items():
        if name not in figures:
            continue
        figure, show = figures[name], _FORMATS[kind]
        interval = "" if figure["low"] is None else _interval(show(figure["low"]), show(figure["high"]))
        rows.append((what, show(figure["value"]), interval, str(figure["n"])))
    return rows


def screen_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of at most 80 columns under a heading."""
    headed = [("", "", "95 % interval", "n"), *rows]
    return [f"    {what:<27}{value:>11}   {interval:<24}{n:>7}".rstrip() for what, value, interval, n in headed]


def screen_notes(notes: Sequence[str]) -> list[str]:
    """Return sentences as lines of at most 80 columns; what goes on in the next line is set in further."""
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
    return [line for note in notes for line in wrapper.wrap(note)]


def card_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of a Markdown table."""
    return ["| | | 95 % interval | n |", "| --- | ---: | --- | ---: |", *(f"| {' | '.join(row)} |" for row in rows)]


def cell(text: str) -> str:
    """Return `text` as it can stand in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _interval(low: str, high: str) -> str:
    return f"{low.removesuffix(' %').removesuffix(' pt')} to {high}"  # the unit once
