"""The result of a search: its record in training.json, and the sentences made from it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.search.budget import shown

_FIGURES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "spearman": "Spearman", "ndcg_at_10": "nDCG@10"}


def figure_name(metric: str) -> str:
    """Return the words for a figure."""
    return _FIGURES[metric]


def settings_text(settings: Mapping[str, float]) -> str:
    """Return settings as "learning_rate 0.0002, epochs 4"."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def sentence(search: Mapping[str, Any]) -> str:
    """Return what a search found and gained, as one line. search: the record in training.json."""
    name, default, best, gain = figure_name(search["figure"]), search["default"], search["best"], search["gain"]
    by_default = settings_text(default["settings"])
    if search["trials"] < 2:
        time = shown(search["budget_seconds"])
        return f"{time} were too short for a second trial; the defaults are taken ({by_default})"
    tried = f"{search['trials']} trials in {shown(search['seconds'])}, {search['pruned']} of them pruned"
    if not search["adopted"]:
        measured = f"{name} {default['value']:.4f} on {search['rows']} rows"
        return f"{tried}: the defaults are kept ({by_default}; {measured})"
    low, high = gain["interval"]
    chance = "; it holds 0, so the gain may be chance" if low <= 0 <= high else ""
    return (
        f"{tried}: {settings_text(best['settings'])}; {name} {best['value']:.4f} against {default['value']:.4f} by "
        f"default ({by_default}) on the {search['rows']} rows that chose, gain {gain['value']:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f}{chance})"
    )
