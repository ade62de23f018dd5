"""Predictions and explanations as text for a terminal of 80 columns."""

from __future__ import annotations

from inferer.explain import METHOD, Explanation, Part
from inferer.scoring import Prediction

_BAR_WIDTH = 24
_SHOWN_LABELS = 5
_TEXT_WIDTH = 100
_PART_WIDTH = 28
_SIDE = 18  # columns of a bar on each side of zero


def draw_prediction(text: str, prediction: Prediction, *, is_number: bool = False) -> str:
    """Return the labels with their scores as bars, and a note where the text was cut or read in windows.

    is_number: whether the score is a regression's number, which has no bar.
    """
    if is_number:
        lines = [_cut(text, _TEXT_WIDTH), f"   {prediction.label}  {prediction.score:.4f}"]
        return "\n".join([*lines, *_reading_note(prediction)])
    width = max(len(label) for label in prediction.scores)
    best_first = sorted(prediction.scores.items(), key=lambda pair: -pair[1])[:_SHOWN_LABELS]
    lines = [_cut(text, _TEXT_WIDTH)]
    for label, score in best_first:
        mark = "*" if label in prediction.labels else " "
        lines.append(f" {mark} {label:<{width}}  {score:7.2%}  {'█' * round(score * _BAR_WIDTH)}")
    if len(prediction.scores) > _SHOWN_LABELS:
        lines.append(f"   … and {len(prediction.scores) - _SHOWN_LABELS} more labels (--json shows all)")
    if prediction.abstained:
        lines.append("   no label: the best score is below the threshold at which this model abstains")
    elif not prediction.labels:
        lines.append("   no label reaches its threshold")
    return "\n".join(line.rstrip() for line in [*lines, *_reading_note(prediction)])


def draw_explanation(text: str, explanation: Explanation, *, is_number: bool = False) -> str:
    """Return the parts of the text in order, each with its contribution to the label as a bar to the left or right.

    is_number: whether the score is a regression's number, and not a share.
    """
    largest = max((abs(part.contribution) for part in explanation.parts), default=0.0)
    words = sum(part.words for part in explanation.parts)
    more = f"; --max-parts {words} looks at each word alone" if words > len(explanation.parts) else ""
    lines = [
        _cut(text, _TEXT_WIDTH),
        f" {explanation.label} {_shown(explanation.score, is_number)} without these words:",
        *(_bar(part, largest, 1 if is_number else 100) for part in explanation.parts),
        f"   {METHOD}: {explanation.runs} runs, {explanation.tokens} tokens{more}",
    ]
    return "\n".join(line.rstrip() for line in [*lines, *_reading_note(explanation.prediction)])


def _shown(score: float, is_number: bool) -> str:
    return f"{score:.4f}; how much it loses" if is_number else f"{score:.2%}; points that the score loses"


def _bar(part: Part, largest: float, unit: int) -> str:
    share = part.contribution / largest if largest else 0.0
    columns = round(abs(share) * _SIDE)
    left, right = ("", "█" * columns) if share > 0 else ("░" * columns, "")
    part_text = _cut(" ".join(part.text.split()), _PART_WIDTH)  # a line break would split the bar's line
    return f"   {part_text:<{_PART_WIDTH}} {unit * part.contribution:+7.2f} {left:>{_SIDE}}│{right}"


def _reading_note(prediction: Prediction) -> list[str]:
    if prediction.truncated:
        return [f"   note: the text has {prediction.num_tokens} tokens, more than the model reads; it was cut"]
    if prediction.windows is not None and prediction.windows > 1:
        return [f"   note: the text has {prediction.num_tokens} tokens; it was read in {prediction.windows} windows"]
    return []


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
