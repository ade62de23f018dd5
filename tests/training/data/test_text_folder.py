"""Folders of texts: labels from sub-folders or from a table, faults by file, and data in two parts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from sklearn.datasets import load_files

from training.data.csv_file import write_csv
from training.data.dataset import Columns
from training.data.reader import read_dataset, split_files
from training.data.text_folder import ANNOTATIONS
from training.errors import DataError, TrainingError

COLUMNS = Columns("text", "label")


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write `files`, each with its content, into `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def faults(folder: Path, columns: Columns = COLUMNS) -> list[str]:
    """Return the faults of `folder`."""
    with pytest.raises(DataError) as caught:
        read_dataset(folder, columns)
    assert str(caught.value).startswith(f"{folder}")
    return caught.value.faults


REVIEWS: dict[str, str | bytes] = {
    "pos/2_9.txt": "fine\nfilm\n",
    "pos/10_7.txt": "\ufeffgood, é",
    "neg/0_1.txt": "bad\r\n",
    "README": "not a text",
    "urls_pos.txt": "http://example.com",
    ".git/x.txt": "hidden",
    "pos/.DS_Store": b"\xff",
}


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    """Files of sub-folders are texts labelled by its name; hidden files and files beside sub-folders are ignored."""
    data = read_dataset(write(tmp_path / "data", REVIEWS), COLUMNS)
    assert data.texts == ("bad", "good, é", "fine\nfilm")
    assert (data.targets, data.labels, data.columns) == (((0,), (1,), (1,)), ("neg", "pos"), COLUMNS)
    write_csv(tmp_path / "written.csv", data)
    assert read_dataset(tmp_path / "written.csv", data.columns) == data


def test_a_folder_is_read_as_scikit_learn_reads_it(tmp_path: Path) -> None:
    """Texts and labels are those of scikit-learn's load_files."""
    folder = write(tmp_path, {f"{label}/{i}": f"{label} {i}" for label in ("b", "a", "c") for i in range(12)})
    theirs = load_files(folder, encoding="utf-8", shuffle=False)
    ours = read_dataset(folder, COLUMNS)
    assert list(ours.labels) == theirs.target_names
    ids = {text: (int(target),) for text, target in zip(theirs.data, theirs.target, strict=True)}
    assert dict(zip(ours.texts, ours.targets, strict=True)) == ids


def test_texts_without_labels_of_aclimdb_are_left_out(tmp_path: Path) -> None:
    """The sub-folder unsup is left out, unless the labels name it."""
    folder = write(tmp_path, {**REVIEWS, "unsup/1_0.txt": "who knows"})
    assert read_dataset(folder, COLUMNS).labels == ("neg", "pos")
    data = read_dataset(folder, Columns("text", "label", labels=("pos", "neg", "unsup")))
    assert data.counts() == {"pos": 2, "neg": 1, "unsup": 1}


def test_labels_given_fix_order_and_names(tmp_path: Path) -> None:
    """Given labels fix the order; one without a sub-folder has no rows, and another sub-folder is refused."""
    folder = write(tmp_path, REVIEWS)
    data = read_dataset(folder, Columns("text", labels=("pos", "neutral", "neg")))
    assert data.counts() == {"pos": 2, "neutral": 0, "neg": 1}
    columns = Columns("text", "label", labels=("pos", "bad"))
    assert faults(folder, columns) == ["the sub-folder neg is not one of the labels pos, bad"]


def test_faults_name_the_file(tmp_path: Path) -> None:
    """Empty texts and texts that are not UTF-8 are named by file, in the files' order."""
    folder = write(tmp_path, {"a/1.txt": " \n", "a/2.txt": b"caf\xe9", "a/3.txt": "a\0", "b/1.txt": "fine"})
    assert faults(folder) == [
        "a/1.txt: empty text",
        "a/2.txt: byte 0xe9 is not UTF-8; save the file as UTF-8 (it may be Latin-1)",
        "a/3.txt: holds a NUL character",
    ]


def test_empty_files_are_left_out_where_asked(tmp_path: Path) -> None:
    """With drop_empty an empty file is left out and counted."""
    folder = write(tmp_path, {"a/1.txt": "\n", "a/2.txt": "text", "b/1.txt": "fine"})
    data = read_dataset(folder, Columns("text", "label", drop_empty=True))
    assert (data.texts, data.dropped) == (("text", "fine"), 1)


def test_folders_called_by_ratings_become_two_labels(tmp_path: Path) -> None:
    """With positive_from, sub-folders with numbers as names make two labels."""
    folder = write(tmp_path, {"1/a.txt": "bad", "5/a.txt": "good", "4/a.txt": "fair"})
    data = read_dataset(folder, Columns("text", "label", positive_from=4, labels=("low", "high")))
    assert data.counts() == {"low": 1, "high": 2}


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({}, f"is a folder without labels: expected a sub-folder for each, or {ANNOTATIONS}"),
        ({"1.txt": "a"}, f"is a folder without labels: expected a sub-folder for each, or {ANNOTATIONS}"),
        ({"a/1.txt": "a", "b/c/1.txt": "b"}, "the sub-folder b holds a folder, c; expected texts alone"),
        ({"a/1.txt": "a", "b/.hidden": "b"}, "the sub-folder b has no texts"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, files: dict[str, str | bytes], fault: str) -> None:
    """A folder without labels, with folders in folders, or with a label that has no text, is refused."""
    assert faults(write(tmp_path, files)) == [fault]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (Columns("review"), "has no column 'review'; name no columns"),
        (Columns("text", "stars"), "has no column 'stars'; name no columns"),
        (Columns("text", label_columns=("a", "b")), "no label columns, no separator"),
        (Columns("text", "label", separator="|"), "no label columns, no separator"),
    ],
)
def test_columns_named_for_a_folder_are_refused(tmp_path: Path, columns: Columns, said: str) -> None:
    """A folder has one text and one label per file: other columns are refused by name."""
    with pytest.raises(TrainingError, match=said):
        read_dataset(write(tmp_path, REVIEWS), columns)


