"""The command's flags, derived from the recipe's options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from training.recipe.options import BALANCED, Option
from training.recipe.recipe import OPTIONS, Recipe

_METAVARS = {"source": "FILE", "text": "NAME", "base": "NAME", "names": "A,B,…", "numbers": "N,…", "number": "X"}
_METAVARS |= {"models": "MODEL,…", "whole": "N", "weights": f"{BALANCED}|LABEL=X,…"}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser; its namespace holds only the flags that are given, under the options' names."""
    made = argparse.ArgumentParser(
        prog="python -m training",
        description="Fine-tune a text classifier and write a Hugging Face checkpoint.",
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("--config", metavar="RECIPE.toml", help="a recipe; flags override it")
    for section in ("data", "model", "training", ""):
        group = made.add_argument_group(section or "output")
        for name, one in OPTIONS.items():
            if one.section == section and one.metavar is not None:
                _add(group, name, one)
    search = made.add_argument_group("search")
    search.add_argument("--auto", metavar="TIME", help="try rates and epochs first, for 30m, 2h, …; needs optuna")
    out = made.add_argument_group("an earlier run")
    out.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    out.add_argument("--restart", action="store_true", help="discard the progress of an interrupted run")
    return made


def _add(group: Any, name: str, one: Option) -> None:
    flag = one.flag or "--" + name.replace("_", "-")
    help_text = _with_default(one.help, getattr(Recipe(), name)).replace("%", "%%")
    if one.kind == "flag":
        group.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=help_text)
        return
    kinds: dict[str, Callable[[str], Any]] = {
        "whole": int, "number": float, "names": _names, "models": _names, "numbers": _numbers, "weights": _weights,
    }  # fmt: skip
    kind = kinds.get(one.kind, str)
    if one.choices and kind in (int, float):
        kind = _or_word(kind)
    group.add_argument(flag, dest=name, type=kind, metavar=_metavar(one), help=help_text)


def _metavar(one: Option) -> str | None:
    """Return the values of a flag in the help: its words in braces, the words beside a number behind a bar."""
    if one.choices and one.kind == "text":
        return "{" + ",".join(one.choices) + "}"
    if one.choices and one.kind == "names":
        return ",".join(one.choices)
    kind = one.metavar or _METAVARS.get(one.kind)
    return "|".join([kind, *one.choices]) if kind else None


def _with_default(text: str, default: Any) -> str:
    if default in (None, (), False):
        return text
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{text} ({','.join(map(str, shown)) if isinstance(shown, tuple) else shown})".strip()


def _or_word(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a converter to `kind` that keeps a word, which the recipe checks against the words allowed."""

    def either(given: str) -> Any:
        try:
            return kind(given)
        except ValueError:
            return given

    return either


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def _numbers(value: str) -> list[int]:
    return [int(part) for part in value.split(",")]


def _weights(value: str) -> Any:
    """Return "balanced", or the table in "label=weight,label=weight"."""
    if value == BALANCED:
        return value
    pairs = [part.rpartition("=") for part in value.split(",")]
    return {label.strip(): float(number) for label, _, number in pairs}


_weights.__name__ = "weights"
_numbers.__name__ = "list of whole numbers"
