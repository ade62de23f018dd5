"""An option of a recipe: its section, type and range, and the conversion of values from TOML and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.location import is_address
from training.errors import TrainingError

BALANCED = "balanced"


@dataclass(frozen=True)
class Option:
    """One option. low and high: an inclusive range. choices: words allowed besides the kind's own values.

    kind: "text"; "whole" and "number" (or one of `choices`); "flag"; "names" (a list); "numbers" (whole ones); "path"
    (relative to the working folder); "source" (an address, or a path relative to the recipe); "base" (a folder beside
    the recipe, or a name); "models" (a list of folders or files beside the recipe, addresses, or names); "weights"
    ("balanced", or label -> number). metavar: where it differs from the kind's; None: without a flag. flag: where it
    differs from the option's name.
    """

    section: str
    kind: str
    help: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = ""
    flag: str = ""


def option(default: Any, section: str, kind: str, help: str = "", **more: Any) -> Any:  # noqa: A002
    """Return a dataclass field with an Option as its metadata."""
    return field(default=default, metadata={"option": Option(section, kind, help, **more)})


def converted(name: str, one: Option, value: Any, folder: Path, source: str) -> Any:
    """Return `value` in the option's type; relative paths start from `folder`. Raises TrainingError naming `source`."""

    def wrong(expected: str) -> TrainingError:
        return TrainingError(f"{source}: {name} is {value!r}, expected {expected}")

    kind = one.kind
    if kind == "names":
        if not _is_list(value, str) or not all(value):
            raise wrong("a list of names")
        if one.choices and not set(value) <= set(one.choices):
            raise wrong(f"names among {', '.join(one.choices)}")
        return tuple(value)
    if kind == "models":
        if not _is_list(value, str) or not all(value):
            raise wrong("a list of folders, files or names")
        return tuple(str(folder / one) if (folder / one).exists() else one for one in value)
    if kind == "numbers":
        if not _is_list(value, int) or not all(one.low <= n <= one.high for n in value):
            raise wrong(f"a list of whole numbers from {one.low:g} to {one.high:g}")
        return tuple(value)
    if kind == "weights":
        if value == BALANCED:
            return value
        if not isinstance(value, Mapping) or not value or not all(_is_positive(v) for v in value.values()):
            raise wrong(f"{BALANCED!r} or a table of label = number above 0")
        return {str(label): float(number) for label, number in value.items()}
    if kind in ("path", "source"):
        if not isinstance(value, str) or not value:
            raise wrong("a path")
        if kind == "path":
            return Path(value).expanduser()
        return value if is_address(value) else folder / Path(value).expanduser()
    if kind == "base" and isinstance(value, str) and (folder / value).is_dir():
        return str(folder / value)
    if one.choices and isinstance(value, str):
        if value in one.choices:
            return value
        if kind == "text":
            raise wrong(" or ".join(map(repr, one.choices)))
    return _plain(one, value, wrong)


def _plain(one: Option, value: Any, wrong: Any) -> Any:
    kind: type = {"whole": int, "number": float, "flag": bool}.get(one.kind, str)
    allowed = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, allowed) or value == "":
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a non-empty string"}
        raise wrong(" or ".join([words[kind], *map(repr, one.choices)]))
    return kind(value)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_list(value: Any, of: type) -> bool:
    items = value if isinstance(value, list | tuple) else ()
    return bool(items) and all(isinstance(v, of) and not isinstance(v, bool) for v in items)
