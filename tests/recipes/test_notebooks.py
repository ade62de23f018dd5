"""The notebooks, run from the first cell to the last: from a table to pictures, a bundle, and a reply of the server."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from inferer import ModelInferer
from tests.support.architectures import checkpoint
from tests.support.server import ROOT, environment
from tests.support.wordnet_folder import write_wordnet

NOTEBOOKS = ROOT / "notebooks"
NAMES = ("query_type", "walkthrough")
SETTINGS = ("DATA", "BASE_MODEL", "ROWS", "EPOCHS", "OUTPUT")
GOOD, BAD = ("good", "fun", "warm"), ("bad", "dull", "cold")
RETAILERS = [f"{name} {kind}" for name in ("corner", "park", "hill", "lake", "river") for kind in ("shop", "market")]
BRANDS = [
    f"{name}{end}" for name in ("zan", "mol", "tir", "pex", "lub", "kor") for end in ("o", "a", "ex", "ini", "us")
]
GOODS = [f"{kind} {thing}" for kind in ("hand", "baby", "green") for thing in ("bags", "soap", "tea", "rice", "shoes")]


@dataclass(frozen=True)
class Ran:
    """A notebook that ran to its end, and the folder that it wrote to."""

    cells: dict[str, Any]
    output: Path

    def text(self, cell: str) -> str:
        """Return what a cell printed to stdout."""
        return "".join(
            one.text for one in self.cells[cell].outputs if one.output_type == "stream" and one.name == "stdout"
        )

    def shown(self, cell: str, kind: str = "text/plain") -> str:
        """Return the value that a cell shows, in one format."""
        (value,) = [one.data[kind] for one in self.cells[cell].outputs if kind in one.get("data", {})]
        return str(value)


def ran(name: str, folder: Path, output: Path, **settings: object) -> Ran:
    """Run the notebook with `folder` as its working folder, as Jupyter does; an error in a cell raises."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    named = {f"NOTEBOOK_{key}": str(value) for key, value in {"EPOCHS": 1, "OUTPUT": output, **settings}.items()}
    python_path = named.pop("NOTEBOOK_PYTHONPATH", "")
    before = set(folder.iterdir())
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment(**named, PYTHONPATH=python_path))
    assert set(folder.iterdir()) == before, "something was written beside the notebook"
    return Ran({cell.id: cell for cell in notebook.cells}, output)


def no_faults(run: Ran) -> None:
    """Check that no cell shows an error or a warning."""
    for name, cell in run.cells.items():
        for one in cell.get("outputs", []):
            assert one.output_type != "error", name
            assert "Warning" not in one.get("text", ""), (name, one.text)


def is_picture(run: Ran, cell: str) -> bool:
    """Return whether the cell shows a PNG."""
    return base64.b64decode(run.shown(cell, "image/png")).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights to start from."""
    return checkpoint(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 300 sentences, positive and negative."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(300):
            words = [*rng.choice(GOOD if i % 2 else BAD, 2), f"film {i}", *rng.choice(["the", "plot", "was"], 3)]
            rng.shuffle(words)
            writer.writerow([" ".join(words), "positive" if i % 2 else "negative"])
    return path


@pytest.fixture(scope="module")
def walkthrough(base: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The walkthrough on the small table, run in its own folder."""
    output = tmp_path_factory.mktemp("walkthrough") / "output"
    return ran("walkthrough", NOTEBOOKS, output, DATA=reviews, BASE_MODEL=base, ROWS=100)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Small raw files: a blank retailer, a retailer that is a brand too, a repeated brand."""
    folder = tmp_path / "raw"
    folder.mkdir()
    offers = [*(("x", shop.upper(), BRANDS[0]) for shop in RETAILERS), ("x", "", BRANDS[0].upper())]
    brands = [(brand, "x", 1) for brand in (*BRANDS, RETAILERS[0])]
    tables = {
        "offer_retailer.csv": [("OFFER", "RETAILER", "BRAND"), *offers],
        "brand_category.csv": [("BRAND", "BRAND_BELONGS_TO_CATEGORY", "RECEIPTS"), *brands],
        "categories.csv": [
            ("CATEGORY_ID", "PRODUCT_CATEGORY", "IS_CHILD_CATEGORY_TO"),
            *((1, goods, GOODS[0]) for goods in GOODS),
        ],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_committed_as_nobody_has_run_them(name: str) -> None:
    """A notebook holds no output, execution counts or metadata, and its cells have lasting names."""
    text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell.id), cell.id
        assert not re.fullmatch(r"[0-9a-f]{8}", cell.id), f"{cell.id} was made up by an editor"
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_there_are_no_other_notebooks() -> None:
    """Every notebook in the folder is tested here."""
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_settings_stand_in_one_cell(name: str) -> None:
    """The environment's settings are read in the cell `settings` and in no other."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells}
    assert all(f'"NOTEBOOK_{setting}"' in cells["settings"] for setting in SETTINGS)
    assert not [name for name, source in cells.items() if name != "settings" and "environ.get" in source]


@pytest.mark.slow
def test_the_walkthrough_shows_data_figures_and_pictures(walkthrough: Ran) -> None:
    """The walkthrough shows the parts, the figures with interval and baseline, and every picture of the run."""
    no_faults(walkthrough)
    assert "[data]" in walkthrough.text("recipe-show")
    assert re.search(r"negative +\d+ +30\npositive +\d+ +30$", walkthrough.shown("data-read"))
    assert "95 % interval" in walkthrough.text("figures")
    assert "always" in walkthrough.text("figures")
    for cell in ("curves", "confusion", "lengths", "int8-picture"):
        assert is_picture(walkthrough, cell), cell
    assert "score_given" in walkthrough.shown("mistakes")


