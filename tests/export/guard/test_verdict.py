"""The last lines of an export warn of a model that is of little use on the user's texts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from export.guard.verdict import warnings
from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support import architectures
from tests.support.architectures import LABELS, run_export
from tests.support.eval_texts import labelled_by_torch
from training.report.intervals import Figure, wilson


def said(
    right: int,
    counts: tuple[int, ...],
    agreeing: int = 100,
    *,
    kind: str = SINGLE_LABEL,
    served: bool = True,
    without: int = 0,
    macro_f1: float | None = None,
) -> str:
    """Return the warnings for `right` of 100 texts, `counts` of which have each label; one line each.

    without: further texts, without a label.
    """
    truth = np.repeat(np.eye(len(counts), dtype=bool), counts, axis=0)
    truth = np.concatenate([truth, np.zeros((without, len(counts)), dtype=bool)])
    figures = {"accuracy_fp32": wilson(right, len(truth)), "agreement": wilson(agreeing, 100)}
    if macro_f1 is not None:
        figures["macro_f1_fp32"] = Figure(macro_f1, len(truth))
    return "\n".join(warnings(figures, truth, kind, int8_served=served))


@pytest.mark.parametrize(
    ("right", "counts"),
    [(61, (60, 40)), (95, (100, 0)), (40, (39, 31, 30)), (100, (50, 50))],
    ids=["above the commonest", "one label alone", "three labels", "all right"],
)
def test_a_model_that_is_of_use_gets_no_warning(right: int, counts: tuple[int, ...]) -> None:
    """A model better than its commonest label, and texts of one label alone, give no warning."""
    assert said(right, counts) == ""


@pytest.mark.parametrize("right", [60, 45])
def test_a_model_no_better_than_the_commonest_label_is_said_so(right: int) -> None:
    """A model right no more often than the commonest label is said to be of no use, with both shares."""
    line = said(right, (60, 40))
    assert line.startswith(
        f"warning: the model is of no use on your texts: {right}.0% of your texts are labelled right"
    )
    assert "the commonest label alone would be right for 60.0%; check the columns" in line


@pytest.mark.parametrize("right", [0, 5])
def test_a_model_below_chance_has_its_labels_in_another_order(right: int) -> None:
    """A model right less often than chance, beyond the interval, is said to have its labels in another order."""
    line = said(right, (50, 50))
    assert line.startswith(f"warning: only {right}.0% of your texts are labelled right, fewer than by chance: ")
    assert "labels in --config FILE.json" in line
    assert "\n" not in line


def test_a_few_texts_are_no_proof_of_another_order() -> None:
    """Two wrong of two texts are within the interval of chance; the comparison with the commonest label stays."""
    assert "of no use" in said(0, (1, 1))
    assert "chance" not in said(0, (1, 1))


def test_sets_of_labels_are_not_held_to_chance() -> None:
    """A multi-label model is compared with the commonest set of labels alone."""
    line = said(0, (50, 50), kind=MULTI_LABEL)
    assert "of no use" in line
    assert "the commonest set of labels alone would be right for 50.0%" in line


@pytest.mark.parametrize(("right", "macro_f1", "warned"), [(84, 0.5, False), (84, 0.0, True), (0, 0.5, True)])
def test_labels_found_among_many_texts_without_any_are_of_use(right: int, macro_f1: float, *, warned: bool) -> None:
    """Where 90 of 100 texts have no label, whole sets that are right less often than that may still find labels."""
    line = said(right, (5, 5), kind=MULTI_LABEL, without=90, macro_f1=macro_f1)
    assert ("of no use" in line) == warned


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL])
def test_nothing_right_is_said_for_texts_of_one_label_too(kind: str) -> None:
    """Five texts with the same label, none of them labelled right, are warned of."""
    assert said(0, (5, 0, 0, 0, 0, 0), kind=kind).startswith("warning: the model is of no use on your texts: 0.0%")


def test_int8_far_from_fp32_is_said_so() -> None:
    """Int8 that agrees for fewer than 90 % beyond the interval is warned of, unless the bundle is fp32."""
    assert said(90, (50, 50), 70) == (
        "warning: int8 gives 30.0% of your texts another label than fp32; try --min-agreement 99, which keeps the most "
        "sensitive layers in fp32, or --scheme fp32"
    )
    assert said(90, (50, 50), 70, served=False) == ""
    assert said(90, (50, 50), 88) == ""  # the interval reaches 93 %
    assert "another label than fp32" in "\n".join(
        warnings({"agreement": wilson(70, 100)}, None, SINGLE_LABEL, int8_served=True)
    )


@pytest.mark.slow
def test_labels_in_another_order_end_the_export_with_a_warning(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's last line says it, without a limit, and the bundle is written all the same."""
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    file = labelled_by_torch(tmp_path / "own.csv", bert, 60)
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    shifted = dict(zip(LABELS, (*LABELS[1:], LABELS[0]), strict=True))
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": shifted[row["label"]]} for row in rows)
    assert run_export(bert, tmp_path / "bundle", "--eval", file, "--label-column", "label") == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("warning: only 0.0% of your texts are labelled right")
