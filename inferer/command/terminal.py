"""Answers for a person at a terminal of 80 columns."""

from __future__ import annotations

from inferer.explain import METHOD, Explanation, Part
from inferer.scoring import Prediction

_BAR_WIDTH = 24
_SHOWN_LABELS = 5
_TEXT_WIDTH = 100
_PART_WIDTH = 28
_SIDE = 18  # columns of a bar on each side of nothing


def drawn(text: str, prediction: Prediction) -> str:
    """Return the labels with their scores as bars, and what must be known of how the text was read."""
    width = max(len(label) for label in prediction.scores)
    best_first = sorted(prediction.scores.items(), key=lambda pair: -pair[1])[:_SHOWN_LABELS]
    lines = [_cut(text, _TEXT_WIDTH)]
    for label, score in best_first:
        mark = "*" if label in prediction.labels else " "
        lines.append(f" {mark} {label:<{width}}  {score:7.2%}  {'█' * round(score * _BAR_WIDTH)}")
    if len(prediction.scores) > _SHOWN_LABELS:
        lines.append(f"   … and {len(prediction.scores) - _SHOWN_LABELS} more labels (--json shows all)")
    if prediction.abstained:
        lines.append("   no answer: the best score is below the lowest that this model answers with")
    elif not prediction.labels:
        lines.append("   no label reaches its threshold")
    return "\n".join(line.rstrip() for line in [*lines, *_how_read(prediction)])


def explained(text: str, explanation: Explanation) -> str:
    """Return the parts of the text in their order, with what each contributes to the label as bars to both sides."""
    largest = max((abs(part.contribution) for part in explanation.parts), default=0.0)
    words = sum(part.words for part in explanation.parts)
    more = f"; --max-parts {words} takes each word by itself" if words > len(explanation.parts) else ""
    lines = [
        _cut(text, _TEXT_WIDTH),
        f" {explanation.label} {explanation.score:.2%}; without the words, this many points less:",
        *(_bar(part, largest) for part in explanation.parts),
        f"   {METHOD}: {explanation.runs} runs, {explanation.tokens} tokens{more}",
    ]
    return "\n".join(line.rstrip() for line in [*lines, *_how_read(explanation.prediction)])


def _bar(part: Part, largest: float) -> str:
    share = part.contribution / largest if largest else 0.0
    columns = round(abs(share) * _SIDE)
    left, right = ("", "█" * columns) if share > 0 else ("░" * columns, "")
    said = _cut(" ".join(part.text.split()), _PART_WIDTH)  # a line break would break the line of the bar
    return f"   {said:<{_PART_WIDTH}} {100 * part.contribution:+7.2f} {left:>{_SIDE}}│{right}"


def _how_read(prediction: Prediction) -> list[str]:
    if prediction.truncated:
        return [f"   note: the text has {prediction.num_tokens} tokens, more than are read; it was cut"]
    if prediction.windows is not None and prediction.windows > 1:
        return [f"   note: the text has {prediction.num_tokens} tokens; it was read in {prediction.windows} windows"]
    return []


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
