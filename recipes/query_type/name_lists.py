"""Data sets from lists of names: UTF-8 files with one name per line, # for comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.errors import DataError


def read_name_lists(lists: Mapping[str, Path]) -> Dataset:
    """Return the data set in `lists`, label -> file, with the labels in that order.

    Raises DataError for a name that stands twice, whatever its case and spacing: it would have two labels, or be on
    both sides of a split.
    """
    texts: list[str] = []
    targets: list[tuple[int, ...]] = []
    first_seen: dict[str, str] = {}
    for label_id, path in enumerate(lists.values()):
        faults = []
        for line, name in _numbered_names(path):
            key = " ".join(name.casefold().split())
            if key in first_seen:
                faults.append(f"line {line}: '{name}' stands already in {first_seen[key]}")
                continue
            first_seen[key] = f"{path.name} line {line}"
            texts.append(name)
            targets.append((label_id,))
        if faults:
            raise DataError(path, faults)
    return Dataset(tuple(texts), tuple(targets), tuple(lists), SINGLE_LABEL, Columns("text", "label"))


def read_name_list(path: Path) -> list[str]:
    """Return the names in one list. Raises DataError for a file that cannot be read, is not UTF-8 or has no names."""
    return [name for _, name in _numbered_names(path)]


def _numbered_names(path: Path) -> list[tuple[int, str]]:
    """Return line number and name of each name."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise DataError(path, [f"line {line} is not UTF-8"]) from error
    names = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    names = [(number, name) for number, name in names if name and not name.startswith("#")]
    if not names:
        raise DataError(path, ["has no names"])
    return names
