"""The three uncleaned files of the public take-home data set, as names of retailers, brands and product categories.

Owns which columns hold which names, how a name is cleaned, and which class keeps a name that stands in two. Knows
nothing of splits, of enrichment or of models.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.csv_file import read_cells
from training.data.dataset import Columns, Dataset
from training.errors import DataError, TrainingError

# In the order of the labels: 0, 1, 2.
SOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "retailer": (("offer_retailer.csv", "RETAILER"),),
    "brand": (("offer_retailer.csv", "BRAND"), ("brand_category.csv", "BRAND")),
    "category": (("categories.csv", "PRODUCT_CATEGORY"), ("categories.csv", "IS_CHILD_CATEGORY_TO")),
}
LABELS = tuple(SOURCES)
# Nearly every chain sells goods under its own name, so half of the retailers are brands too. The class with the fewest
# names keeps such a name: it would lose the most, and who types "walmart" means the shop.
KEEPER = ("retailer", "category", "brand")

_COLUMNS = Columns(text_column="text", label_column="label")
_SIGNS = re.compile("[®™℠©\u200b-\u200d\ufeff]")  # before NFKC, which makes letters of two of them: ™ TM, ℠ SM
_APOSTROPHES = str.maketrans("’‘`´ʼ", "'''''")


@dataclass(frozen=True)
class ClassCounts:
    """What became of the cells of one class: cells = blank + repeated + shared + names."""

    cells: int
    blank: int  # nothing, or no letter and no digit
    repeated: int  # the name had been read for this class already
    shared: int  # another class keeps the name
    names: int


@dataclass(frozen=True)
class SharedName:
    """A name that stands in several classes, the one that keeps it first."""

    name: str
    kept_as: str
    left_by: tuple[str, ...]


@dataclass(frozen=True)
class NamesReport:
    """What was read, and what was done with it."""

    counts: Mapping[str, ClassCounts]
    shared: tuple[SharedName, ...]
    keeper: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report in JSON types."""
        return {
            "counts": {label: asdict(counts) for label, counts in self.counts.items()},
            "keeper": list(self.keeper),
            "shared": [
                {"name": shared.name, "kept_as": shared.kept_as, "left_by": list(shared.left_by)}
                for shared in self.shared
            ],
        }

    def as_text(self) -> str:
        """Return the report as lines for a terminal."""
        width = max(map(len, self.counts))
        lines = [f"  {'label':<{width}}   cells  blank  repeated  shared  names"]
        lines += [
            f"  {label:<{width}} {n.cells:7d} {n.blank:6d} {n.repeated:9d} {n.shared:7d} {n.names:6d}"
            for label, n in self.counts.items()
        ]
        order = " before ".join(self.keeper)
        lines.append(f"  {len(self.shared)} names stand in two classes or more; who keeps them: {order}")
        for label in self.keeper:
            kept = [shared.name for shared in self.shared if shared.kept_as == label]
            if kept:
                lines.append(f"    {label}: {', '.join(kept)}")
        return "\n".join(lines)


def read_raw_names(
    folder: Path, keeper: Sequence[str] = KEEPER, *, lower_case: bool = True
) -> tuple[Dataset, NamesReport]:
    """Return the names in offer_retailer.csv, brand_category.csv and categories.csv of `folder`, and what was done.

    The labels are retailer, brand, category. A name is cleaned by `clean_name` and stands once: names that
    `same_name` finds equal are one, written as it comes first. One that stands in several classes goes to the class
    that `keeper` names first. With lower_case, as shoppers type; the offline encoder reads no case anyhow.

    Raises DataError for a file or a column that is missing, and whatever `read_csv` refuses besides blank cells;
    TrainingError where `keeper` is not the three labels.
    """
    if sorted(keeper) != sorted(LABELS):
        raise TrainingError(f"keeper is {', '.join(keeper)}; expected {', '.join(LABELS)}, each once, in any order")
    cells = {
        label: [cell for file, column in SOURCES[label] for cell in read_cells(folder / file, column)]
        for label in LABELS
    }
    found = {label: _distinct(cells[label], lower_case=lower_case) for label in LABELS}
    owner = {key: label for label in reversed(keeper) for key in found[label]}
    kept = {label: [name for key, name in found[label].items() if owner[key] == label] for label in LABELS}
    for label in LABELS:
        if not kept[label]:
            raise DataError(folder, [f"no name is left for label '{label}'"])
    counts = {}
    for label in LABELS:
        blank = sum(not same_name(cell) for cell in cells[label])
        names, distinct = len(kept[label]), len(found[label])
        counts[label] = ClassCounts(
            len(cells[label]), blank, len(cells[label]) - blank - distinct, distinct - names, names
        )
    dataset = Dataset(
        tuple(name for label in LABELS for name in kept[label]),
        tuple((i,) for i, label in enumerate(LABELS) for _ in kept[label]),
        LABELS,
        SINGLE_LABEL,
        _COLUMNS,
    )
    return dataset, NamesReport(counts, _shared(found, keeper), tuple(keeper))


def clean_name(cell: str) -> str:
    """Return `cell` in Unicode NFKC, without trademark signs, with plain apostrophes and single blanks."""
    plain = unicodedata.normalize("NFKC", _SIGNS.sub("", cell)).translate(_APOSTROPHES)
    return " ".join(plain.split())


def same_name(text: str) -> str:
    """Return what two spellings of one name have in common: letters and digits, without case and accents.

    HÄAGEN-DAZS and "haagen dazs", 7-UP and 7UP give the same; a text without a letter or digit gives "".
    """
    letters = unicodedata.normalize("NFKD", clean_name(text).casefold())
    return "".join(c for c in letters if c.isalnum())


def _distinct(cells: Sequence[str], *, lower_case: bool) -> dict[str, str]:
    """Return the cleaned names by what `same_name` says of them, the first spelling of each, in their order."""
    found: dict[str, str] = {}
    for cell in cells:
        key = same_name(cell)
        if key and key not in found:
            name = clean_name(cell)
            found[key] = name.lower() if lower_case else name
    return found


def _shared(found: Mapping[str, Mapping[str, str]], keeper: Sequence[str]) -> tuple[SharedName, ...]:
    """Return the names of several classes, sorted."""
    times = Counter(key for names in found.values() for key in names)
    shared = []
    for key in (key for key, n in times.items() if n > 1):
        first, *others = (label for label in keeper if key in found[label])
        shared.append(SharedName(found[first][key], first, tuple(others)))
    return tuple(sorted(shared, key=lambda one: one.name))
