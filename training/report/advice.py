"""Signs in a finished run's record that it did not work, a sentence each, with what to try. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 5
_CUT_SHARE = 0.1
_FALL = 0.02  # of the loss in the last epoch, as a share of it
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_JOINERS = "|;,/"
_LOW_RATE, _HEAD_RATE = 1e-4, 2e-3


def advice(record: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], longest: int, most_tokens: int) -> list[str]:
    """Return a sentence for each sign that the run did not work or could do better.

    record: as training.json has it. epochs: as epochs.json. longest: tokens of the longest text. most_tokens: the base
    model's.
    """
    found = [
        _no_better(record),
        _never_predicted(record),
        _still_falling(record, epochs),
        _numbers_as_labels(record),
        _joined_labels(record),
        _cut(record, longest, most_tokens),
    ]
    return [sentence for sentence in found if sentence is not None]


def _no_better(record: Mapping[str, Any]) -> str | None:
    """Compare with a model that ignores the text, by the lower end of the 95 % interval."""
    metrics, recipe = record["held_out"], record["recipe"]
    intervals, baselines = metrics["intervals"], metrics["baselines"]
    if "mse" in metrics:
        low, _ = intervals["spearman"]
        if metrics["spearman"] is not None and low is not None and low > 0:
            return None
        return f"the numbers predicted do not follow the true ones (Spearman's interval holds 0); {_more(recipe)}"
    name, title = ("micro_f1", "micro-F1") if "micro_f1" in metrics else ("accuracy", "accuracy")
    (always,) = [one for one in baselines.values() if "label" in one]
    is_better = intervals[name][0] > always[name]
    # Where one label is most rows, a model that finds the others too may gain nothing in accuracy.
    if is_better or (name == "accuracy" and intervals["macro_f1"][0] > always["macro_f1"]):
        return None
    low, high = intervals[name]
    measured = f"{title} {metrics[name]:.3f} ({low:.3f} to {high:.3f}) against {always[name]:.3f}"
    return f"the model does not beat always '{always['label']}', {measured}; {_more(recipe)}"


def _more(recipe: Mapping[str, Any]) -> str:
    """Return what to try with a model that learned too little."""
    rate, epochs = recipe["learning_rate"], f"--epochs {2 * recipe['epochs']:g}"
    is_multi = recipe["label_separator"] or recipe["label_columns"]
    if is_multi and recipe["head_learning_rate"] is None:
        return f"try --head-learning-rate {_HEAD_RATE:g} and {epochs}"
    if rate < _LOW_RATE:
        return f"try --learning-rate {_LOW_RATE:g} and {epochs}"
    return f"try {epochs}, a --learning-rate below {rate:g}, or more rows"


def _never_predicted(record: Mapping[str, Any]) -> str | None:
    metrics, recipe = record["held_out"], record["recipe"]
    names = [label for label, row in metrics["labels"].items() if row["n"] and not row["given"]]
    if not names or not any(row["given"] for row in metrics["labels"].values()):  # of a model that gives none, all
        return None
    if "micro_f1" in metrics:
        remedy = "--threshold best with --validation-share 0.1, or --pos-weight balanced"
    else:
        remedy = "--class-weights balanced"
    one = len(names) == 1
    have = f"{'was' if one else 'were'} never predicted, and held-out rows have {'it' if one else 'them'}"
    known = remedy.split()[0].removeprefix("--").replace("-", "_")
    rows = f"more rows of {'it' if one else 'them'}"
    has_it = recipe[known] in ("best", "balanced") or recipe["few_labels"]
    tried = rows if has_it else f"{remedy}, or {rows}"
    return f"{_listed(names)} {have}; try {tried}"


def _still_falling(record: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> str | None:
    losses = [epoch["eval_loss"] for epoch in epochs]
    if len(losses) < 2 or losses[-1] > min(losses) or losses[-2] - losses[-1] < _FALL * losses[-2]:
        return None
    more = f"try --epochs {2 * record['recipe']['epochs']:g}"
    return f"the loss still fell in the last epoch, from {losses[-2]:.3f} to {losses[-1]:.3f}; {more}"


def _numbers_as_labels(record: Mapping[str, Any]) -> str | None:
    labels, recipe = list(record["held_out"]["labels"]), record["recipe"]
    column = recipe["label_column"]
    if column is None or recipe["label_separator"] or len(labels) < 3 or not all(map(_NUMBER.fullmatch, labels)):
        return None
    how = f"{_listed(labels)} in column '{column}' are names to this model, without an order"
    return f"{how}; if they are numbers of a scale, try --problem-type regression"


def _joined_labels(record: Mapping[str, Any]) -> str | None:
    """Find labels that are others joined: at least two, and each part is a label by itself."""
    recipe, labels = record["recipe"], list(record["held_out"]["labels"])
    if recipe["label_column"] is None or recipe["label_separator"]:
        return None
    for joiner in _JOINERS:
        parts = {label: [part.strip() for part in label.split(joiner)] for label in labels if joiner in label}
        joined = [label for label, names in parts.items() if all(name in labels for name in names)]
        if len(joined) > 1:
            return f"{_listed(joined)} look like several labels each; if they are, try --label-separator '{joiner}'"
    return None


def _cut(record: Mapping[str, Any], longest: int, most_tokens: int) -> str | None:
    share, read = record["truncated_share"], record["max_length"]
    if share <= _CUT_SHARE:
        return None
    more = f"--max-length {min(longest, most_tokens)}" if read < most_tokens else ""
    other = "--truncation head_tail" if record["recipe"]["truncation"] == "head" else ""
    remedy = " or ".join(filter(None, (more, other))) or "texts split into shorter ones"
    return f"{share:.0%} of the texts are longer than the {read} tokens that the model reads, and are cut; try {remedy}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
