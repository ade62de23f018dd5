"""The user's own texts: columns, labels and cuts, and one line for every mistake before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import architectures
from tests.support.architectures import LABELS, LONG_TEXT, run_export, write_json
from tests.support.eval_texts import write_rows

MULTI = "multi_label_classification"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint folder; not to be changed."""
    return architectures.checkpoint(tmp_path_factory, "bert")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A CSV with three labelled texts and a column of 0 and 1 for each of the model's labels."""
    rows = [("ok", "brand", 0, 1, 0), ("the dog", "other", 0, 0, 1), ("best money", "retailer", 1, 0, 0)]
    return write_rows(tmp_path / "good.csv", ("text", "label", *LABELS), rows)


@pytest.fixture
def refusal(tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that exports, checks that nothing was written, and returns the message after the progress bar."""

    def refuse(*options: object, checkpoint: Path = bert) -> str:
        return architectures.refusal(checkpoint, tmp_path / "refused", capsys, *options)

    return refuse


# Flags that do not go together


@pytest.mark.parametrize("flag", ["--max-accuracy-drop", "--min-agreement"])
def test_a_limit_needs_eval(refusal: Callable[..., str], flag: str) -> None:
    """A limit without --eval is refused by name."""
    assert refusal(flag, 60) == f"export: {flag} needs --eval FILE.csv, the texts to measure int8 on"


@pytest.mark.parametrize(
    "options",
    [
        ("--label-column", "label"),
        ("--text-column", "text"),
        ("--label-columns", "a,b"),
        ("--allow-unlabelled",),
    ],
)
def test_a_column_needs_a_file(refusal: Callable[..., str], options: tuple[str, ...]) -> None:
    """A column without --eval and without --calibrate is refused by name."""
    said = f"{options[0]} names a column, so it needs --eval FILE.csv or --calibrate FILE.csv"
    assert refusal(*options) == f"export: {said}"


def test_an_accuracy_drop_without_labels_is_refused(refusal: Callable[..., str], good: Path) -> None:
    """--max-accuracy-drop on texts without labels is refused with the flags that name them."""
    line = refusal("--eval", good, "--max-accuracy-drop", 1)
    assert "--max-accuracy-drop needs labels: name their column with --label-column" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-agreement", "0.99"), "--min-agreement is 0.99, expected 50 to 100 percent (99 means 99 %, not 0.99)"),
        (("--label-column", "label", "--max-accuracy-drop", "-1"), "--max-accuracy-drop is -1, expected 0 to 50"),
        (("--label-column", "label", "--max-accuracy-drop", "nan"), "--max-accuracy-drop is nan, expected 0 to 50"),
        (("--scheme", "fp32"), "--eval compares int8 with fp32, and --scheme fp32 makes no int8"),
        (("--label-column", "label", "--label-columns", "brand"), "give either --label-column, or --label-columns"),
        (("--label-separator", "|"), "--label-separator needs --label-column"),
        (("--label-columns", ","), "--label-columns is ',', expected a name"),
        (("--label-column", "label", "--allow-unlabelled"), "--allow-unlabelled is for multi-label data"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    refusal: Callable[..., str], good: Path, options: tuple[str, ...], said: str
) -> None:
    """A limit out of its range and flags that contradict each other are refused with the allowed values."""
    assert said in refusal("--eval", good, *options)


def test_a_limit_that_is_no_number_is_a_usage_error(bert: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--min-agreement with a word ends with exit code 2 and names the word."""
    with pytest.raises(SystemExit, match="2"):
        run_export(bert, "nowhere", "--eval", good, "--min-agreement", "high")
    assert "argument --min-agreement: invalid float value: 'high'" in capsys.readouterr().err


# Faults of the file


def test_a_file_that_is_not_there_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    """A mistyped path is refused with the system's reason."""
    assert refusal("--eval", tmp_path / "no.csv").endswith("no.csv: cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Text,label\na,brand\n", "no column 'text'; the columns are 'Text', 'label'; did you mean 'Text'?"),
        ("text,label\nok,brand\n ,other\n", "row 2 (line 3), column 'text': empty text"),
    ],
)
def test_a_bad_file_is_refused_before_torch_is_needed(
    refusal: Callable[..., str], tmp_path: Path, content: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the file gives training's message, before the checkpoint is read."""
    (tmp_path / "bad.csv").write_text(content, encoding="utf-8")
    monkeypatch.setattr("export.pipeline.load_checkpoint", lambda *_: pytest.fail("the checkpoint was read"))
    assert said in refusal("--eval", tmp_path / "bad.csv", "--label-column", "label")


def test_a_label_that_the_model_does_not_know_is_named_with_its_row(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    """A label that the model does not have is refused with its row and a list of the model's labels."""
    file = write_rows(tmp_path / "odd.csv", ("text", "label"), [("ok", "brand"), ("fox", "Brand"), ("dog", "shop")])
    said = refusal("--eval", file, "--label-column", "label")
    assert "odd.csv: 2 faults:" in said
    assert "row 2 (line 3), column 'label': label 'Brand' is not one of retailer, brand, other" in said
    assert "row 3 (line 4), column 'label': label 'shop'" in said


def test_a_text_that_the_tokenizer_drops_is_named_with_its_row(refusal: Callable[..., str], tmp_path: Path) -> None:
    """A text of characters that the tokenizer keeps none of is refused with its row."""
    file = write_rows(tmp_path / "odd.csv", ("text",), [("ok",), ("\u200b",)])
    assert "row 2, column 'text': the text is empty: the tokenizer keeps none of its characters" in refusal(
        "--eval", file
    )


# Other formats than CSV


ROWS = [{"text": "ok", "label": "brand"}, {"text": "dog", "label": "shop"}]
FORMATS = {
    "odd.tsv": "text\tlabel\nok\tbrand\ndog\tshop\n",
    "odd.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("flag", ["--eval", "--calibrate"])
def test_files_of_other_formats_are_read(refusal: Callable[..., str], tmp_path: Path, name: str, flag: str) -> None:
    """--eval and --calibrate read TSV and JSON Lines by the file's ending, and name faults by their lines."""
    (tmp_path / name).write_text(FORMATS[name])
    line = 3 if name == "odd.tsv" else 2
    assert f"{name}: row 2 (line {line}), column 'label': label 'shop' is not one of" in refusal(
        flag, tmp_path / name, "--label-column", "label"
    )


def test_an_address_is_read(refusal: Callable[..., str], tmp_path: Path) -> None:
    """--eval takes an address, and one that is not there is told as training tells it."""
    address = f"file://{tmp_path}/none.parquet"
    assert refusal("--eval", address) == f"export: {address}: cannot be read: the file does not exist"


def test_a_file_in_another_encoding_is_read(refusal: Callable[..., str], tmp_path: Path) -> None:
    """--encoding is that of the file of --eval and --calibrate; without one of them it is refused."""
    (tmp_path / "a.csv").write_bytes("text,label\nok,café\n".encode("cp1252"))
    for flag in ("--eval", "--calibrate"):
        line = refusal(flag, tmp_path / "a.csv", "--label-column", "label", "--encoding", "cp1252")
        assert "row 1 (line 2), column 'label': label 'café' is not one of" in line
    assert refusal("--encoding", "cp1252").startswith("export: --encoding is that of a file, so it needs --eval")


def test_a_file_of_another_ending_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    """An unknown ending is refused with the known ones."""
    (tmp_path / "a.docx").write_bytes(b"PK")
    line = refusal("--eval", tmp_path / "a.docx")
    assert line.endswith("has the ending .docx, expected .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .xlsx")


def test_lists_of_labels_for_a_single_label_model_are_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    """A label column of lists is multi-label, which a single-label model is not."""
    (tmp_path / "lists.jsonl").write_text('{"text": "ok", "label": ["brand", "other"]}\n')
    line = refusal("--eval", tmp_path / "lists.jsonl", "--label-column", "label")
    assert line == "export: the model is single-label: give --label-column alone, one label per row"


@pytest.mark.slow
def test_parquet_with_lists_of_labels_is_measured_on(
    tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A multi-label model is measured on Parquet with lists of labels, without a separator."""
    rows = [{"text": text, "label": labels} for text, labels in (("ok", ["brand", "other"]), ("the dog", ["other"]))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "lists.parquet")
    arguments = ("--eval", tmp_path / "lists.parquet", "--label-column", "label", "--problem-type", MULTI)
    assert run_export(bert, tmp_path / "bundle", *arguments) == 0, capsys.readouterr().err
    assert "lists.parquet: texts from column 'text', labels from column 'label'" in capsys.readouterr().err


# Labels of another kind than the model's


def test_several_labels_for_a_single_label_model_are_refused(refusal: Callable[..., str], good: Path) -> None:
    """0/1 columns for a single-label model are refused with the flag to use."""
    line = refusal("--eval", good, "--label-columns", ",".join(LABELS))
    assert line == "export: the model is single-label: give --label-column alone, one label per row"


def test_one_label_for_a_multi_label_model_is_refused(refusal: Callable[..., str], good: Path) -> None:
    """One label a row for a multi-label model is refused, with the flags that say several."""
    line = refusal("--eval", good, "--label-column", "label", "--problem-type", MULTI)
    # the checkpoint says single-label; the flag wins
    assert "the model is multi-label: give --label-column with --label-separator" in line


def test_label_columns_that_are_not_the_models_labels_are_refused(refusal: Callable[..., str], good: Path) -> None:
    """A 0/1 column without a label of the model is named, and so is each label without a column."""
    renamed = good.with_name("renamed.csv")
    renamed.write_text(good.read_text().replace("retailer,brand,other", "retailer,marca,other"))
    said = refusal("--eval", renamed, "--label-columns", "retailer,marca", "--problem-type", MULTI)
    assert "column 'marca' is not a label of the model; its labels are retailer, brand, other" in said
    assert "--label-columns lack the model's label 'brand'" in said
    assert "--label-columns lack the model's label 'other'" in said


# What is read as what


@pytest.mark.slow
def test_a_label_column_is_read_only_when_it_is_named(
    tmp_path: Path, bert: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --label-column the texts are unlabelled, whatever columns there are, and the screen says so."""
    assert run_export(bert, tmp_path / "bundle", "--eval", good) == 0
    said = capsys.readouterr().err
    assert "good.csv: texts from column 'text', no labels" in said
    assert "for accuracy, name the column of the labels: --label-column NAME" in said
    assert "accuracy of" not in said


@pytest.mark.slow
@pytest.mark.parametrize(("truncation", "cut", "left_out"), [("head", 1, 0), ("error", 0, 1)])
def test_long_texts_are_counted(
    tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str], truncation: str, cut: int, left_out: int
) -> None:
    """A text that is too long is cut, or left out where the bundle would refuse it, and counted either way."""
    file = write_rows(tmp_path / "long.csv", ("text",), [("ok",), (LONG_TEXT,), ("the dog",)])
    assert run_export(bert, tmp_path / "bundle", "--eval", file, "--truncation", truncation) == 0
    said = capsys.readouterr().err
    assert ("1 of 3 texts are longer than max_length: only their beginning was" in said) == bool(cut)
    assert ("1 of 3 rows are too long for truncation 'error': left out" in said) == bool(left_out)
    assert f"against fp32 on {3 - left_out} of your texts" in said


def test_a_file_of_long_texts_alone_is_refused_where_the_bundle_would_refuse_them(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    """With --truncation error, a file that has no text short enough is refused."""
    file = write_rows(tmp_path / "long.csv", ("text",), [(LONG_TEXT,)])
    line = refusal("--eval", file, "--truncation", "error")
    assert line.endswith("every text has more than 64 tokens, which truncation 'error' refuses")


@pytest.mark.slow
def test_labels_given_by_config_are_the_ones_that_the_file_may_have(tmp_path: Path, bert: Path, good: Path) -> None:
    """A file is read with the names that --config gives the labels, not with the checkpoint's."""
    config = write_json(tmp_path / "config.json", {"labels": ["x", "y", "z"]})
    arguments = ("--eval", good, "--label-column", "label", "--config", config)
    assert run_export(bert, tmp_path / "bundle", *arguments) == 2
    good.write_text("text,label\nok,x\nfox,z\n")
    assert run_export(bert, tmp_path / "bundle", *arguments) == 0
