"""The user's own texts, to measure and to fit: read from a file, and checked against the model. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import ERROR, HEAD, LONGEST_FIRST, WINDOWS
from inferer.errors import TextError
from inferer.tokens.encoding import Encoder
from inferer.tokens.texts import TextOrPair
from training.data.column_flags import check_columns, check_pair, check_problem_type, in_model_order
from training.data.dataset import Columns, Dataset
from training.data.location import file_name
from training.data.reader import parse_dataset
from training.errors import DataError


@dataclass(frozen=True)
class EvalFile:
    """A file's content at the start of the export, checked as far as possible without the model.

    source: its path or address; the ending decides the format of `content`. encoding: of a CSV that is not UTF-8.
    """

    source: Path | str
    columns: Columns
    content: bytes
    encoding: str | None = None

    def dataset(self, labels: tuple[str, ...] | None) -> Dataset:
        """Return the rows; `labels` are the only allowed names. Raises DataError with every fault by row."""
        own = self.columns.label_columns or self.columns.numeric
        columns = self.columns if own else replace(self.columns, labels=labels)
        return parse_dataset(self.source, self.content, columns, self.encoding)


@dataclass(frozen=True)
class EvalSet:
    """Texts, or pairs of texts, to run and their labels.

    text_column: both columns of pairs. labels_from: the columns of the labels. truth: bool [texts, labels] in the
    model's order, or a regression's numbers, float64 [texts, 1]; None without labels. groups: of each text, where the
    file names them. row_numbers: each text's row in the file, from 1. keys: equal for texts with equal token ids. rows:
    count in the file. truncation: the bundle's. cut: count of texts that it cuts. left_out: count of rows that
    truncation "error" refuses.
    """

    name: str
    text_column: str
    labels_from: tuple[str, ...]
    texts: tuple[TextOrPair, ...]
    truth: np.ndarray | None
    row_numbers: tuple[int, ...]
    keys: tuple[bytes, ...]
    rows: int
    truncation: str
    cut: int
    left_out: int
    groups: tuple[str, ...] = ()


def eval_set(file: EvalFile, labels: Sequence[str], problem_type: str, encoder: Encoder, truncation: str) -> EvalSet:
    """Return the texts of `file` with their labels in the order of the model's `labels`.

    truncation: the bundle's. Raises DataError, by row, for unknown labels and texts that cannot be encoded;
    TrainingError for labels of another problem type.
    """
    check_pair(file.columns, pair=encoder.pair)
    if problem_type == REGRESSION and file.columns.labelled:
        file = replace(file, columns=replace(file.columns, numeric=True))
        check_columns(file.columns)
    dataset = file.dataset(tuple(labels))
    truth = None
    if file.columns.labelled:
        check_problem_type(dataset.columns, problem_type)  # not the file's columns: lists of labels make it multi-label
        truth = in_model_order(file.source, dataset, labels).truth()
    faults, kept, keys, cut = [], [], [], 0
    whole = LONGEST_FIRST if encoder.pair else HEAD
    for i, text in enumerate(dataset.texts):
        try:
            parts = encoder.encode(text, whole if truncation == ERROR else truncation)
        except TextError as error:
            faults.append(f"row {i + 1}, column '{file.columns.text_columns[error.side or 0]}': {error}")
            continue
        longer = parts[0].num_tokens > encoder.max_length
        if not longer or truncation != ERROR:
            kept.append(i)
            keys.append(b"".join(part.input_ids.tobytes() for part in parts))
            cut += longer and truncation != WINDOWS
    if faults:
        raise DataError(file.source, faults)
    if not kept:
        fault = f"every text has more than {encoder.max_length} tokens, which truncation 'error' refuses"
        raise DataError(file.source, [fault])
    return EvalSet(
        name=file_name(file.source),
        text_column=", ".join(file.columns.text_columns),
        labels_from=(file.columns.label_column,) if file.columns.label_column else file.columns.label_columns,
        texts=tuple(dataset.texts[i] for i in kept),
        truth=None if truth is None else truth[kept],
        row_numbers=tuple(i + 1 for i in kept),
        keys=tuple(keys),
        rows=len(dataset),
        truncation=truncation,
        cut=cut,
        left_out=len(dataset) - len(kept),
        groups=tuple(dataset.groups[i] for i in kept) if dataset.groups else (),
    )
