"""Names of retailers, brands and product categories from the three raw files of a shopping app.

Defines which columns hold which names, how a name is cleaned, and which class keeps a name of several classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.csv_file import csv_table
from training.data.dataset import Columns, Dataset
from training.data.labels import check_names
from training.data.remote import read_bytes
from training.errors import DataError

# In the order of the labels: 0, 1, 2.
SOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "retailer": (("offer_retailer.csv", "RETAILER"),),
    "brand": (("offer_retailer.csv", "BRAND"), ("brand_category.csv", "BRAND")),
    "category": (("categories.csv", "PRODUCT_CATEGORY"), ("categories.csv", "IS_CHILD_CATEGORY_TO")),
}
LABELS = tuple(SOURCES)
# The class that keeps a name of several classes, the first one here. Nearly every chain sells goods under its own name,
# so half of the retailers are brands too. The class with the fewest names would lose the most, and a shopper who types
# "walmart" means the shop.
KEEPERS = ("retailer", "category", "brand")

_SIGNS = re.compile("[®™℠©\u200b-\u200d\ufeff]")  # before NFKC, which makes letters of two of them: ™ TM, ℠ SM
_APOSTROPHES = str.maketrans("’‘`´ʼ", "'''''")


@dataclass(frozen=True)
class ClassCounts:
    """Counts of one class: cells = blank + repeated + shared + names."""

    cells: int
    blank: int  # without a letter or a digit
    repeated: int  # the class has the name already
    shared: int  # another class keeps the name
    names: int


@dataclass(frozen=True)
class SharedName:
    """A name of several classes."""

    name: str
    kept_as: str
    left_by: tuple[str, ...]


@dataclass(frozen=True)
class NamesReport:
    """Counts by label, and the names of several classes, sorted."""

    counts: Mapping[str, ClassCounts]
    shared: tuple[SharedName, ...]

    def as_text(self) -> str:
        """Return the report as lines for a terminal."""
        width = max(map(len, self.counts))
        lines = [f"  {'label':<{width}}   cells  blank  repeated  shared  names"]
        lines += [
            f"  {label:<{width}} {n.cells:7d} {n.blank:6d} {n.repeated:9d} {n.shared:7d} {n.names:6d}"
            for label, n in self.counts.items()
        ]
        lines.append(f"  {len(self.shared)} names of several classes, each kept by the first of {', '.join(KEEPERS)}")
        for label in KEEPERS:
            kept = [shared.name for shared in self.shared if shared.kept_as == label]
            if kept:
                lines.append(f"    {label}: {', '.join(kept)}")
        return "\n".join(lines)


def read_raw_names(folder: Path) -> tuple[Dataset, NamesReport]:
    """Return the cleaned names in the raw files of `folder` in lower case, as shoppers type, and a report.

    Each name stands once, as it is first written; names that `same_name` finds equal are one. Raises DataError for
    faults of the files and for a class that is left without a name.
    """
    cells = {
        label: [cell for file, column in sources for cell in _column(folder / file, column)]
        for label, sources in SOURCES.items()
    }
    found = {label: _distinct(cells[label]) for label in LABELS}
    owner = {key: label for label in reversed(KEEPERS) for key in found[label]}
    kept = {label: [name for key, name in found[label].items() if owner[key] == label] for label in LABELS}
    counts = {}
    for label in LABELS:
        if not kept[label]:
            raise DataError(folder, [f"no name is left for label '{label}'"])
        names, distinct = len(kept[label]), len(found[label])
        total, blank = len(cells[label]), sum(not same_name(cell) for cell in cells[label])
        counts[label] = ClassCounts(total, blank, total - blank - distinct, distinct - names, names)
    dataset = Dataset(
        tuple(name for label in LABELS for name in kept[label]),
        tuple((i,) for i, label in enumerate(LABELS) for _ in kept[label]),
        LABELS,
        SINGLE_LABEL,
        Columns("text", "label"),
    )
    return dataset, NamesReport(counts, _shared(found))


def clean_name(cell: str) -> str:
    """Return `cell` in Unicode NFKC, without trademark signs, with plain apostrophes and single spaces."""
    plain = unicodedata.normalize("NFKC", _SIGNS.sub("", cell)).translate(_APOSTROPHES)
    return " ".join(plain.split())


def same_name(text: str) -> str:
    """Return the letters and digits of `text` without case and accents: equal for two spellings of one name.

    HÄAGEN-DAZS and "haagen dazs", 7-UP and 7UP give the same; a text without a letter or digit gives "".
    """
    letters = unicodedata.normalize("NFKD", clean_name(text).casefold())
    return "".join(c for c in letters if c.isalnum())


def _column(path: Path, column: str) -> list[str]:
    """Return the cells of a CSV's column, blank ones included."""
    table = csv_table(path, read_bytes(path))
    check_names(table, Columns(column))
    if table.faults:
        raise DataError(path, [fault.message for fault in table.faults])
    if not table.rows:
        raise DataError(path, [table.without_rows])
    return [str(row.cells[column]) for row in table.rows]


def _distinct(cells: Iterable[str]) -> dict[str, str]:
    """Return the cleaned names by their `same_name`, the first spelling of each, in order."""
    found: dict[str, str] = {}
    for cell in cells:
        key = same_name(cell)
        if key and key not in found:
            found[key] = clean_name(cell).lower()
    return found


def _shared(found: Mapping[str, Mapping[str, str]]) -> tuple[SharedName, ...]:
    times = Counter(key for names in found.values() for key in names)
    shared = []
    for key in (key for key, n in times.items() if n > 1):
        first, *others = (label for label in KEEPERS if key in found[label])
        shared.append(SharedName(found[first][key], first, tuple(others)))
    return tuple(sorted(shared, key=lambda one: one.name))
