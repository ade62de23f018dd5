"""The files of a search for label errors, and its summary for a terminal. No torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import SINGLE_LABEL
from inferer.tokens.texts import sides_of
from training.data.dataset import Dataset
from training.data.table import clip
from training.report.evaluation_report import JOINT
from training.report.tables import Row, as_text

TABLE, RECORD = "label_errors.csv", "label_errors.json"
_EXAMPLES = 5


@dataclass(frozen=True)
class LabelIssue:
    """A row of a data set, counted from 0, with labels that are likely to be wrong.

    given, suggested: label ids. score_given, score_suggested: scores from 0 to 1 of the given label and of the
    suggested one; for multi-label those of the mark that is farthest off, whether the label is given or missing.
    """

    row: int
    given: tuple[int, ...]
    suggested: tuple[int, ...]
    score_given: float
    score_suggested: float


def write_table(path: Path, dataset: Dataset, issues: Sequence[LabelIssue]) -> None:
    """Write `issues` to the CSV `path`, in their order.

    row: counts the data rows of the source from 1. Texts and labels are quoted and otherwise unchanged, as in
    `write_mistakes`.
    """
    texts = ("text", "text_pair") if dataset.columns.text_pair_column else ("text",)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(("row", *texts, "given_label", "suggested_label", "score_given", "score_suggested"))
        for issue in issues:
            scores = (round(issue.score_given, 6), round(issue.score_suggested, 6))
            labels = (_joined(dataset, issue.given), _joined(dataset, issue.suggested))
            writer.writerow((_row(dataset, issue), *sides_of(dataset.texts[issue.row]), *labels, *scores))


def counts_of(dataset: Dataset, issues: Sequence[LabelIssue]) -> dict[str, dict[str, int]]:
    """Return each label's rows, and those found: of a wrong label; multi-label also of a label that is missing."""
    single = dataset.problem_type == SINGLE_LABEL
    found = [set(issue.given) if single else set(issue.given) ^ set(issue.suggested) for issue in issues]
    return {
        label: {"rows": n, "found": sum(k in marks for marks in found)}
        for k, (label, n) in enumerate(dataset.counts().items())
    }


def summary(dataset: Dataset, issues: Sequence[LabelIssue], record: Mapping[str, Any], target: Path) -> str:
    """Return the lines for a terminal: counts, the likeliest errors, and what to do next."""
    accuracy = f"{record['out_of_fold']['accuracy']:.1%} of the rows are predicted as labelled"
    lines = [f"{len(issues)} of {len(dataset)} rows may have a wrong label; out of fold, {accuracy}"]
    if not issues:
        return "\n".join(lines)
    table: list[Row] = [("label", "rows", "may be wrong")]
    table += [(label, str(one["rows"]), str(one["found"])) for label, one in record["labels"].items()]
    lines += [as_text(table), "", "the likeliest:"]
    for issue in issues[:_EXAMPLES]:
        labels = f"{_joined(dataset, issue.given) or 'none'} -> {_joined(dataset, issue.suggested) or 'none'}"
        text = clip(" ".join(" / ".join(sides_of(dataset.texts[issue.row])).split()))
        lines.append(f"  row {_row(dataset, issue)}, {labels} ({issue.score_suggested:.2f}): {text}")
    return "\n".join([*lines, "", f"next: read {target / TABLE}, correct the table, and train again"])


def _row(dataset: Dataset, issue: LabelIssue) -> int:
    return dataset.rows[issue.row] if dataset.rows else issue.row + 1


def _joined(dataset: Dataset, ids: Sequence[int]) -> str:
    return (dataset.columns.separator or JOINT).join(dataset.labels[k] for k in ids)
