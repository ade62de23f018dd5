"""Command-line flags for the columns of labelled texts, and checks of columns and labels against a model."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.errors import DataError, TrainingError

_EITHER = "give either --label-column, or --label-columns for one 0/1 column per label"
_TEXT = Columns("text")
_NAMES = ("text_column", "text_pair_column", "label_column", "label_separator", "label_columns", "group_column")
COLUMN_OPTIONS = (*_NAMES, "allow_unlabelled")


def add_column_arguments(group: Any) -> None:
    """Add the flags behind COLUMN_OPTIONS, and --encoding, to a parser or one of its groups."""
    group.add_argument("--encoding", metavar="NAME", help="of a CSV or TSV that is not UTF-8, such as cp1252")
    group.add_argument("--text-column", metavar="NAME", help='column with the texts (default "text")')
    group.add_argument("--text-pair-column", metavar="NAME", help="column with the second texts, for a model of pairs")
    group.add_argument("--label-column", metavar="NAME", help="column with a label per row; with a separator, several")
    group.add_argument("--label-separator", metavar="CHAR", help='multi-label: joins the labels in a cell, such as "|"')
    group.add_argument("--label-columns", metavar="A,B,…", help="multi-label: 0/1 columns, named as the labels")
    group.add_argument("--group-column", metavar="NAME", help="rows that belong together, as a query's documents do")
    group.add_argument("--allow-unlabelled", action="store_true", help="an empty cell means none of the labels")


def columns_from(args: argparse.Namespace, defaults: Columns = _TEXT) -> Columns:
    """Return the columns that `args` name; `defaults` fill the rest. Raises TrainingError for contradicting flags."""
    for name in _NAMES:
        value = getattr(args, name)
        if value is not None and not value.strip(" ,"):
            raise TrainingError(f"--{name.replace('_', '-')} is {value!r}, expected a name")
    names = tuple(name.strip() for name in (args.label_columns or "").split(",") if name.strip())
    if names:
        defaults = replace(defaults, label_column=None, separator=None, labels=None, allow_unlabelled=False)
    elif args.label_column is not None or args.label_separator is not None:
        defaults = replace(defaults, label_columns=())
    given = {"text_column": args.text_column, "label_column": args.label_column, "label_columns": names}
    given |= {"separator": args.label_separator, "allow_unlabelled": args.allow_unlabelled}
    given |= {"text_pair_column": args.text_pair_column, "group_column": args.group_column}
    columns = replace(defaults, **{name: value for name, value in given.items() if value})
    check_columns(columns)
    return columns


def check_columns(columns: Columns, *, may_be_lists: bool = False) -> None:
    """Raise TrainingError for columns that contradict each other. may_be_lists: a cell may hold a list of labels."""
    names, labels = columns.label_columns, columns.labels
    if columns.label_column and names:
        raise TrainingError(_EITHER)
    if names and (columns.separator or labels):
        raise TrainingError("--label-columns name the labels themselves; no --label-separator or labels with them")
    if len(set(names)) != len(names):
        raise TrainingError(f"--label-columns name a column twice: {','.join(names)}")
    if labels and len(set(labels)) != len(labels):
        raise TrainingError(f"labels name one twice: {','.join(labels)}")
    if columns.separator and not columns.label_column:
        raise TrainingError("--label-separator needs --label-column, the column that it splits")
    if columns.allow_unlabelled and not columns.separator and not may_be_lists:
        raise TrainingError("--allow-unlabelled is for multi-label data with --label-separator")
    others = names or columns.separator or labels or columns.positive_from is not None
    if columns.numeric and (others or not columns.label_column):
        raise TrainingError("a regression learns the numbers of --label-column alone")
    if columns.positive_from is not None:
        if columns.problem_type == MULTI_LABEL:
            raise TrainingError("--positive-from makes two labels of one number; it goes with --label-column alone")
        if labels and len(labels) != 2:
            raise TrainingError(f"--positive-from makes two labels; labels name {len(labels)}")


def check_named(columns: Columns, source: Path | str | None, of: str = "") -> None:
    """Raise TrainingError for a table without the names of its columns; a folder needs none, or is checked later.

    of: names the table in the message.
    """
    if isinstance(source, Path) and source.is_dir():
        return
    if not columns.text_column:
        raise TrainingError(f"--text-column is missing: the column{of} with the texts")
    if not columns.labelled:
        raise TrainingError(_EITHER)


def check_problem_type(columns: Columns, problem_type: str | None) -> None:
    """Raise TrainingError for columns of another kind than a model of `problem_type`, where that is known."""
    if problem_type == REGRESSION and columns.problem_type != REGRESSION:
        raise TrainingError("the model is a regression: give --label-column alone, a column of numbers")
    if problem_type == SINGLE_LABEL and columns.problem_type != SINGLE_LABEL:
        raise TrainingError("the model is single-label: give --label-column alone, one label per row")
    if problem_type == MULTI_LABEL and columns.problem_type != MULTI_LABEL:
        joined = "--label-column with --label-separator, which joins the labels in a cell"
        raise TrainingError(f"the model is multi-label: give {joined}, or --label-columns, one 0/1 column per label")


def check_pair(columns: Columns, *, pair: bool) -> None:
    """Raise TrainingError for columns of single texts where the model reads pairs, and the reverse."""
    if pair and not columns.text_pair_column:
        raise TrainingError("the model reads pairs: give --text-pair-column, the column of the second texts")
    if columns.text_pair_column and not pair:
        raise TrainingError(f"--text-pair-column is {columns.text_pair_column!r}, but the model reads one text")


def in_model_order(path: Path | str, dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """Return `dataset` with its targets as ids of the model's `labels`. Raises DataError where they differ."""
    if dataset.problem_type == REGRESSION:
        return replace(dataset, labels=tuple(labels))
    faults = []
    for name in dataset.labels:
        if name not in labels:
            near = difflib.get_close_matches(name, labels, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"its labels are {', '.join(labels)}"
            faults.append(f"column '{name}' is not a label of the model; {hint}")
    faults += [f"--label-columns lack the model's label '{name}'" for name in labels if name not in dataset.labels]
    if faults:
        raise DataError(path, faults)
    ids = [list(labels).index(name) for name in dataset.labels]
    targets = tuple(tuple(sorted(ids[target] for target in row)) for row in dataset.targets)
    return replace(dataset, targets=targets, labels=tuple(labels))
