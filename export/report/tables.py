"""Layout of figures for readers, shared by the terminal and the model card."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

_FORMATS = {"percent": "{:.2%}", "points": "{:+.2%}", "score": "{:.4f}", "change": "{:+.4f}", "nats": "{:.5f}"}
_WIDTH = 80

Row = tuple[str, str, str, str]


def rows_of(figures: Mapping[str, Any], names: Mapping[str, tuple[str, str]]) -> list[Row]:
    """Return a row for each of the figures: its name, value, 95 % interval and n.

    names: the shown name and the format of each figure, in order; figures that are not there get no row.
    """
    rows = []
    for key, (name, kind) in names.items():
        if key in figures:
            figure = figures[key]
            value, low, high = (_shown(figure[part], kind) for part in ("value", "low", "high"))
            interval = f"{low.removesuffix(' %').removesuffix(' pt')} to {high}" if low else ""  # the unit once
            rows.append((name, value, interval, str(figure["n"])))
    return rows


def _shown(value: float | None, kind: str) -> str:
    if value is None:
        return ""
    return _FORMATS[kind].format(value).replace("%", " pt" if kind == "points" else " %")


def terminal_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of at most 80 columns under a heading."""
    headed = [("", "", "95 % interval", "n"), *rows]
    return [f"    {name:<27}{value:>11}   {interval:<24}{n:>7}".rstrip() for name, value, interval, n in headed]


def terminal_notes(notes: Sequence[str]) -> list[str]:
    """Return sentences as lines of at most 80 columns; continued lines are indented further."""
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
    return [line for note in notes for line in wrapper.wrap(note)]


def card_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of a Markdown table."""
    return ["| | | 95 % interval | n |", "| --- | ---: | --- | ---: |", *(f"| {' | '.join(row)} |" for row in rows)]


def cell(text: str) -> str:
    """Return `text` escaped for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def kept_layers(count: int) -> str:
    """Return the words for `count` layers in fp32."""
    return f"{count} layer{'' if count == 1 else 's'} kept in fp32"
