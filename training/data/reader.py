"""A data set from a file, a folder of texts or an address; the file's ending decides the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from training.data.csv_file import TAB, csv_table, delimiter_of
from training.data.dataset import Columns, Dataset
from training.data.encoding import ENDINGS, codec_of, encoding_told, in_utf8
from training.data.json_lines import json_lines_table
from training.data.labels import Probabilities, dataset_from_table, probabilities_from_table
from training.data.location import file_name
from training.data.parquet_file import parquet_table
from training.data.remote import read_bytes
from training.data.table import Table, text_bytes
from training.data.text_folder import read_text_folder
from training.data.xlsx_file import xlsx_table
from training.errors import DataError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx")
_OFFICE = (".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz")
_PARTS = (("train", "test"), ("sampled_train", "sampled_test"))


def read_dataset(source: Path | str, columns: Columns, encoding: str | None = None) -> Dataset:
    """Return the data set at `source`: a file, a folder of texts, or an address. Raises DataError with every fault.

    encoding: of a CSV or TSV that is not UTF-8.
    """
    if isinstance(source, Path) and source.is_dir():
        if encoding is not None:
            raise DataError(source, ["is a folder of texts, which are UTF-8; --encoding is for CSV and TSV"])
        if parts := split_files(source):
            names = " and ".join(part.name for part in parts)
            raise DataError(source, [f"has two parts, {names}: choose one of them"])
        return read_text_folder(source, columns)
    _check(source, encoding)  # before a download that may be long
    return parse_dataset(source, read_bytes(source), columns, encoding)


def read_further(source: Path | str, columns: Columns, encoding: str | None) -> Dataset:
    """Return the data set at `source`, beside one in `encoding`.

    Other formats, and what is UTF-8 by its content, such as rows that a run held out, are read as they are.
    """
    is_folder = isinstance(source, Path) and source.is_dir()
    if encoding is None or is_folder or _ending(source) not in ENDINGS:
        return read_dataset(source, columns)
    content = read_bytes(source)
    return parse_dataset(source, content, columns, None if encoding_told(content) else encoding)


def parse_dataset(source: Path | str, content: bytes, columns: Columns, encoding: str | None = None) -> Dataset:
    """Return the data set in `content`, the bytes at `source` (a CSV without an ending), or raise all its faults."""
    return dataset_from_table(_table(source, content, columns.names, encoding), columns)


def read_probabilities(source: Path | str, columns: Columns, *, exactly_one: bool) -> Probabilities:
    """Return the texts in the file at `source` with the probabilities in `columns.label_columns`.

    exactly_one: a text has one label. Raises DataError with every fault.
    """
    _check(source, None)
    return probabilities_from_table(_table(source, read_bytes(source), columns.names), columns, exactly_one=exactly_one)


def is_table(source: str) -> bool:
    """Return whether a name is that of a file in one of our formats, by its ending."""
    return PurePosixPath(file_name(source)).suffix.lower() in FORMATS


def _table(source: Path | str, content: bytes, wanted: Sequence[str], encoding: str | None = None) -> Table:
    ending = _check(source, encoding)
    if ending == ".parquet":
        return parquet_table(source, content, wanted)
    if ending == ".xlsx":
        return xlsx_table(source, content, wanted)
    if ending in (".jsonl", ".ndjson", ".json"):
        return json_lines_table(source, content)
    content = text_bytes(source, content if encoding is None else in_utf8(source, content, encoding))
    return csv_table(source, content, TAB if ending == ".tsv" else delimiter_of(content, wanted))


def split_files(folder: Path | str) -> tuple[Path, Path] | None:
    """Return the training part and the test part in `folder`, None where it has no such parts.

    They are folders or files called train and test (or sampled_train and sampled_test, as in de Gibert et al., 2018).
    Raises DataError where several parts have these names.
    """
    if not isinstance(folder, Path) or not folder.is_dir():
        return None
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, [f"cannot be read: {error.strerror}"]) from error
    found: list[Path] = []
    for names in _PARTS:
        parts = [[path for path in inside if _is_part(path, name)] for name in names]
        if all(parts):
            found += [path for paths in parts for path in paths]
    if len(found) > 2:
        listed = " and ".join(path.name for path in found)
        raise DataError(folder, [f"has {listed}: expected one training part and one test part"])
    return (found[0], found[1]) if found else None


def _is_part(path: Path, name: str) -> bool:
    return path.name == name if path.is_dir() else path.stem == name and path.suffix.lower() in FORMATS


def _check(source: Path | str, encoding: str | None) -> str:
    """Return the file's ending. Raises DataError for an unknown one, TrainingError for an encoding that it has not."""
    ending = _ending(source)
    if encoding is not None:
        codec_of(encoding)
        if ending not in ENDINGS:
            raise DataError(source, [f"has the ending {ending}; --encoding is for CSV and TSV"])
    return ending


def _ending(source: Path | str) -> str:
    """Return the ending of a file's name in lower case. Raises DataError for an unknown one."""
    ending = PurePosixPath(file_name(source)).suffix.lower()
    if ending in _PACKED:
        raise DataError(source, [f"is packed, by its ending {ending}: unpack it first"])
    if ending in _OFFICE:
        raise DataError(source, [f"has the ending {ending}: save it as .xlsx or CSV"])
    if ending and ending not in FORMATS:
        allowed = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(source, [f"has the ending {ending}, expected {allowed}"])
    return ending
