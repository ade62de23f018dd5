"""Recipes: the TOML file, the flags that override it, and the faults that are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.server import ROOT
from training.__main__ import main
from training.errors import TrainingError
from training.recipe.checks import check_recipe
from training.recipe.recipe import OPTIONS, Recipe, as_toml, make_recipe, read_recipe

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
TABLE = {"file": "data.csv", "text_column": "text", "label_column": "label", "output": "out"}


def written(folder: Path, content: str) -> Path:
    """Write a recipe and return its path."""
    path = folder / "mine.toml"
    path.write_text(content, encoding="utf-8")
    return path


def refused(folder: Path, content: str) -> str:
    """Return the error of reading a recipe, without its path."""
    path = written(folder, content)
    with pytest.raises(TrainingError) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"recipe {path}: ")
    assert "\n" not in message
    return message.removeprefix(f"recipe {path}: ")


def flags(**values: object) -> Recipe:
    """Return the recipe that flags alone make."""
    return make_recipe(Recipe(), values, Path(), "command line")


def test_the_project_has_its_recipes() -> None:
    """Each system that the project reproduces has its recipe."""
    assert {path.stem for path in RECIPES} == {
        "query_type", "hate_speech", "conference", "toxic_comments", "go_emotions", "rotten_tomatoes",
        "clothing_reviews", "sick_inference", "sick_relatedness", "trec_qa",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_read(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every recipe in recipes/ is complete, but for a CSV to be given."""
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(path)
    if not recipe.dataset:
        recipe = make_recipe(recipe, {"file": "given.csv"}, Path(), "command line")
    assert check_recipe(recipe).name == path.stem


def test_every_option_is_read_from_its_section(tmp_path: Path) -> None:
    """Each key of a recipe becomes the option of its name, in its type."""
    recipe = read_recipe(
        written(
            tmp_path,
            """
            name = "given"
            output = "some/where"
            [data]
            file = "d.csv"
            text_column = "t"
            label_column = "l"
            label_separator = "|"
            labels = ["b", "a"]
            allow_unlabelled = true
            test_share = 0.25
            [model]
            base_model = "some/hub-name"
            max_length = 99
            [training]
            epochs = 2
            batch_size = 8
            learning_rate = 3e-5
            weight_decay = 0
            warmup_ratio = 0.5
            seed = 42
            """,
        )
    )
    assert recipe == Recipe(
        name="given",
        output=Path("some/where"),
        file=tmp_path / "d.csv",
        text_column="t",
        label_column="l",
        label_separator="|",
        labels=("b", "a"),
        allow_unlabelled=True,
        test_share=0.25,
        base_model="some/hub-name",
        max_length=99,
        epochs=2.0,
        batch_size=8,
        learning_rate=3e-5,
        weight_decay=0.0,
        warmup_ratio=0.5,
        seed=42,
    )
    assert isinstance(recipe.epochs, float)
    columns = recipe.columns()
    assert (columns.text_column, columns.label_column, columns.separator) == ("t", "l", "|")
    assert (columns.labels, columns.allow_unlabelled) == (("b", "a"), True)


def test_a_recipe_without_a_name_is_called_as_its_file(tmp_path: Path) -> None:
    """Without a name a recipe has its file's name, and so has the checkpoint."""
    recipe = read_recipe(written(tmp_path, ""))
    assert recipe.name == "mine"
    assert recipe.target == Path("checkpoints/mine")


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's files and base folder are relative to it; its output is relative to the working folder."""
    folder, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    (folder / "base").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = written(
        folder,
        'output = "out"\n[data]\nfile = "../d.csv"\n[model]\nbase_model = "base"\n',
    )
    for given in (path, Path("../recipes/mine.toml")):
        recipe = read_recipe(given)
        assert recipe.file is not None
        assert recipe.file.resolve() == tmp_path / "d.csv"
        assert Path(recipe.base_model).resolve() == folder / "base"
        assert recipe.output == Path("out")
    assert read_recipe(written(folder, '[data]\nfile = "/abs/d.csv"\n')).file == Path("/abs/d.csv")
    assert read_recipe(written(folder, '[model]\nbase_model = "no/folder"\n')).base_model == "no/folder"


