"""Data sets of the hub: class names for numbers, splits, and one line for a failed load. No network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Features, List, Value

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.export.sources.hub_server import hub_of
from tests.support.fruit import write_table
from tests.support.server import ROOT, run_to_end
from training.data.csv_file import write_csv
from training.data.dataset import Columns
from training.data.hub import load_hub_dataset
from training.data.reader import read_dataset
from training.errors import DataError, TrainingError

COLUMNS = Columns("text", "label")
CLASSES = ClassLabel(names=["pos", "neg", "mixed"])


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep `datasets` away from the hub, and from the user's cache."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., str]:
    """A function that writes splits as Parquet with these features, and returns their folder."""

    def write(features: Features, **splits: list[dict[str, object]]) -> str:
        for split, rows in splits.items():
            columns = {name: [row[name] for row in rows] for name in features}
            path = tmp_path / "set" / f"{split}.parquet"
            path.parent.mkdir(exist_ok=True)
            datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
        return str(tmp_path / "set")

    return write


def labelled(*labels: object) -> list[dict[str, object]]:
    """Return rows with these labels."""
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


def test_class_numbers_become_their_names(folder: Callable[..., str], tmp_path: Path) -> None:
    """Numbers of a ClassLabel become its names, in its order, and a CSV of them reads back the same."""
    name = folder(Features(text=Value("string"), label=CLASSES), train=labelled(1, 0, 2), test=labelled(0))
    data = load_hub_dataset(name, COLUMNS, "train")
    assert data.labels == ("pos", "neg", "mixed")
    assert (data.texts[0], data.targets, data.problem_type) == ("text 0", ((1,), (0,), (2,)), SINGLE_LABEL)
    write_csv(tmp_path / "written.csv", data)
    assert read_dataset(tmp_path / "written.csv", data.columns) == data
    assert load_hub_dataset(name, COLUMNS, "test").labels == ("pos", "neg", "mixed")


def test_lists_of_class_numbers_are_multi_label(folder: Callable[..., str]) -> None:
    """Lists of numbers of a ClassLabel become lists of its names."""
    name = folder(Features(text=Value("string"), label=List(CLASSES)), train=labelled([1, 0], [2]))
    data = load_hub_dataset(name, COLUMNS, "train")
    assert (data.labels, data.targets, data.problem_type) == (("pos", "neg", "mixed"), ((0, 1), (2,)), MULTI_LABEL)


def test_labels_given_fix_the_order_of_classes(folder: Callable[..., str]) -> None:
    """Given labels replace the order of a ClassLabel, and a label outside them is named by row."""
    name = folder(Features(text=Value("string"), label=CLASSES), train=labelled(1, 0))
    assert load_hub_dataset(name, Columns("text", "label", labels=("neg", "pos")), "train").targets == ((0,), (1,))
    with pytest.raises(DataError, match=r"split train: row 2, column 'label': label 'pos' is not one of neg, x"):
        load_hub_dataset(name, Columns("text", "label", labels=("neg", "x")), "train")


def test_plain_labels_are_read_as_those_of_a_file(folder: Callable[..., str]) -> None:
    """Labels that are text or numbers, ratings included, are read like those of a file."""
    name = folder(Features(text=Value("string"), label=Value("float64")), train=labelled(1.0, 5.0))
    assert load_hub_dataset(name, COLUMNS, "train").labels == ("1", "5")
    rated = load_hub_dataset(name, Columns("text", "label", positive_from=4), "train")
    assert (rated.targets, rated.labels) == (((0,), (1,)), ("negative", "positive"))


def test_classes_that_are_ratings_become_two_labels(folder: Callable[..., str]) -> None:
    """With positive_from the names of a ClassLabel are the ratings, and not the labels."""
    stars = ClassLabel(names=["1", "2", "3"])
    name = folder(Features(text=Value("string"), label=stars), train=labelled(2, 0))
    rated = load_hub_dataset(name, Columns("text", "label", positive_from=2), "train")
    assert (rated.targets, rated.labels) == (((1,), (0,)), ("negative", "positive"))


def test_faults_of_rows_are_named(folder: Callable[..., str]) -> None:
    """Hidden labels, no label, an empty text and a missing column are named with the data set and the split."""
    rows = [*labelled(-1, None, 0), {"text": " ", "label": 0}]
    name = folder(Features(text=Value("string"), label=CLASSES), train=rows)
    with pytest.raises(DataError) as caught:
        load_hub_dataset(name, COLUMNS, "train")
    assert str(caught.value).startswith(f"data set {name}, split train: 3 faults:")
    assert caught.value.faults == [
        "row 1, column 'label': label -1, expected 0 to 2",
        "row 2, column 'label': empty label",
        "row 4, column 'text': empty text",
    ]
    with pytest.raises(DataError, match="no column 'sentence'; the columns are 'text', 'label'"):
        load_hub_dataset(name, Columns("sentence", "label"), "train")


def test_splits_are_those_of_the_data_set(folder: Callable[..., str]) -> None:
    """An unknown split is refused with the known ones."""
    features = Features(text=Value("string"), label=CLASSES)
    name = folder(features, train=labelled(0), test=labelled(1))
    with pytest.raises(TrainingError, match=f"data set {name} has no split 'dev'; it has train, test$"):
        load_hub_dataset(name, COLUMNS, "dev")


@pytest.mark.parametrize("name", ["no-such/set", "glue:sst2", "", "no such name"])
def test_a_name_that_cannot_be_loaded_is_told_in_one_line(name: str) -> None:
    """An unknown name or an unreachable hub is one line with the name."""
    with pytest.raises(TrainingError) as caught:
        load_hub_dataset(name, COLUMNS, "train")
    assert str(caught.value).startswith(f"data set {name}: cannot be loaded: ")
    assert "\n" not in str(caught.value)


def test_a_configuration_stands_behind_a_colon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The part after a colon is the configuration, unless the whole name is a folder."""
    asked = []
    monkeypatch.setattr("datasets.get_dataset_split_names", lambda *given: asked.append(given) or ["train"])
    (tmp_path / "a:b").mkdir()
    for name in ("glue:sst2", "owner/name", str(tmp_path / "a:b")):
        with pytest.raises(TrainingError, match="has no split 'none'"):
            load_hub_dataset(name, COLUMNS, "none")
    assert asked == [("glue", "sst2"), ("owner/name", None), (str(tmp_path / "a:b"), None)]


