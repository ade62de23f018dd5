"""A folder with one text per file, as a data set; faults name the file.

Two layouts: a sub-folder for each label (aclImdb, Maas et al., 2011; scikit-learn's load_files), or texts side by side
and a table of their labels (the hate-speech data set, de Gibert et al., 2018).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.data.csv_file import csv_table
from training.data.dataset import Columns, Dataset
from training.data.labels import dataset_from_table
from training.data.remote import read_bytes
from training.data.table import BYTE_ORDER_MARK, Fault, Row, Table, not_utf8
from training.errors import DataError, TrainingError

ANNOTATIONS = "annotations_metadata.csv"
_TEXT, _LABEL = "text", "label"
_UNLABELLED = "unsup"  # aclImdb's reviews without a label


def read_text_folder(folder: Path, columns: Columns) -> Dataset:
    """Return the data set in `folder`, ordered by label and file name; its columns are text and label.

    With ANNOTATIONS in the folder or beside it, the texts are the folder's *.txt; the row with a text's name as file_id
    has its label. Without it, each file of a sub-folder is a text labelled by the sub-folder's name; aclImdb's unsup is
    left out unless `columns.labels` names it. Hidden files and a text's last line end are ignored.

    Only labels, drop_empty and positive_from of `columns` apply. Raises TrainingError for other ones, DataError with
    every fault.
    """
    for column, own in ((columns.text_column or None, _TEXT), (columns.label_column, _LABEL)):
        if column not in (None, own):
            raise TrainingError(f"{folder} is a folder of texts and has no column '{column}'; name no columns")
    if columns.label_columns or columns.separator:
        raise TrainingError(f"{folder} is a folder of texts, which have one label each: no label columns, no separator")
    columns = replace(columns, text_column=_TEXT, label_column=_LABEL)
    try:
        labels = _annotated(folder) or _foldered(folder, columns)
    except OSError as error:
        raise DataError(error.filename or folder, [f"cannot be read: {error.strerror}"]) from error
    faults: list[Fault] = []
    rows = []
    for number, (path, label) in enumerate(labels, start=1):
        text, fault = _text(path)
        row = Row(number, {_TEXT: text, _LABEL: label}, file=path.relative_to(folder).as_posix())
        if fault or label is None:
            faults.append(row.fault(_TEXT, fault or f"has no row in {ANNOTATIONS}"))
        else:
            rows.append(row)
    return dataset_from_table(Table(folder, (_TEXT, _LABEL), rows, faults), columns)


def _annotated(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the folder's texts with their labels, None for a text without one; empty for the other layout."""
    texts = sorted(path for path in folder.glob("[!.]*.txt") if path.is_file())
    tables = [path for path in (folder / ANNOTATIONS, folder.absolute().parent / ANNOTATIONS) if path.is_file()]
    if not texts or not tables:
        return []
    found = dataset_from_table(csv_table(tables[0], read_bytes(tables[0])), Columns("file_id", "label"))
    label_of: dict[str, str] = {}
    faults = []
    for i, (name, target) in enumerate(
        zip((str(text).strip() for text in found.texts), found.targets, strict=True), start=1
    ):
        if name in label_of:
            faults.append(f"row {i}, column 'file_id': '{name}' stands in a row above too")
        label_of[name] = found.labels[target[0]]
    if faults:
        raise DataError(tables[0], faults)
    return [(path, label_of.get(path.stem)) for path in texts]


def _foldered(folder: Path, columns: Columns) -> list[tuple[Path, str | None]]:
    """Return the files of the sub-folders, each with its sub-folder's name."""
    allowed = columns.labels if columns.positive_from is None else None  # with positive_from sub-folders are ratings
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if _UNLABELLED not in (allowed or ()):
        folders = [path for path in folders if path.name != _UNLABELLED]
    if not folders:
        raise DataError(folder, [f"is a folder without labels: expected a sub-folder for each, or {ANNOTATIONS}"])
    faults: list[str] = []
    found: list[tuple[Path, str | None]] = []
    for label in folders:
        inside = sorted(path for path in label.iterdir() if not path.name.startswith("."))
        nested = [path.name for path in inside if path.is_dir()]
        if allowed is not None and label.name not in allowed:
            faults.append(f"the sub-folder {label.name} is not one of the labels {', '.join(allowed)}")
        elif nested:
            faults.append(f"the sub-folder {label.name} holds a folder, {nested[0]}; expected texts alone")
        elif not inside:
            faults.append(f"the sub-folder {label.name} has no texts")
        found += [(path, label.name) for path in inside]
    if faults:
        raise DataError(folder, faults)
    return found


def _text(path: Path) -> tuple[str, str | None]:
    """Return the text in `path`, and its fault if it has one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r"), not_utf8(text)