def test_paths_in_flags_are_relative_to_the_command(tmp_path: Path) -> None:
    """A path in a flag is relative to the working folder."""
    recipe = make_recipe(read_recipe(written(tmp_path, "")), {"file": "d.csv"}, Path(), "command line")
    assert recipe.file == Path("d.csv")


def test_flags_win_over_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag overrides the recipe; other options stay the recipe's."""
    path = written(tmp_path, '[data]\ntext_column = "t"\nlabel_column = "l"\n[training]\nepochs = 0\nseed = -1\n')
    out = ["--output", str(tmp_path / "out")]
    assert main(["--config", str(path), "--data", str(tmp_path / "none.csv"), *out]) == 2
    assert capsys.readouterr().err == "training: epochs is 0.0, expected 0.001 to 10000\n"
    assert main(["--config", str(path), "--data", str(tmp_path / "none.csv"), "--epochs", "1", *out]) == 2
    assert capsys.readouterr().err == "training: seed is -1, expected 0 to 4294967295\n"
    given = ["--config", str(path), "--data", str(tmp_path / "none.csv"), "--epochs", "1", "--seed", "1", *out]
    assert main(given) == 2
    assert capsys.readouterr().err == f"training: {tmp_path / 'none.csv'}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[training]\nepoch = 1\n", "unknown key in [training] 'epoch'; did you mean 'epochs'?"),
        (
            "[model]\nepochs = 1\n",
            "unknown key in [model] 'epochs'; known: base_model, layers, max_length, truncation, head, head_sizes, "
            "head_embedding, head_layers, head_dropout, freeze, threshold",
        ),
        ("[trainig]\nepochs = 1\n", "unknown section 'trainig'; did you mean 'training'?"),
        ("[xyz]\n", "unknown section 'xyz'; known: data, model, training"),
        ("ouput = 'a'\n", "unknown key 'ouput'; did you mean 'output'?"),
        ("epochs = 1\n", "unknown key 'epochs'; known: name, output"),
        ("data = 3\n", "unknown key 'data'; known: name, output"),
    ],
)
def test_an_unknown_key_or_section_is_named_with_the_nearest(tmp_path: Path, content: str, message: str) -> None:
    """An unknown key or section is named with the most similar one, or with all of them."""
    assert refused(tmp_path, content) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[training]\nepochs = '3'\n", "epochs is '3', expected a number"),
        ("[training]\nepochs = true\n", "epochs is True, expected a number"),
        ("[training]\nseed = 1.0\n", "seed is 1.0, expected a whole number"),
        ("[training]\nbatch_size = true\n", "batch_size is True, expected a whole number"),
        ("[data]\nallow_unlabelled = 1\n", "allow_unlabelled is 1, expected true or false"),
        ("[data]\ntext_column = 1\n", "text_column is 1, expected a non-empty string"),
        ("[data]\nlabel_separator = ''\n", "label_separator is '', expected a non-empty string"),
        ("[data]\nlabels = 'a,b'\n", "labels is 'a,b', expected a list of names"),
        ("[data]\nlabels = []\n", "labels is [], expected a list of names"),
        ("[data]\nlabels = ['a', 1]\n", "labels is ['a', 1], expected a list of names"),
        ("[data]\nlabel_columns = ['a', '']\n", "label_columns is ['a', ''], expected a list of names"),
        ("[data]\nfile = ''\n", "file is '', expected a path"),
        ("output = 3\n", "output is 3, expected a path"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(tmp_path: Path, content: str, message: str) -> None:
    """A value of the wrong type is named with the value and the expected type."""
    assert refused(tmp_path, content) == message


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """A recipe that is not TOML, not UTF-8, missing or a folder is refused in a line that names it."""
    assert refused(tmp_path, "epochs: 3\n").startswith("is not TOML: ")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    for name, reason in (
        ("latin.toml", "is not TOML: "),
        ("none.toml", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
    ):
        with pytest.raises(TrainingError) as caught:
            read_recipe(tmp_path / name)
        assert str(caught.value).startswith(f"recipe {tmp_path / name}: {reason}")


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("file", "--data is missing: the file or folder to train on"),
        ("text_column", "--text-column is missing: the column with the texts"),
        ("label_column", "give either --label-column, or --label-columns for one 0/1 column per label"),
        ("output", "--output is missing: the folder to write the checkpoint to"),
    ],
)
def test_a_missing_flag_is_named(left_out: str, message: str) -> None:
    """A missing option of a run by flags alone is named by its flag."""
    check_recipe(flags(**TABLE))
    with pytest.raises(TrainingError) as caught:
        check_recipe(flags(**{name: value for name, value in TABLE.items() if name != left_out}))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_columns": ["a", "b"]}, "give either --label-column, or --label-columns"),
        ({"label_column": None, "label_columns": ["a", "a"]}, "--label-columns name a column twice: a,a"),
        (
            {"label_column": None, "label_columns": ["a", "b"], "label_separator": "|"},
            "--label-columns name the labels themselves",
        ),
        (
            {"label_column": None, "label_columns": ["a", "b"], "labels": ["a", "b"]},
            "--label-columns name the labels themselves",
        ),
        ({"labels": ["a", "b", "a"]}, "labels name one twice: a,b,a"),
        ({"allow_unlabelled": True}, "--allow-unlabelled is for multi-label data with --label-separator"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(values: dict[str, object], message: str) -> None:
    """Options that contradict each other are refused by name."""
    given = {name: value for name, value in {**TABLE, **values}.items() if value is not None}
    with pytest.raises(TrainingError) as caught:
        check_recipe(flags(**given))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "lowest", "highest", "below", "above"),
    [
        ("test_share", 0.01, 0.9, 0.0, 1.0),
        ("max_length", 3, 100_000, 2, 100_001),
        ("epochs", 0.001, 10_000, 0, float("inf")),
        ("batch_size", 1, 100_000, 0, 100_001),
        ("learning_rate", 1e-9, 10, 0.0, float("nan")),
        ("weight_decay", 0, 10, -0.1, 11),
        ("warmup_ratio", 0, 1, -0.1, 1.1),
        ("seed", 0, 2**32 - 1, -1, 2**32),
    ],
)
def test_a_number_out_of_range_is_named(name: str, lowest: float, highest: float, below: float, above: float) -> None:
    """A number outside its range is named with the range, which includes its ends."""
    for value in (lowest, highest):
        assert getattr(check_recipe(flags(**TABLE, **{name: value})), name) == value
    for value in (below, above):
        with pytest.raises(TrainingError, match=rf"^{name} is {value}\S*, expected \S+ to [0-9.]+$"):
            check_recipe(flags(**TABLE, **{name: value}))