def test_loading_is_free_of_torch(tmp_path: Path) -> None:
    """Loading a data set does not import torch."""
    (tmp_path / "set").mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in labelled("x", "y"))
    (tmp_path / "set" / "train.jsonl").write_text(rows)
    code = (
        "import sys; from training.data.dataset import Columns; from training.data.hub import load_hub_dataset\n"
        "data = load_hub_dataset(sys.argv[1], Columns('text', 'label'), 'train')\n"
        "print(len(data), 'datasets' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "set")],
        cwd=ROOT,
        env={"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2 True False"


NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*"}
TABLE = ("--data", "fruit.csv", "--text-column", "text", "--label-column", "colour")
HUB = ("--dataset", "org/set", "--text-column", "text", "--label-column", "label")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            (*TABLE, "--base-model", "org/name"),
            "base model org/name: no such folder here or in the hub's cache, and the hub http://127.0.0.1:9 cannot be "
            "reached; give --base-model embedded, or a folder",
        ),
        (
            HUB,
            "data set org/set: cannot be loaded: it is not in the cache, and the hub http://127.0.0.1:9 cannot be "
            "reached; give --data FILE",
        ),
    ],
    ids=["model", "data"],
)
def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    """Without the hub a run ends with one line that has the remedy, without repeated requests and tracebacks."""
    write_table(tmp_path / "fruit.csv")
    done = run_to_end(
        sys.executable, "-m", "training", *flags, "--output", "out",
        cwd=tmp_path, HF_HOME=str(tmp_path / "home"), PYTHONPATH=str(ROOT), **NOWHERE,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"training: {message}"
    assert "thrown" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_base_model_of_the_hub_is_a_folder_of_its_cache(tmp_path: Path) -> None:
    """A base model of the hub comes with config, tokenizer and weights, and later without the hub."""
    model = tmp_path / "hub" / "org" / "name"
    model.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "model.safetensors", "tf_model.h5"):
        (model / file).write_text("{}")
    code = "import sys; from training.model.base_model import base_model_path; print(base_model_path('org/name'))"
    with hub_of(tmp_path / "hub") as hub:
        own = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
        own |= {"HF_ENDPOINT": hub.address, "PYTHONPATH": str(ROOT)}
        first = run_to_end(sys.executable, "-c", code, cwd=tmp_path, **own)
    again = run_to_end(sys.executable, "-c", code, cwd=tmp_path, **own)
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout, again.stderr
    names = {path.name for path in Path(first.stdout.strip()).iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors"}
