"""Data sets of the Hugging Face hub, or local folders that `datasets` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from inferer.errors import first_line
from training.data.dataset import Columns, Dataset
from training.data.labels import dataset_from_table
from training.data.parquet_file import arrow_table
from training.data.table import Row, Table
from training.errors import TrainingError

_PATIENCE_S = 10


def load_hub_dataset(name: str, columns: Columns, split: str) -> Dataset:
    """Return one split of the data set `name`: "rotten_tomatoes", "owner/name", "glue:sst2", or a local folder.

    A colon precedes the configuration. Numbers of a ClassLabel become their names, in their order, unless
    `columns.labels` gives another one. Raises TrainingError for an unknown name or split and for an unreachable hub;
    DataError for faults of the rows.
    """
    folder, configuration = name, None
    if name and not Path(name).exists():
        folder, _, configuration = name.partition(":")
    no_hub = "" if Path(folder).exists() else _no_hub(folder)
    known = _call(name, "get_dataset_split_names", no_hub, folder, configuration or None)
    if split not in known:
        raise TrainingError(f"data set {name} has no split '{split}'; it has {', '.join(known)}")
    found = _call(name, "load_dataset", no_hub, folder, configuration or None, split=split)
    names = found.column_names
    kept = found.select_columns([column for column in columns.names if column in names])
    table = arrow_table(f"data set {name}, split {split}", names, kept.with_format("arrow")[:])
    feature = found.features.get(columns.label_column or "")
    class_names = getattr(getattr(feature, "feature", feature), "names", None)  # of a ClassLabel, or a list of them
    if class_names and columns.label_column:
        table = _with_names(table, columns.label_column, class_names)
        if columns.positive_from is None:
            columns = replace(columns, labels=columns.labels or tuple(class_names))
    return dataset_from_table(table, columns)


def _call(name: str, function: str, no_hub: str, *given: str | None, **named: str) -> Any:
    """Return the result of a function of `datasets` for the data set `name`. no_hub: the reason if that fails."""
    try:
        import datasets
    except ImportError as error:
        raise TrainingError(f"data set {name}: reading it needs datasets: pip install datasets") from error
    try:
        return getattr(datasets, function)(*given, **named)
    except Exception as error:  # of the hub, the network, and every format that `datasets` reads
        raise TrainingError(f"data set {name}: cannot be loaded: {no_hub or first_line(error)}") from error


def _no_hub(name: str) -> str:
    """Return the fault of a hub that cannot be asked for the data set `name`, or an empty string.

    The process then stays offline, and `datasets` asks its cache at once: it would print and repeat each request for
    half a minute.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(name, timeout=_PATIENCE_S)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled):  # it answered, or was not to be asked
        return ""
    except Exception:  # noqa: BLE001  of the HTTP library, which differs between versions
        constants.HF_HUB_OFFLINE = True
        return f"it is not in the cache, and the hub {constants.ENDPOINT} cannot be reached; give --data FILE"
    return ""


def _with_names(table: Table, column: str, class_names: list[str]) -> Table:
    """Return `table` with names in place of the numbers of `column`."""
    rows, faults = [], list(table.faults)
    for row in table.rows:
        cell: Any = row.cells[column]
        ids = cell if isinstance(cell, list) else [cell]
        wrong = [i for i in ids if i is not None and not 0 <= i < len(class_names)]
        if wrong:  # a hidden test set has -1
            faults.append(row.fault(column, f"label {wrong[0]}, expected 0 to {len(class_names) - 1}"))
            continue
        names = [None if i is None else class_names[i] for i in ids]
        rows.append(Row(row.number, {**row.cells, column: names if isinstance(cell, list) else names[0]}))
    return Table(table.source, table.names, rows, faults)
