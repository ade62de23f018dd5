"""The three raw files: their names, cleaned, and the class that keeps a name of two classes."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferer.bundle.manifest import SINGLE_LABEL
from recipes.query_type.raw_names import (
    LABELS,
    ClassCounts,
    NamesReport,
    SharedName,
    clean_name,
    read_raw_names,
    same_name,
)
from tests.support.server import ROOT
from training.data.dataset import Dataset
from training.errors import DataError

OFFERS = """OFFER,RETAILER,BRAND
"Spend $10, at Target",TARGET,TARGET
Any,, BEN & JERRY'S ®
Any,Sam’s  Club,KRAFT
Any,TARGET,...
"""
BRANDS = """BRAND,BRAND_BELONGS_TO_CATEGORY,RECEIPTS
ben & jerrys,Frozen Desserts,10
PRETZELS,Snacks,2
HÄAGEN-DAZS,Frozen Desserts,5
Haagen Dazs™,Frozen,1
SAMS CLUB,Pantry,1
"""
CATEGORIES = """CATEGORY_ID,PRODUCT_CATEGORY,IS_CHILD_CATEGORY_TO
1,Pretzels,Snacks
2,Chips,Snacks
3,Target,
"""


def write(folder: Path, offers: str = OFFERS, brands: str = BRANDS, categories: str = CATEGORIES) -> Path:
    """Write the three files."""
    files = {"offer_retailer.csv": offers, "brand_category.csv": brands, "categories.csv": categories}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def by_label(data: Dataset) -> dict[str, list[str]]:
    """Return the names of each class."""
    rows = list(zip(data.texts, data.targets, strict=True))
    return {label: [text for text, row in rows if row == (i,)] for i, label in enumerate(data.labels)}


def test_names_are_read_cleaned_and_in_one_class_each(tmp_path: Path) -> None:
    """Each class has the names of its own columns, cleaned, in lower case, once, without those that another keeps."""
    data, _ = read_raw_names(write(tmp_path))
    assert data.labels == LABELS == ("retailer", "brand", "category")
    assert data.problem_type == SINGLE_LABEL
    assert by_label(data) == {
        "retailer": ["target", "sam's club"],
        "brand": ["ben & jerry's", "kraft", "häagen-dazs"],
        "category": ["pretzels", "chips", "snacks"],
    }


def test_the_report_tells_every_cell_and_every_shared_name(tmp_path: Path) -> None:
    """The report counts blank, repeated and shared cells, and names the class that keeps a shared name."""
    _, report = read_raw_names(write(tmp_path))
    assert report == NamesReport(
        {
            "retailer": ClassCounts(cells=4, blank=1, repeated=1, shared=0, names=2),
            "brand": ClassCounts(cells=9, blank=1, repeated=2, shared=3, names=3),
            "category": ClassCounts(cells=6, blank=1, repeated=1, shared=1, names=3),
        },
        (
            SharedName("pretzels", "category", ("brand",)),
            SharedName("sam's club", "retailer", ("brand",)),
            SharedName("target", "retailer", ("category", "brand")),
        ),
    )
    text = report.as_text()
    assert "3 names of several classes, each kept by the first of retailer, category, brand" in text
    assert "    retailer: sam's club, target\n    category: pretzels" in text
    assert "  brand          9      1         2       3      3" in text


@pytest.mark.parametrize("file", ["offer_retailer.csv", "brand_category.csv", "categories.csv"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    """A missing file is named."""
    (write(tmp_path) / file).unlink()
    with pytest.raises(DataError, match=f"{file}: cannot be read: No such file"):
        read_raw_names(tmp_path)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    """A missing column is named with its file and the columns of the file."""
    write(tmp_path, offers="OFFER,RETAILERS,BRAND\nx,a,b\n")
    with pytest.raises(DataError, match="offer_retailer.csv: no column 'RETAILER'; .* did you mean 'RETAILERS'"):
        read_raw_names(tmp_path)


def test_broken_rows_are_named(tmp_path: Path) -> None:
    """A row with too few cells and bytes that are not UTF-8 are named with row and line."""
    write(tmp_path, categories="CATEGORY_ID,PRODUCT_CATEGORY,IS_CHILD_CATEGORY_TO\n1,Chips,Snacks\n2,Ice\n")
    with pytest.raises(DataError, match=r"categories.csv: row 2 \(line 3\), column 'IS_CHILD_CATEGORY_TO': missing"):
        read_raw_names(tmp_path)
    write(tmp_path)
    (tmp_path / "brand_category.csv").write_bytes(b"BRAND\nok\nCaf\xe9\n")
    with pytest.raises(
        DataError, match=r"brand_category.csv: row 2 \(line 3\), column 'BRAND': byte 0xe9 is not UTF-8"
    ):
        read_raw_names(tmp_path)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    """A class whose every name is another's or blank is named."""
    write(tmp_path, categories="CATEGORY_ID,PRODUCT_CATEGORY,IS_CHILD_CATEGORY_TO\n1,Target,Target\n")
    with pytest.raises(DataError, match="no name is left for label 'category'"):
        read_raw_names(tmp_path)
    write(tmp_path, offers="OFFER,RETAILER,BRAND\nx,,b\n")
    with pytest.raises(DataError, match="no name is left for label 'retailer'"):
        read_raw_names(tmp_path)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("AIR WICK®", "AIR WICK"),
        ("Beyond Steak™ ", "Beyond Steak"),
        ("RAO’S", "RAO'S"),
        ("  a \t b\n c\u00a0d ", "a b c d"),
        ("ＦＵＬＬ ｗｉｄｔｈ", "FULL width"),
        ("soﬁa", "sofia"),
        ("CAFE\u0301", "CAFÉ"),
    ],
)
def test_a_name_is_cleaned(cell: str, name: str) -> None:
    """Trademark signs and surplus spaces go; apostrophes and compatibility characters become plain ones."""
    assert clean_name(cell) == name


@given(st.text(max_size=20))
def test_cleaning_ends(cell: str) -> None:
    """A cleaned name has no trademark sign, is in NFKC, and is the same name as before."""
    name = clean_name(cell)
    assert not set(name) & set("®™℠©")
    assert unicodedata.is_normalized("NFKC", name)
    assert name == name.strip()
    assert same_name(name) == same_name(cell)


def test_spellings_of_one_name_are_one() -> None:
    """Case, accents, hyphens, apostrophes and spaces do not make another name; a letter does."""
    for one, other in [("HÄAGEN-DAZS", "haagen dazs"), ("7-UP", "7UP"), ("M&M'S", "m&ms"), ("Jell-O", "JELLO")]:
        assert same_name(one) == same_name(other) != ""
    assert same_name("dove") != same_name("doves")
    assert same_name(" - ") == ""


def test_reading_names_needs_no_torch() -> None:
    """Reading the raw names imports neither torch nor transformers."""
    code = "import sys, recipes.query_type.raw_names; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_real_files(test_data: Path) -> None:
    """The public files give 61 retailers, 132 categories and the brands that are neither, no name in two classes."""
    data, report = read_raw_names(test_data / "query_type")
    assert data.counts() == {"retailer": 61, "brand": 8338, "category": 132}
    assert len({same_name(text) for text in data.texts}) == len(data)
    assert all(text == text.lower() for text in data.texts)
    assert len(report.shared) == 30
    assert {shared.kept_as for shared in report.shared} == {"retailer"}
    for counts in report.counts.values():
        assert counts.cells == counts.blank + counts.repeated + counts.shared + counts.names