def test_the_resolved_recipe_is_plain_data() -> None:
    """The recipe beside a checkpoint has every option, with paths as text."""
    recorded = flags(**TABLE, labels=["a", "b"]).as_dict()
    assert recorded["file"] == "data.csv"
    assert recorded["output"] == "out"
    assert recorded["labels"] == ["a", "b"]
    assert recorded["seed"] == 0
    assert set(recorded) == set(Recipe.__dataclass_fields__)


def test_names_in_flags_are_split_at_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--label-columns takes names separated by commas and spaces; an empty name is refused."""
    path = tmp_path / "d.csv"
    path.write_text("text,a\nx,1\n")
    given = ["--data", str(path), "--text-column", "text", "--output", str(tmp_path / "out")]
    assert main([*given, "--label-columns", " a , b c "]) == 2
    assert capsys.readouterr().err == f"training: {path}: no column 'b c'; the columns are 'text', 'a'\n"
    assert main([*given, "--label-columns", "a,,b"]) == 2
    assert capsys.readouterr().err == (
        "training: command line: label_columns is ['a', '', 'b'], expected a list of names\n"
    )


@pytest.mark.parametrize("share", [-0.1, 0.005, 0.76, 1.0])
def test_a_calibration_share_that_leaves_no_room_is_refused(share: float) -> None:
    """The calibration share must leave rows to train on beside the test share; 0, the default, means none."""
    recipe = Recipe(name="x", file=Path("x.csv"), text_column="text", label_column="label")
    assert check_recipe(recipe).calibration_share == 0
    with pytest.raises(TrainingError, match=f"calibration_share is {share:g}, expected 0, or 0.01 to 0.75 beside"):
        check_recipe(replace(recipe, calibration_share=share))


def test_a_resolved_recipe_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A written recipe reads back the same from any folder."""
    monkeypatch.chdir(tmp_path)
    odd = flags(
        **TABLE, name="odd", labels=["b", 'a "q"'], class_weights={"b": 2, 'a "q"': 0.5}, freeze=2, head="mlp",
        head_sizes=[3, 4], truncation="head_tail", early_stopping=2, validation_share=0.1, drop_empty=True,
        positive_from=4,
    )  # fmt: skip
    for recipe in (odd, *(read_recipe(path) for path in RECIPES)):
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        again = read_recipe(written(folder, as_toml(recipe)))
        for name in OPTIONS:
            before, after = getattr(recipe, name), getattr(again, name)
            if isinstance(before, Path):
                before = before.absolute()
            assert after == before, name


