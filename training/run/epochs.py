"""The epochs of a run, from the Trainer's log: losses, figures, and the best one. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_NO_FIGURES = ("eval_loss", "eval_runtime")


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch on the validation rows: its figure, the step at its end, and the number of epochs after it."""

    figure: float
    step: int
    since: int


def best_epoch(history: list[dict[str, Any]], metric: str) -> BestEpoch | None:
    """Return the best epoch in the Trainer's log by `metric`, the first of equals; None before any evaluation."""
    found = [(entry[f"eval_{metric}"], entry["step"]) for entry in history if f"eval_{metric}" in entry]
    if not found:
        return None
    figure, step = max(found, key=lambda one: (one[0], -one[1]))
    return BestEpoch(figure, step, sum(other > step for _, other in found))


def epoch_records(history: list[dict[str, Any]], metric: str | None) -> list[dict[str, Any]]:
    """Return the Trainer's log as one entry per epoch: train_loss (mean over its steps), eval_loss, figures.

    metric: the figure that chose the best epoch, whose entry gets "kept": true; None if the last epoch is kept.
    """
    epochs: list[dict[str, Any]] = []
    losses: list[tuple[float, int]] = []
    before, rate = 0, 0.0
    for entry in history:
        if "loss" in entry:
            losses.append((entry["loss"], entry["step"] - before))
            before, rate = entry["step"], entry["learning_rate"]
        elif "eval_loss" in entry:
            steps = sum(n for _, n in losses)
            figures = {
                name.removeprefix("eval_"): value
                for name, value in entry.items()
                if name.startswith("eval_") and name not in _NO_FIGURES and not name.endswith("per_second")
            }
            loss = sum(value * n for value, n in losses) / steps if steps else None
            record = {name: entry[name] for name in ("epoch", "step")} | {"learning_rate": rate, "train_loss": loss}
            epochs.append({**record, "eval_loss": entry["eval_loss"], **figures})
            losses = []
    best = best_epoch(history, metric) if metric else None
    kept = best.step if best is not None else (epochs[-1]["step"] if epochs else None)
    return [{**entry, "kept": entry["step"] == kept} for entry in epochs]
