"""A data set from a source of any format: the file's ending says which. No torch here."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from training.data.csv_file import TAB, csv_table
from training.data.dataset import Columns, Dataset
from training.data.json_lines import json_lines_table
from training.data.labels import dataset_from_table
from training.data.location import file_name, is_address
from training.data.parquet_file import parquet_table
from training.data.remote import read_bytes
from training.data.table import Table
from training.data.text_folder import read_text_folder
from training.errors import DataError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz")
_PARTS = (("train", "test"), ("sampled_train", "sampled_test"))


def read_dataset(source: Path | str, columns: Columns) -> Dataset:
    """Return the data set at `source`: a file, a folder of texts, or the address of a file.

    Raises DataError with a line for every fault found.
    """
    if isinstance(source, str) and not is_address(source):
        source = Path(source)
    if isinstance(source, Path) and source.is_dir():
        if parts := split_files(source):
            names = " and ".join(file_name(part) for part in parts)
            raise DataError(source, [f"has two parts, {names}: give one of them, to be read as one data set"])
        return read_text_folder(source, columns)
    _ending(source)  # before what may be a long download
    return parse_dataset(source, read_bytes(source), columns)


def parse_dataset(source: Path | str, content: bytes, columns: Columns) -> Dataset:
    """Return the data set in `content`, the bytes of the file at `source`. Raises DataError as `read_dataset`.

    A name without an ending is read as a CSV.
    """
    return dataset_from_table(_table(source, content, columns), columns)


def split_files(folder: Path | str) -> tuple[Path, Path] | None:
    """Return the training part and the test part that lie in `folder`, None where it has no such parts.

    They are folders called train and test (or sampled_train and sampled_test, as in de Gibert et al., 2018), or files
    called so, of any format. Read the training part first, and the test part with its labels: a part may lack one.
    Raises DataError where it is not plain which is meant.
    """
    if not isinstance(folder, Path) or not folder.is_dir():
        return None
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, [f"cannot be read: {error.strerror}"]) from error
    found = []
    for names in _PARTS:
        first, second = ([path for path in inside if _is_part(path, name)] for name in names)
        if not first or not second:
            continue
        for paths in (first, second):
            if len(paths) > 1:
                raise DataError(folder, [f"has {' and '.join(path.name for path in paths)}: which of them is meant?"])
        found.append((first[0], second[0]))
    if len(found) > 1:
        pairs = " and ".join(f"{a.name}, {b.name}" for a, b in found)
        raise DataError(folder, [f"has {pairs}: which of them is meant?"])
    return found[0] if found else None


def _is_part(path: Path, name: str) -> bool:
    return path.name == name if path.is_dir() else path.stem == name and path.suffix.lower() in FORMATS


def _ending(source: Path | str) -> str:
    """Return the ending of a file's name in lower case; raises DataError for one that is not known."""
    ending = PurePosixPath(file_name(source)).suffix.lower()
    if ending in _PACKED:
        raise DataError(source, [f"is packed, by its ending {ending}: unpack it first"])
    if ending and ending not in FORMATS:
        allowed = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(source, [f"has the ending {ending}, expected {allowed}"])
    return ending


def _table(source: Path | str, content: bytes, columns: Columns) -> Table:
    ending = _ending(source)
    if ending == ".parquet":
        return parquet_table(source, content, columns.names)
    if ending in (".jsonl", ".ndjson", ".json"):
        return json_lines_table(source, content)
    if ending == ".tsv":
        return csv_table(source, content, TAB)
    return csv_table(source, content)