@pytest.mark.slow
def test_the_walkthrough_serves_what_it_trained(walkthrough: Ran) -> None:
    """The server's reply equals the inferer's bit for bit, and the server exits with 0."""
    assert "same label as fp32" in walkthrough.text("export-run")
    assert "\r" not in walkthrough.text("export-run")
    command, reply = walkthrough.text("serve-ask").splitlines()
    assert command.startswith("curl ")
    status, answer = reply.split(" ", 1)
    assert status == "200"
    text = json.loads(command.split(" -d ", 1)[1].strip("'"))["text"]
    model = ModelInferer(walkthrough.output / "models" / "rotten_tomatoes")
    assert json.loads(answer) == model.predict(text).as_dict()
    assert walkthrough.shown("serve-same") == "True"
    assert walkthrough.text("serve-stop").strip() == "the server ended with 0"


@pytest.mark.slow
def test_the_walkthrough_writes_where_it_is_told(walkthrough: Ran) -> None:
    """The output folder holds checkpoint, bundle and log, and nothing else."""
    files = [path for pattern in ("*", "*/*") for path in walkthrough.output.glob(pattern)]
    made = sorted(path.relative_to(walkthrough.output).as_posix() for path in files)
    assert made == ["checkpoints", "checkpoints/rotten_tomatoes", "models", "models/rotten_tomatoes", "server.log"]


def held_out_names(run: Ran) -> set[str]:
    """Return the names that the run held out."""
    with (run.output / "checkpoints" / "query_type" / "held_out.csv").open(encoding="utf-8", newline="") as file:
        return {row["text"] for row in csv.DictReader(file)}


def balanced_figures_are_those_of_the_report(run: Ran) -> None:
    """Check the notebook's own sum against the report's figure."""
    report = json.loads((run.output / "checkpoints" / "query_type" / "report.json").read_text(encoding="utf-8"))
    weighed, natural = run.text("balanced-mean").splitlines()
    assert f": {report['balanced_macro_f1']:.4f} (95 %" in weighed
    assert natural.endswith(f" {report['macro_f1']:.4f}")


@pytest.mark.slow
def test_query_type_runs_on_the_projects_lists_from_any_folder(base: Path, tmp_path: Path) -> None:
    """In a user's folder, with the packages on PYTHONPATH as in the image, the lists become a bundle."""
    (tmp_path / "mine").mkdir()
    run = ran("query_type", tmp_path / "mine", tmp_path / "output", BASE_MODEL=base, ROWS=20, PYTHONPATH=ROOT)
    no_faults(run)
    assert len(held_out_names(run)) > 300
    balanced_figures_are_those_of_the_report(run)
    assert is_picture(run, "confusion")
    assert is_picture(run, "curves")
    model = ModelInferer(run.output / "models" / "query_type")
    assert f"huggies  {model.predict('huggies').label}" in re.sub(" {2,}", "  ", run.shown("ask"))


@pytest.mark.slow
def test_query_type_cleans_adds_and_balances_the_raw_files(base: Path, raw: Path, tmp_path: Path) -> None:
    """The raw files are cleaned, shared names shown, synonyms added, and the training rows balanced."""
    wordnet = write_wordnet(
        tmp_path / "wordnet", [("noun.food", (f"green_{thing}", f"{thing}ette")) for thing in ("tea", "rice")]
    )
    run = ran("query_type", NOTEBOOKS, tmp_path / "output", DATA=raw, BASE_MODEL=base, ROWS=12, WORDNET=wordnet)
    no_faults(run)
    assert re.search(r"retailer +11 +1 +0 +0 +10\b", run.shown("cleaning"))
    assert re.search(rf"{RETAILERS[0]} +retailer +\(brand,\)", run.shown("shared"))
    assert "balanced to 12 training rows per class" in run.text("parts")
    added = re.search(r"added to category: (\d+) names, (\d+) synonyms", run.text("parts"))
    assert added is not None
    assert int(added[1]) > 100
    assert int(added[2]) >= 1
    assert "added to retailer: " in run.text("parts")
    for label, held_out in (("retailer", 2), ("brand", 6), ("category", 3)):
        assert re.search(rf"{label} +12 +{held_out}\b", run.shown("parts"))
    balanced_figures_are_those_of_the_report(run)


@pytest.mark.slow
def test_query_type_runs_on_the_real_raw_files(test_data: Path, base: Path, tmp_path: Path) -> None:
    """The public raw files go through the notebook: at least 29 names are shared, and 12 retailers are held out."""
    wordnet = write_wordnet(tmp_path / "wordnet", [("noun.food", ("rice", "ricette"))])
    raw = tmp_path / "raw"
    shutil.copytree(test_data / "query_type", raw)
    run = ran("query_type", NOTEBOOKS, tmp_path / "output", DATA=raw, BASE_MODEL=base, ROWS=50, WORDNET=wordnet)
    no_faults(run)
    assert re.search(r"retailer +12\b", run.shown("balanced"))
    assert run.shown("shared").count("(brand,)") >= 29
    balanced_figures_are_those_of_the_report(run)