# The layout of the hate-speech data set


TABLE = "file_id,user_id,subforum_id,num_contexts,label\n1_1,7,8,0,noHate\n1_2,7,8,0,hate\n9_9,7,8,0,idk/skip\n"


@pytest.mark.parametrize("place", [f"texts/{ANNOTATIONS}", ANNOTATIONS])
def test_labels_come_from_the_table(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts side by side are labelled by the table in their folder or beside it; rows for other files are ignored."""
    write(tmp_path, {"texts/1_2.txt": "two", "texts/1_1.txt": "one", "texts/README.md": "x", place: TABLE})
    data = read_dataset(tmp_path / "texts", COLUMNS)
    assert (data.texts, data.targets, data.labels) == (("one", "two"), ((1,), (0,)), ("hate", "noHate"))
    monkeypatch.chdir(tmp_path / "texts")
    assert read_dataset(Path(), COLUMNS) == data


def test_a_text_without_a_label_is_named(tmp_path: Path) -> None:
    """A text without a row in the table is named by its file."""
    write(tmp_path, {"1_1.txt": "one", "2_2.txt": "two", "3_3.txt": "three", ANNOTATIONS: TABLE})
    assert faults(tmp_path) == [f"{name}: has no row in {ANNOTATIONS}" for name in ("2_2.txt", "3_3.txt")]


def test_faults_of_the_table_are_the_table_s(tmp_path: Path) -> None:
    """A missing column of the table and a file listed twice are named with the table."""
    write(tmp_path, {"1_1.txt": "one", ANNOTATIONS: "file_id,labels\n1_1,hate\n"})
    assert faults(tmp_path) == ["no column 'label'; the columns are 'file_id', 'labels'; did you mean 'labels'?"]
    write(tmp_path, {ANNOTATIONS: TABLE + "1_1,7,8,0,hate\n"})
    assert faults(tmp_path) == ["row 4, column 'file_id': '1_1' stands in a row above too"]


# Two parts


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (("train/pos/1.txt", "test/pos/1.txt"), ("train", "test")),
        (("sampled_train/1.txt", "sampled_test/1.txt", "all_files/1.txt", ANNOTATIONS), None),
        (("train.csv", "test.csv", "README.md"), ("train.csv", "test.csv")),
        (("train.parquet", "test.JSONL", "train.txt"), ("train.parquet", "test.JSONL")),
    ],
)
def test_two_parts_are_found(tmp_path: Path, files: tuple[str, ...], parts: tuple[str, str] | None) -> None:
    """A folder with a training and a test part, folders or files of any format, gives these two."""
    write(tmp_path, dict.fromkeys(files, "x"))
    names = parts or ("sampled_train", "sampled_test")
    assert split_files(tmp_path) == (tmp_path / names[0], tmp_path / names[1])
    assert faults(tmp_path) == [f"has two parts, {' and '.join(names)}: choose one of them"]


@pytest.mark.parametrize("files", [("pos/1.txt", "neg/1.txt"), ("train.csv",), ("train.csv", "test.txt"), ("test/a",)])
def test_one_part_is_no_two(tmp_path: Path, files: tuple[str, ...]) -> None:
    """A folder of labels, a folder with one part, a file and a missing folder do not have two parts."""
    write(tmp_path, dict.fromkeys(files, "x"))
    assert split_files(tmp_path) is None
    assert split_files(tmp_path / files[0]) is None
    assert split_files(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ("train.csv", "train.jsonl", "test.csv"),
            "has train.csv and train.jsonl and test.csv: expected one training part",
        ),
        (("train.csv", "test.csv", "test/a/1.txt"), "has train.csv and test and test.csv: expected one training part"),
        (
            ("train/1.txt", "test/1.txt", "sampled_train/1.txt", "sampled_test/1.txt"),
            "has train and test and sampled_train and sampled_test: expected one training part",
        ),
    ],
)
def test_parts_that_are_not_plain_are_refused(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    """Two training parts, or two test parts, are refused by name."""
    write(tmp_path, dict.fromkeys(files, "x"))
    with pytest.raises(DataError, match=said.replace("?", "\\?")):
        split_files(tmp_path)


def test_real_sentences_are_the_same_in_the_original_s_layout(test_data: Path, tmp_path: Path) -> None:
    """Real sentences, one per file and with the original's table, equal those of their CSVs, in two parts."""
    table = [("file_id", "user_id", "subforum_id", "num_contexts", "label")]
    given = {part: read_dataset(test_data / "hate_speech" / f"{part}.csv", COLUMNS) for part in ("train", "test")}
    for part, data in given.items():
        for i, (text, target) in enumerate(zip(data.texts, data.targets, strict=True)):
            write(tmp_path, {f"sampled_{part}/{part}_{i:05}.txt": text})
            table.append((f"{part}_{i:05}", "1", "2", "0", data.labels[target[0]]))
    with (tmp_path / ANNOTATIONS).open("w", newline="") as file:
        csv.writer(file).writerows(table)
    parts = split_files(tmp_path)
    assert parts is not None
    for part, data in zip(parts, given.values(), strict=True):
        assert read_dataset(part, COLUMNS) == data
    assert split_files(test_data / "hate_speech") == tuple(test_data / "hate_speech" / f"{part}.csv" for part in given)
