"""The rows of a calibration: those to fit and those to report, which share no text as the model reads it. No torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from export.errors import ExportError
from export.eval_texts import EvalSet
from inferer.bundle.manifest import SINGLE_LABEL
from inferer.tokens.texts import TextOrPair, sides_of

LEAST_ROWS = 100  # to fit, and to report: with fewer the interval of an ECE is wider than most ECEs
LEAST_EXAMPLES = 10  # of a label, with it and without it, to fit its scores or to choose its threshold
_SEED = 0
_SHOWN = 60


@dataclass(frozen=True)
class Rows:
    """Texts of the file called `name` with their labels, bool [texts, labels]."""

    name: str
    texts: tuple[TextOrPair, ...]
    truth: np.ndarray


@dataclass(frozen=True)
class CalibrationSet:
    """The fitted and the reported rows of `given`, the file of --calibrate.

    held_back: whether the reported rows are a part of that file; otherwise they are those of --eval.
    """

    given: EvalSet
    fitted: Rows
    reported: Rows
    held_back: bool


def calibration_set(
    given: EvalSet, evaluated: EvalSet | None, labels: tuple[str, ...], problem_type: str
) -> CalibrationSet:
    """Return the rows of `given` to fit, and those of `evaluated`, or else half of `given`, to report.

    Both must have labels. Raises ExportError for texts that are in both files, and for rows that are too few or too
    alike to fit.
    """
    if evaluated is None:
        fitted, reported = (_rows(given, places) for places in split_rows(given.keys, _rows(given).truth))
    else:
        _check_apart(given, evaluated)
        fitted, reported = _rows(given), _rows(evaluated)
    rows = CalibrationSet(given, fitted, reported, held_back=evaluated is None)
    _check_counts(rows)
    _check_labels(rows, labels, problem_type)
    return rows


def split_rows(keys: Sequence[Hashable], truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of two halves of the texts, in order; texts with equal `keys` stay together.

    truth: bool [texts, labels]. Texts are shuffled within each label (multi-label: within each text's rarest label),
    and every second one taken, so that each label is halved.
    """
    rng = np.random.default_rng(_SEED)
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    rarity = np.where(truth, truth.sum(axis=0), len(truth) + 1)
    strata = np.where(truth.any(axis=1), rarity.argmin(axis=1), truth.shape[1])
    members = list(groups.values())
    first = np.array([places[0] for places in members])
    order = np.lexsort((rng.random(len(members)), strata[first]))
    halves = ([place for i in order[start::2] for place in members[i]] for start in (0, 1))
    fitted, reported = (np.sort(np.array(half, dtype=int)) for half in halves)
    return fitted, reported


def _rows(given: EvalSet, places: np.ndarray | None = None) -> Rows:
    if given.truth is None:
        raise ExportError(f"{given.name}: a calibration needs labels")
    if places is None:
        return Rows(given.name, given.texts, given.truth)
    return Rows(given.name, tuple(given.texts[i] for i in places), given.truth[places])


def _check_apart(given: EvalSet, evaluated: EvalSet) -> None:
    there = dict(zip(evaluated.keys, evaluated.row_numbers, strict=True))
    shared = set(given.keys) & there.keys()
    if not shared:
        return
    place = next(place for place, key in enumerate(given.keys) if key in shared)
    found, row, other = given.texts[place], given.row_numbers[place], there[given.keys[place]]
    text = sides_of(found)[-1].strip()
    clipped = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    count = "1 text is" if len(shared) == 1 else f"{len(shared):,} texts are"
    raise ExportError(
        f"{count} in --calibrate {given.name} and in --eval {evaluated.name}, the first in row {row} (--eval: row "
        f"{other}): {clipped!r}; figures on fitted rows would flatter, so remove them from one of the two"
    )


def _check_counts(rows: CalibrationSet) -> None:
    fitted, reported = len(rows.fitted.texts), len(rows.reported.texts)
    if min(fitted, reported) >= LEAST_ROWS:
        return
    if rows.held_back:
        raise ExportError(
            f"--calibrate {rows.given.name} has {fitted + reported} rows, {fitted} to fit on and {reported} held back "
            f"to report on; at least {LEAST_ROWS} of each are needed (equal texts stay together; with --eval and "
            "another labelled file, all rows are fitted on)"
        )
    needed = f"at least {LEAST_ROWS} are needed"
    if fitted < LEAST_ROWS:
        raise ExportError(f"--calibrate {rows.fitted.name} has {fitted} rows to fit on, {needed}")
    raise ExportError(f"--eval {rows.reported.name} has {reported} rows to report the calibration on, {needed}")


def _check_labels(rows: CalibrationSet, labels: tuple[str, ...], problem_type: str) -> None:
    truth, count = rows.fitted.truth, len(rows.fitted.texts)
    examples = truth.sum(axis=0)
    if problem_type == SINGLE_LABEL:
        if examples.max() == count:
            raise ExportError(
                f"--calibrate {rows.fitted.name}: all {count:,} rows to fit on are labelled "
                f"'{labels[examples.argmax()]}'; a temperature needs rows of at least two labels"
            )
    elif (np.minimum(examples, count - examples) < LEAST_EXAMPLES).all():
        raise ExportError(
            f"--calibrate {rows.fitted.name}: no label has {LEAST_EXAMPLES} rows with it and {LEAST_EXAMPLES} without "
            f"it among the {count:,} to fit on"
        )
