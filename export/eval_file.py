"""The user's own texts, to measure int8 on: which flags say where they stand, and what is read of them. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.errors import ExportError
from inferer.bundle import FP32, MULTI_LABEL, SINGLE_LABEL
from inferer.encoding import Encoder
from inferer.errors import TextError
from training.csv_file import parse_csv, read_bytes
from training.data import Columns, Dataset
from training.errors import DataError

_TEXT_COLUMN = "text"


@dataclass(frozen=True)
class EvalFile:
    """A CSV as it was when the export began, checked as far as it can be without the model."""

    path: Path
    columns: Columns
    content: bytes

    def dataset(self, labels: tuple[str, ...] | None) -> Dataset:
        """Return its rows; `labels` are the only names allowed. Raises DataError with every fault by row."""
        columns = self.columns
        if not columns.label_columns:
            columns = replace(columns, labels=labels)
        return parse_csv(self.path, self.content, columns)


@dataclass(frozen=True)
class EvalSet:
    """Texts to run, their labels, and how they came out of the file.

    labels_from: the columns of the labels. truth: bool [texts, labels] in the model's order, None when no
    labels were read. rows: in the file. cut: texts of which only the first tokens are read. left_out: rows
    that a bundle with truncation "error" would refuse.
    """

    name: str
    text_column: str
    labels_from: tuple[str, ...]
    texts: tuple[str, ...]
    truth: np.ndarray | None
    rows: int
    cut: int
    left_out: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the file and its columns."""
    group = parser.add_argument_group("int8 on your own texts")
    group.add_argument("--eval", metavar="FILE.csv", help="compare fp32 and int8 on its texts")
    group.add_argument("--text-column", metavar="NAME", help=f'its column with the texts ("{_TEXT_COLUMN}")')
    group.add_argument("--label-column", metavar="NAME", help="labels, one a row; with a separator, several")
    group.add_argument("--label-separator", metavar="CHAR", help='multi-label: what joins labels, such as "|"')
    group.add_argument("--label-columns", metavar="A,B,…", help="multi-label: 0/1 columns, called as the labels")
    group.add_argument("--allow-unlabelled", action="store_true", help="an empty cell means none of the labels")
    group.add_argument(
        "--max-accuracy-drop", type=float, metavar="POINTS", help="most that accuracy may fall, in percentage points"
    )
    group.add_argument(
        "--min-agreement", type=float, metavar="PERCENT", help="fewest texts with the same label, in per cent"
    )


def read_eval_file(args: argparse.Namespace) -> EvalFile | None:
    """Return the file that `args` name, its faults found; None without --eval.

    Raises ExportError for flags that do not go together, DataError for faults of the file.
    """
    _check_flags(args)
    if args.eval is None:
        return None
    columns = Columns(
        text_column=args.text_column or _TEXT_COLUMN,
        label_column=args.label_column,
        label_columns=tuple(name.strip() for name in (args.label_columns or "").split(",") if name.strip()),
        separator=args.label_separator,
        allow_unlabelled=args.allow_unlabelled,
    )
    if len(set(columns.label_columns)) != len(columns.label_columns):
        raise ExportError(f"--label-columns name a column twice: {args.label_columns}")
    path = Path(args.eval)
    file = EvalFile(path, columns, read_bytes(path))
    file.dataset(None)
    return file


def _check_flags(args: argparse.Namespace) -> None:
    columns = ("text_column", "label_column", "label_separator", "label_columns", "allow_unlabelled")
    limits = ("max_accuracy_drop", "min_agreement")
    if args.eval is None:
        for name in (*columns, *limits):
            if getattr(args, name) not in (None, False):
                flag = "--" + name.replace("_", "-")
                raise ExportError(f"{flag} needs --eval FILE.csv, the texts to measure int8 on")
    elif args.scheme == FP32:
        raise ExportError(f"--eval compares int8 with fp32, and --scheme {FP32} makes no int8")
    labelled = args.label_column is not None or args.label_columns is not None
    if args.label_column is not None and args.label_columns is not None:
        raise ExportError("give either --label-column, or --label-columns for one 0/1 column a label")
    for name in ("text_column", "label_column", "label_separator", "label_columns"):
        if getattr(args, name) is not None and not getattr(args, name).strip(" ,"):
            raise ExportError(f"--{name.replace('_', '-')} is {getattr(args, name)!r}, expected a name")
    if args.label_separator is not None and args.label_column is None:
        raise ExportError("--label-separator needs --label-column, the column whose cells it divides")
    if args.allow_unlabelled and args.label_separator is None:
        raise ExportError("--allow-unlabelled is for multi-label data with --label-separator")
    if args.max_accuracy_drop is not None and not labelled:
        raise ExportError(
            "--max-accuracy-drop needs labels: name their column with --label-column (or --label-columns); "
            "without labels there is --min-agreement"
        )


def eval_set(file: EvalFile, labels: Sequence[str], problem_type: str, encoder: Encoder, truncation: str) -> EvalSet:
    """Return the texts of `file` with their labels by the model's ids.

    labels: the model's, in order. truncation: the bundle's. Raises DataError for a label that the model
    does not know and for a text that it cannot read, by row; ExportError for labels of another kind.
    """
    dataset = file.dataset(tuple(labels))
    truth = _truth(file, dataset, labels, problem_type) if file.columns.labelled else None
    faults, kept, cut = [], [], 0
    for i, text in enumerate(dataset.texts):
        try:
            longer = encoder.encode(text, "head").truncated
        except TextError as error:
            faults.append(f"row {i + 1}, column '{file.columns.text_column}': {error}")
            continue
        if not longer or truncation == "head":
            kept.append(i)
            cut += longer
    if faults:
        raise DataError(file.path, faults)
    if not kept:
        raise DataError(
            file.path,
            [f"every text has more than {encoder.max_length} tokens, which truncation 'error' refuses"],
        )
    return EvalSet(
        name=file.path.name,
        text_column=file.columns.text_column,
        labels_from=(file.columns.label_column,) if file.columns.label_column else file.columns.label_columns,
        texts=tuple(dataset.texts[i] for i in kept),
        truth=None if truth is None else truth[kept],
        rows=len(dataset),
        cut=cut,
        left_out=len(dataset) - len(kept),
    )


def _truth(file: EvalFile, dataset: Dataset, labels: Sequence[str], problem_type: str) -> np.ndarray:
    columns = file.columns
    if problem_type == SINGLE_LABEL and columns.problem_type != SINGLE_LABEL:
        raise ExportError("the model is single-label: give --label-column alone, one label a row")
    if problem_type == MULTI_LABEL and columns.problem_type != MULTI_LABEL:
        raise ExportError(
            "the model is multi-label: give --label-column with --label-separator, what joins the labels in a cell, "
            "or --label-columns, one 0/1 column a label"
        )
    faults = [
        f"column '{name}' is not a label of the model; its labels are {', '.join(labels)}"
        for name in dataset.labels
        if name not in labels
    ]
    faults += [f"--label-columns lack the model's label '{name}'" for name in labels if name not in dataset.labels]
    if faults:
        raise DataError(file.path, faults)
    truth = np.zeros((len(dataset), len(labels)), dtype=bool)
    places = [list(labels).index(name) for name in dataset.labels]
    for row, targets in enumerate(dataset.targets):
        truth[row, [places[target] for target in targets]] = True
    return truth
