"""Side-by-side timing: the calls take turns, so that noise slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def interleaved(
    calls: dict[str, Callable[[str], object]], texts: Sequence[str], rounds: int, warm_up: int
) -> dict[str, float]:
    """Return each call's median time in ms over `texts` and `rounds`, taken in turn after `warm_up` rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm_up + rounds):
        for text in texts:
            for name, call in calls.items():
                began = time.perf_counter()
                call(text)
                if number >= warm_up:
                    times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}