def test_every_option_has_a_flag_or_none_on_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option but the name and two for comparisons can be given as a flag, and -h shows it."""
    with pytest.raises(SystemExit):
        main(["-h"])
    shown = capsys.readouterr().out
    without = {name for name, one in OPTIONS.items() if one.metavar is None}
    assert without == {"name", "group_by_length", "pad_to_max_length"}
    for name, one in OPTIONS.items():
        assert (one.flag or "--" + name.replace("_", "-")) in shown or name in without


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze": "encoder", "head_first_epochs": 1}, "head_first_epochs precedes training all weights, freeze"),
        ({"head_first_epochs": 3, "epochs": 3.0}, "head_first_epochs is 3, expected fewer than epochs (3)"),
        ({"head_sizes": [10]}, 'head_sizes is for head "mlp"; head is "stock"'),
        ({"head_layers": 2, "head": "mlp"}, 'head_layers is for head "token"; head is "mlp"'),
        ({"early_stopping": 1}, "early_stopping chooses an epoch on rows that are not held out: give validation_share"),
        ({"keep_best": True}, "keep_best chooses an epoch on rows that are not held out: give validation_share"),
        (
            {"validation_share": 0.1, "early_stopping": 0, "keep_best": False},
            "validation_share is 0.1, but nothing uses it",
        ),
        ({"validation_share": 0.8, "keep_best": True}, "validation_share is 0.8, expected 0, or 0.01 to 0.75 beside"),
        (
            {"validation_share": 0.4, "keep_best": True, "calibration_share": 0.4},
            "test_share, validation_share and calibration_share are 1 together, expected at most 0.95",
        ),
        ({"threshold": 0.3}, "threshold is for multi-label data"),
        ({"pos_weight": "balanced"}, "pos_weight is for multi-label data"),
        ({"label_separator": "|", "class_weights": "balanced"}, "class_weights is for single-label data"),
        ({"label_separator": "|", "threshold": "best"}, 'threshold "best" is chosen on rows that are not held out'),
        ({"positive_from": 4, "label_separator": "|"}, "--positive-from makes two labels of one number"),
        ({"positive_from": 4, "labels": ["a", "b", "c"]}, "--positive-from makes two labels; labels name 3"),
        ({"file": None, "dataset": "x", "test_file": "t.csv"}, "--test-data goes with --data"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, object], message: str) -> None:
    """An option that contradicts another is refused with both names."""
    values = {name: value for name, value in {**TABLE, **given}.items() if value is not None}
    with pytest.raises(TrainingError) as caught:
        check_recipe(flags(**values))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("freeze", "all", "freeze is 'all', expected a whole number or 'encoder'"),
        ("threshold", "good", "threshold is 'good', expected a number or 'best'"),
        ("head", "big", "head is 'big', expected 'stock' or 'mlp' or 'mean' or 'token'"),
        ("head_sizes", [0], "head_sizes is [0], expected a list of whole numbers from 1 to 65536"),
        (
            "class_weights",
            {"a": 0},
            "class_weights is {'a': 0}, expected 'balanced' or a table of label = number above 0",
        ),
        ("class_weights", "even", "class_weights is 'even', expected 'balanced' or a table of label = number above 0"),
        ("report_to", ["wandb", "tb"], "report_to is ['wandb', 'tb'], expected names among tensorboard, mlflow, wandb"),
        ("precision", "fp16", "precision is 'fp16', expected 'auto' or 'fp32' or 'bf16'"),
    ],
)
def test_a_word_that_is_not_allowed_is_named(name: str, value: object, message: str) -> None:
    """A wrong word for an option is refused with the allowed words."""
    with pytest.raises(TrainingError) as caught:
        flags(**{name: value})
    assert str(caught.value) == f"command line: {message}"


def test_the_help_names_the_values_of_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`-h` has the words of each option with choices, and beside a number the words that stand for one."""
    with pytest.raises(SystemExit):
        main(["-h"])
    said = capsys.readouterr().out
    assert "--report-to tensorboard,mlflow,wandb" in said
    for name, one in OPTIONS.items():
        if one.kind == "names":
            continue
        words = "{" + ",".join(one.choices) + "}" if one.kind == "text" else f"|{'|'.join(one.choices)}"
        assert (
            not one.choices or f"--{name.replace('_', '-')} {'' if one.kind == 'text' else one.metavar}{words}" in said
        )
    for line in ("--head {stock,mlp,mean,token}", "--precision {auto,fp32,bf16}", "--freeze N|encoder", "--epochs X"):
        assert f"  {line}" in said
    assert "--class-weights balanced|LABEL=X,…" in said


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--head=big", "head is 'big', expected 'stock' or 'mlp' or 'mean' or 'token'"),
        ("--freeze=all", "freeze is 'all', expected a whole number or 'encoder'"),
        ("--threshold=good", "threshold is 'good', expected a number or 'best'"),
    ],
)
def test_a_wrong_word_in_a_flag_is_one_line(flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word in a flag ends the command with 2 and one line that has the words allowed."""
    assert main([flag]) == 2
    assert capsys.readouterr().err == f"training: command line: {message}\n"


def test_weights_in_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--class-weights takes "balanced" or label=weight pairs separated by commas; anything else exits with 2."""
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "x,a\ny,b\n" * 5)
    given = ["--data", str(path), "--text-column", "text", "--label-column", "label", "--output", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as caught:
        main([*given, "--class-weights", "a=much"])
    assert caught.value.code == 2
    assert "argument --class-weights: invalid weights value: 'a=much'" in capsys.readouterr().err
    assert main([*given, "--class-weights", "a=1,b=2", "--threshold", "0.3"]) == 2
    assert "threshold is for multi-label data" in capsys.readouterr().err


def test_addresses_are_kept_without_their_keys() -> None:
    """An address keeps both slashes; its record has no user, password or query."""
    recipe = flags(**{**TABLE, "file": "https://me:pw@host/d.csv?sig=secret"})
    assert recipe.file == "https://me:pw@host/d.csv?sig=secret"
    assert recipe.as_dict()["file"] == "https://host/d.csv"
    assert "secret" not in as_toml(recipe)
