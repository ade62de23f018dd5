"""A time budget, from text and as text. No torch."""

from __future__ import annotations

import re

from training.errors import TrainingError

_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smh]?)")
_SECONDS = {"s": 1, "m": 60, "": 60, "h": 3600}
_LEAST, _MOST = 10, 7 * 24 * 3600


def seconds_of(text: str) -> float:
    """Return the seconds of a budget such as "90s", "30m" or "2h"; a plain number is minutes.

    Raises TrainingError for another form, and for less than 10 seconds or more than a week.
    """
    found = _BUDGET.fullmatch(text.strip().lower())
    if found is None:
        raise TrainingError(f"--auto is {text!r}, expected a time such as 90s, 30m or 2h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if not _LEAST <= seconds <= _MOST:
        raise TrainingError(f"--auto is {text!r}, expected 10s to 168h")
    return seconds


def shown(seconds: float) -> str:
    """Return `seconds` as "41 s", "7 min 12 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    (large, small), (one, other) = (divmod(whole, 60), ("min", "s"))
    if whole >= 3600:
        (large, small), (one, other) = divmod(whole // 60, 60), ("h", "min")
    return f"{large} {one} {small} {other}" if small else f"{large} {one}"
