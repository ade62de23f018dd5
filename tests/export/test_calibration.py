"""Exports with --calibrate, --tune-thresholds and --abstain-below: results, refusals and rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export.pipeline
import export.scores.rule_fitter
from export.predictions import TextReader, compute_logits
from export.scores.calibration_rows import split_rows
from export.scores.rule_fitter import FitError, RuleFitter, fit_temperature
from inferer import ModelInferer
from inferer.tokens.encoding import Encoder
from tests.support import architectures
from tests.support.architectures import LABELS, LONG_TEXT, TEXTS, run_export, write_json
from tests.support.eval_texts import texts, with_outlier_embedding, write_rows

MULTI = "multi_label_classification"
ROWS = 500
LABELLED = ("--label-column", "label")


def manifest(bundle: Path) -> dict[str, Any]:
    """Return a bundle's manifest."""
    return dict(json.loads((bundle / "inferer.json").read_text(encoding="utf-8")))


def single_rows(checkpoint: Path, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return texts with labels drawn at a temperature of 0.4: the checkpoint is right more often than it says."""
    listed = texts(count, seed)
    logits = architectures.torch_logits(checkpoint, listed) / 0.4
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return [(text, LABELS[i]) for text, i in zip(listed, (logits + noise).argmax(axis=1), strict=True)]


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the scores of one text's logits at a temperature."""
    exp = np.exp((logits - logits.max()).astype(float) / temperature)
    return exp / exp.sum()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint folder; not to be changed."""
    return architectures.checkpoint(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def rows(bert: Path) -> list[tuple[str, str]]:
    """Texts with labels that the checkpoint is right about more often than its scores say."""
    return single_rows(bert, ROWS)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> Path:
    """Those rows as a CSV."""
    return write_rows(tmp_path_factory.mktemp("rows") / "own.csv", ("text", "label"), rows)


@pytest.fixture
def refusal(tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that exports, checks that nothing was written, and returns the message after the progress bar."""

    def refuse(*options: object, checkpoint: Path = bert) -> str:
        return architectures.refusal(checkpoint, tmp_path / "refused", capsys, *options)

    return refuse


@pytest.fixture
def early(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The same, for refusals before the checkpoint is converted."""
    monkeypatch.setattr("export.pipeline.to_onnx", lambda *_: pytest.fail("the checkpoint was converted"))
    return refusal


# Refusals: flags


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tune-thresholds", "f1"), "--tune-thresholds needs --calibrate FILE.csv"),
        (("--tune-thresholds", "recall"), "--tune-thresholds is 'recall', expected f1 or precision=P"),
        (
            ("--tune-thresholds", "precision=90"),
            "--tune-thresholds is 'precision=90', expected a share above 0, at most",
        ),
        (("--tune-thresholds", "precision=x"), "(precision=0.9 means 90 %)"),
        (("--abstain-below", "accuracy=0.95"), "--abstain-below accuracy=0.95 needs --calibrate FILE.csv"),
        (("--abstain-below", "accuracy=0"), "--abstain-below is 'accuracy=0', expected a share above 0"),
        (("--abstain-below", "1.5"), "--abstain-below is '1.5', expected a score 0 to 1, or accuracy=A"),
        (("--abstain-below", "nan"), "--abstain-below is 'nan', expected a score 0 to 1"),
        (("--abstain-below", "often"), "--abstain-below is 'often', expected a score 0 to 1"),
        (("--calibrate", "own.csv"), "--calibrate needs labels: name their column with --label-column"),
        (("--calibrate", "", *LABELLED), "--calibrate is '', expected the path or the address of a file"),
        (("--eval", "."), "--eval is '.', expected the path or the address of a file"),
        (("--calibrate", "no.csv", *LABELLED), "no.csv: cannot be read: No such file or directory"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    """A flag that lacks another, or has a value out of its range, is refused by name before the checkpoint is read."""
    monkeypatch.setattr("export.pipeline.load_checkpoint", lambda *_: pytest.fail("the checkpoint was read"))
    assert said in refusal(*options)


def test_options_of_the_other_problem_type_are_refused(early: Callable[..., str], file: Path) -> None:
    """Thresholds are not tuned for single-label, and multi-label does not abstain: each is refused by name."""
    calibrated = ("--calibrate", file, *LABELLED)
    assert "--tune-thresholds is for multi-label; the model is single-label" in early(
        *calibrated, "--tune-thresholds", "f1"
    )
    multi = ("--problem-type", MULTI, "--abstain-below", 0.5)
    assert "--abstain-below is for single-label; the model is multi-label" in early(*multi)


def test_fp32_has_no_limits_to_hold(early: Callable[..., str], file: Path) -> None:
    """With --scheme fp32, --eval may carry the report of a calibration, but limits on int8 are refused."""
    options = ("--calibrate", file, *LABELLED, "--scheme", "fp32", "--eval", file, "--min-agreement", 99)
    assert "--min-agreement compares int8 with fp32, and --scheme fp32 makes no int8" in early(*options)


def test_an_overlap_that_no_window_has_room_for_is_refused(
    early: Callable[..., str], bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An overlap of more than half a window is refused with the allowed maximum; less than 0 is a usage error."""
    assert early("--window-overlap", 32) == (
        "export: --window-overlap is 32, expected 0 to 31 tokens: half of the text in a window of 64"
    )
    with pytest.raises(SystemExit, match="2"):
        run_export(bert, "nowhere", "--window-overlap", "-1")
    assert "--window-overlap" in capsys.readouterr().err


# Refusals: rows


def test_a_text_in_both_files_is_refused(
    early: Callable[..., str], tmp_path: Path, rows: list[tuple[str, str]], file: Path
) -> None:
    """Texts of --calibrate that the model reads as texts of --eval are counted; the first is shown with its row."""
    shared = [(f"  {rows[7][0].upper()} ", "other"), rows[9], rows[7]]
    other = write_rows(
        tmp_path / "other.csv", ("text", "label"), [*[(f"box {i}", "brand") for i in range(200)], *shared]
    )
    said = early("--calibrate", file, *LABELLED, "--eval", other)
    assert "2 texts are in --calibrate own.csv and in --eval other.csv, the first in row 8 (--eval: row 203): " in said
    assert f": '{rows[7][0]}'; figures on fitted rows would flatter" in said


def test_the_same_file_twice_is_refused(early: Callable[..., str], file: Path) -> None:
    """A file is not fitted on and reported on at once."""
    assert f"{ROWS} texts are in --calibrate own.csv and in --eval own.csv" in early(
        "--calibrate", file, *LABELLED, "--eval", file
    )


@pytest.mark.parametrize(("calibrate", "evaluated", "said"), [
    (199, 0, "--calibrate few.csv has 199 rows, 100 to fit on and 99 held back to report on; at least 100 of each are"),
    (99, 100, "--calibrate few.csv has 99 rows to fit on, at least 100 are needed"),
    (100, 99, "--eval other.csv has 99 rows to report the calibration on, at least 100 are needed"),
])  # fmt: skip
def test_too_few_rows_are_refused(
    early: Callable[..., str], tmp_path: Path, rows: list[tuple[str, str]], calibrate: int, evaluated: int, said: str
) -> None:
    """Fewer than 100 rows to fit on or to report on are refused, with how many there are and how many it takes."""
    few = write_rows(tmp_path / "few.csv", ("text", "label"), rows[:calibrate])
    options: list[object] = ["--calibrate", few, *LABELLED]
    if evaluated:
        other = write_rows(tmp_path / "other.csv", ("text", "label"), rows[calibrate : calibrate + evaluated])
        options += ["--eval", other]
    assert said in early(*options)


def test_one_text_many_times_is_not_many_rows(early: Callable[..., str], tmp_path: Path) -> None:
    """A file of 300 rows with two texts is refused: each text is on one side whole, and the sides are of one text."""
    file = write_rows(tmp_path / "two.csv", ("text", "label"), [("the fox", "brand")] * 290 + [("a dog", "other")] * 10)
    assert "--calibrate two.csv has 300 rows, " in early("--calibrate", file, *LABELLED)


def test_rows_of_one_label_are_refused(early: Callable[..., str], tmp_path: Path) -> None:
    """Rows that are all labelled alike are refused, with the label."""
    file = write_rows(tmp_path / "one.csv", ("text", "label"), [(text, "brand") for text in texts(220)])
    assert "--calibrate one.csv: all 110 rows to fit on are labelled 'brand'; a temperature needs rows of" in early(
        "--calibrate", file, *LABELLED
    )


def test_labels_that_no_row_has_often_enough_are_refused(early: Callable[..., str], tmp_path: Path) -> None:
    """A multi-label file in which no label is on 10 fitted texts is refused."""
    flags = [(text, *(int(i % 40 == column) for column in range(3))) for i, text in enumerate(texts(220))]
    file = write_rows(tmp_path / "rare.csv", ("text", *LABELS), flags)
    options = ("--problem-type", MULTI, "--calibrate", file, "--label-columns", ",".join(LABELS))
    assert "--calibrate rare.csv: no label has 10 rows with it and 10 without it among the 110 to fit on" in early(
        *options
    )


@pytest.mark.slow
def test_rows_that_are_all_right_are_refused(refusal: Callable[..., str], tmp_path: Path, bert: Path) -> None:
    """Rows with the labels that the model itself gives end the export: every score would be 1."""
    listed = texts(240)
    best = architectures.torch_logits(bert, listed).argmax(axis=1)
    own = [(text, LABELS[i]) for text, i in zip(listed, best, strict=True)]
    file = write_rows(tmp_path / "right.csv", ("text", "label"), own)
    assert "fitted rows right, from which every score would be 1" in refusal(
        "--calibrate", file, *LABELLED, "--scheme", "fp32"
    )


# Single-label


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, bert: Path, file: Path) -> Path:
    """A bundle calibrated on half of the file, that abstains."""
    bundle = tmp_path_factory.mktemp("calibrated") / "bundle"
    options = ("--calibrate", file, *LABELLED, "--abstain-below", "accuracy=0.9", "--keep-fp32")
    assert run_export(bert, bundle, *options) == 0
    return bundle


@pytest.mark.slow
def test_the_temperature_is_fitted_on_half_of_what_int8_answers(
    calibrated: Path, rows: list[tuple[str, str]], file: Path
) -> None:
    """The manifest's temperature is that of int8's own logits on the fitted half, near the 0.4 that drew the labels."""
    truth = np.array([[label == name for name in LABELS] for _, label in rows])
    fitted, reported = split_rows(tuple(text for text, _ in rows), truth)
    model = ModelInferer(calibrated)
    logits = np.stack([model.logits(rows[i][0]) for i in fitted])
    found = manifest(calibrated)
    assert found["temperature"] == fit_temperature(logits, truth[fitted])
    assert 0.3 < found["temperature"] < 0.53
    report = found["calibration"]
    facts = ("method", "model", "file", "rows", "fitted_rows", "reported_file", "reported_rows", "held_back", "tuning")
    assert [report[name] for name in facts] == [
        "temperature", "int8-token", "own.csv", ROWS, len(fitted), "own.csv", len(reported), True, None,
    ]  # fmt: skip
    assert (found["platt"], found["thresholds"]) == (None, None)


@pytest.mark.slow
def test_the_figures_are_of_the_rows_that_were_held_back(calibrated: Path, rows: list[tuple[str, str]]) -> None:
    """The bundle's predictions on the other half give the same accuracy, Brier score, share of answered texts."""
    truth = np.array([[label == name for name in LABELS] for _, label in rows])
    _, reported = split_rows(tuple(text for text, _ in rows), truth)
    model, found = ModelInferer(calibrated), manifest(calibrated)
    predictions = [model.predict(rows[i][0]) for i in reported]
    scores = np.array([list(one.scores.values()) for one in predictions])
    figures = {name: figure["value"] for name, figure in found["calibration"]["figures"].items()}
    right = np.array([one.label == rows[i][1] for one, i in zip(predictions, reported, strict=True)])
    assert figures["accuracy_before"] == figures["accuracy_after"] == pytest.approx(right.mean())
    assert figures["brier_after"] == pytest.approx(((scores - truth[reported]) ** 2).sum(axis=1).mean())
    raw = [softmax(model.logits(rows[i][0]), 1.0) for i in reported]
    assert figures["brier_before"] == pytest.approx(((raw - truth[reported]) ** 2).sum(axis=1).mean(), rel=1e-6)
    assert figures["ece_after"] < figures["ece_before"]
    answered = np.array([bool(one.labels) for one in predictions])
    abstention = found["abstention"]
    assert abstention["figures"]["answered"]["value"] == pytest.approx(answered.mean())
    assert abstention["figures"]["accuracy_answered"]["value"] == pytest.approx(right[answered].mean())
    assert 0 < answered.mean() < 1
    assert (abstention["asked"], abstention["below"]) == ("accuracy=0.9", found["abstain_threshold"])


@pytest.mark.slow
def test_served_scores_are_calibrated(calibrated: Path) -> None:
    """A text's scores are the softmax of its logits over the manifest's temperature."""
    model = ModelInferer(calibrated)
    expected = softmax(model.logits(TEXTS[3]), manifest(calibrated)["temperature"])
    assert list(model.predict(TEXTS[3]).scores.values()) == pytest.approx(list(expected))


@pytest.mark.slow
def test_the_bundle_shows_its_calibration_and_no_text(calibrated: Path, rows: list[tuple[str, str]]) -> None:
    """The card has the figures and the meaning of scores, the picture's hash is listed, and no row is anywhere."""
    card, found = (calibrated / "README.md").read_text(encoding="utf-8"), manifest(calibrated)
    ece = found["calibration"]["figures"]["ece_after"]
    assert f"| ECE after | {ece['value']:.4f} | {ece['low']:.4f} to {ece['high']:.4f} | 250 |" in card
    assert (
        "Scores are calibrated. Of the texts whose best score is near 0.9, about nine in ten are labelled right" in card
    )
    assert "fitted to the logits of int8-token on 250 rows of own.csv; figures on the other 250." in card
    assert f"names no label where the best score is below {found['abstain_threshold']:.6g}" in card
    assert "](reliability.png)" in card
    picture = (calibrated / "reliability.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert found["files"]["reliability.png"] == hashlib.sha256(picture).hexdigest()
    longest = max((text for text, _ in rows), key=len)
    assert not [file.name for file in calibrated.iterdir() if longest.encode() in file.read_bytes()]


@pytest.mark.slow
def test_what_is_not_calibrated_says_so(tmp_path: Path, bert: Path) -> None:
    """Without --calibrate the manifest's calibration is empty, the card says it, and nothing is drawn."""
    assert run_export(bert, tmp_path / "bundle", "--scheme", "fp32", "--abstain-below", 0.8) == 0
    found = manifest(tmp_path / "bundle")
    names = ("temperature", "platt", "calibration", "abstention", "abstain_threshold")
    assert [found[name] for name in names] == [1.0, None, None, None, 0.8]
    assert "Scores are not calibrated" in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "bundle" / "reliability.png").exists()


@pytest.mark.slow
def test_an_abstain_score_is_reported_on_the_texts_of_eval(
    tmp_path: Path, bert: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --eval, a score to abstain below is reported without any calibration, in the manifest and on the screen."""
    options = ("--scheme", "fp32", "--eval", file, *LABELLED, "--abstain-below", 0.8)
    assert run_export(bert, tmp_path / "bundle", *options) == 0
    found = manifest(tmp_path / "bundle")
    model = ModelInferer(tmp_path / "bundle")
    answered = np.mean([bool(model.predict(text).labels) for text in texts(ROWS)])
    assert found["abstention"]["figures"]["answered"]["value"] == pytest.approx(answered)
    assert found["calibration"] is None
    said = capsys.readouterr().err
    assert "no label where the best score is below 0.8; figures on 500 rows of own.csv" in said


@pytest.mark.slow
def test_the_screen_fits_80_columns_and_the_bar_ends(
    tmp_path: Path, bert: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines on scores keep to 80 columns, and the number of announced steps is the number of done ones."""
    options = ("--calibrate", file, *LABELLED, "--abstain-below", 0.5)
    assert run_export(bert, tmp_path / "bundle", *options) == 0
    said = capsys.readouterr().err
    lines = said[said.index("  calibration\n") :].splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("    ECE after ") for line in lines)
    assert " 7/7 [" in said


# Fitted and reported rows


@pytest.mark.slow
def test_no_row_is_fitted_on_and_reported_on(
    tmp_path: Path, bert: Path, rows: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fit and report share no text, as the model reads it; together they are the file."""
    asked: dict[str, list[str]] = {}

    def recorded(where: str) -> Callable[..., np.ndarray]:
        def run(model: Path, reader: TextReader, listed: Sequence[str], what: str) -> np.ndarray:
            asked[where] = [text.strip().lower() for text in listed]
            return compute_logits(model, reader, listed, what)

        return run

    for module in (export.scores.rule_fitter, export.pipeline):
        monkeypatch.setattr(module, "compute_logits", recorded(module.__name__))
    twice = [*rows[:240], *((f" {text.upper()}  ", label) for text, label in rows[:60])]  # an uncased tokenizer
    file = write_rows(tmp_path / "twice.csv", ("text", "label"), twice)
    assert run_export(bert, tmp_path / "bundle", "--calibrate", file, *LABELLED, "--scheme", "fp32") == 0
    fitted, reported = asked["export.scores.rule_fitter"], asked["export.pipeline"]
    assert not set(fitted) & set(reported)
    assert sorted(fitted + reported) == sorted(text.strip().lower() for text, _ in twice)


@pytest.mark.slow
def test_with_eval_all_rows_are_fitted_and_the_guard_judges_calibrated_scores(
    tmp_path: Path, bert: Path, file: Path
) -> None:
    """With --eval all rows of --calibrate are fitted on, and int8 is held against fp32 with each one's own fit."""
    other = single_rows(bert, 120, seed=1)
    known = set(texts(ROWS))
    other = [row for row in other if row[0] not in known][:105]
    evaluated = write_rows(tmp_path / "other.csv", ("text", "label"), other)
    bundle = tmp_path / "bundle"
    assert run_export(bert, bundle, "--calibrate", file, "--eval", evaluated, *LABELLED, "--keep-fp32") == 0
    found = manifest(bundle)
    report = found["calibration"]
    facts = (report["fitted_rows"], report["reported_file"], report["reported_rows"], report["held_back"])
    assert facts == (ROWS, "other.csv", len(other), False)
    int8, fp32 = ModelInferer(bundle), ModelInferer(bundle, quantize=False)
    fitted = dict(single_rows(bert, ROWS))
    truth = np.array([[label == name for name in LABELS] for label in fitted.values()])
    temperature = fit_temperature(np.stack([fp32.logits(text) for text in fitted]), truth)
    assert temperature != found["temperature"]
    pairs = [(list(int8.predict(text).scores.values()), softmax(fp32.logits(text), temperature)) for text, _ in other]
    change = [np.abs(a - b).max() for a, b in pairs]
    assert found["guard"]["figures"]["mean_change"]["value"] == pytest.approx(np.mean(change), rel=1e-6)


@pytest.mark.slow
def test_when_only_fp32_holds_the_temperature_is_fp32s(tmp_path: Path, bert: Path, file: Path) -> None:
    """A bundle that falls back to fp32 has a temperature fitted to fp32's logits."""
    ruined = with_outlier_embedding(bert, tmp_path / "bert", token=4, size=100.0)  # int8 can still be fitted
    known = set(texts(ROWS))
    other = [row for row in single_rows(bert, 130, seed=1) if row[0] not in known][:110]
    evaluated = write_rows(tmp_path / "other.csv", ("text", "label"), other)
    options = ("--calibrate", file, "--eval", evaluated, *LABELLED, "--min-agreement", 99, "--scheme", "int8-tensor")
    assert run_export(ruined, tmp_path / "bundle", *options) == 4
    found = manifest(tmp_path / "bundle")
    model = ModelInferer(tmp_path / "bundle")
    labels = dict(single_rows(bert, ROWS))
    logits = np.stack([model.logits(text) for text in labels])
    truth = np.array([[label == name for name in LABELS] for label in labels.values()])
    assert found["temperature"] == fit_temperature(logits, truth)
    assert found["calibration"]["model"] == "fp32"
    assert [rung["missed"] for rung in found["guard"]["rungs"]] == [["agreement"]] * 6


@pytest.mark.slow
def test_a_rung_that_cannot_be_fitted_misses(
    tmp_path: Path, bert: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits, int8 logits that allow no fit are a rung that misses; without, the export fails."""
    fit = RuleFitter.fit

    def only_kept(self: RuleFitter, model: Path, name: str) -> object:
        if name == "int8":
            raise FitError("no fit")
        return fit(self, model, name)

    monkeypatch.setattr(RuleFitter, "fit", only_kept)
    known = set(texts(ROWS))
    other = [row for row in single_rows(bert, 130, seed=1) if row[0] not in known][:110]
    evaluated = write_rows(tmp_path / "other.csv", ("text", "label"), other)
    options = ("--calibrate", file, "--eval", evaluated, *LABELLED)
    assert run_export(bert, tmp_path / "bundle", *options) == 2
    assert run_export(bert, tmp_path / "bundle", *options, "--min-agreement", 80) == 0
    rungs = manifest(tmp_path / "bundle")["guard"]["rungs"]
    assert [(len(rung["kept_fp32"]), rung["missed"]) for rung in rungs] == [(0, ["calibration"]), (1, [])]


# Multi-label


@pytest.fixture(scope="module")
def multi_file(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """Texts with 0/1 columns drawn at 2.5 times the logits less 2; "other" is on five of them."""
    listed = texts(ROWS)
    logits = 2.5 * architectures.torch_logits(bert, listed).astype(float) - 2
    flags = np.random.default_rng(3).random(logits.shape) < 1 / (1 + np.exp(-logits))
    flags[:, 2] = np.arange(ROWS) % 100 == 0
    rows = [(text, *row) for text, row in zip(listed, flags.astype(int), strict=True)]
    return write_rows(tmp_path_factory.mktemp("rows") / "multi.csv", ("text", *LABELS), rows)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, bert: Path, multi_file: Path) -> Path:
    """A multi-label bundle, calibrated, with thresholds of best F1."""
    folder = tmp_path_factory.mktemp("tuned")
    config = write_json(folder / "config.json", {"problem_type": MULTI, "thresholds": {"other": 0.9}})
    columns = ("--label-columns", ",".join(LABELS))
    options = ("--config", config, "--calibrate", multi_file, *columns, "--tune-thresholds", "f1", "--scheme", "fp32")
    assert run_export(bert, folder / "bundle", *options) == 0
    return folder / "bundle"


@pytest.mark.slow
def test_each_label_has_its_scale_its_bias_and_its_threshold(tuned: Path) -> None:
    """Labels with rows enough are fitted and tuned; the one without keeps its scores and its --config threshold."""
    found = manifest(tuned)
    for label in LABELS[:2]:
        assert 1.5 < found["platt"][label]["scale"] < 4
        assert -3 < found["platt"][label]["bias"] < -1
        assert 0 < found["thresholds"][label] < 0.5
    assert found["platt"]["other"] == {"scale": 1.0, "bias": 0.0}
    assert found["thresholds"]["other"] == 0.9
    report = found["calibration"]
    assert (report["method"], report["tuning"], found["temperature"]) == ("platt", "f1", 1.0)
    assert report["labels"]["other"]["fitted"] + report["labels"]["other"]["reported"] == 5
    assert report["labels"]["brand"]["threshold"] == found["thresholds"]["brand"]
    assert any(note.endswith("so the threshold stays: other") for note in report["notes"])


@pytest.mark.slow
def test_served_labels_are_those_of_calibrated_scores_and_tuned_thresholds(tuned: Path) -> None:
    """A text gets each label with a sigmoid of the scaled and shifted logit at or above its threshold."""
    model, found = ModelInferer(tuned), manifest(tuned)
    for text in TEXTS:
        logits = dict(zip(LABELS, model.logits(text).tolist(), strict=True))
        scores = {
            label: 1 / (1 + math.exp(-(one["scale"] * logits[label] + one["bias"])))
            for label, one in found["platt"].items()
        }
        prediction = model.predict(text)
        assert prediction.scores == pytest.approx(scores)
        assert set(prediction.labels) == {label for label in LABELS if scores[label] >= found["thresholds"][label]}


@pytest.mark.slow
def test_tuned_thresholds_are_reported_on_other_rows(tuned: Path, multi_file: Path) -> None:
    """The report's F1 is that of the bundle's own labels on the half that was held back, and better than at 0.5."""
    lines = [line.split(",") for line in multi_file.read_text(encoding="utf-8").splitlines()[1:]]
    listed, truth = tuple(line[0] for line in lines), np.array([[cell == "1" for cell in line[1:]] for line in lines])
    _, reported = split_rows(listed, truth)
    model = ModelInferer(tuned)
    named = [set(model.predict(listed[i]).labels) for i in reported]
    chosen = np.array([[label in one for label in LABELS] for one in named])
    figures = {name: figure["value"] for name, figure in manifest(tuned)["calibration"]["figures"].items()}
    hits = (chosen & truth[reported]).sum()
    assert figures["micro_f1_tuned"] == pytest.approx(2 * hits / (chosen.sum() + truth[reported].sum()))
    assert figures["macro_f1_tuned"] > figures["macro_f1_calibrated"]
    assert figures["ece_after"] < figures["ece_before"]


@pytest.mark.slow
def test_the_card_lists_the_thresholds(tuned: Path) -> None:
    """The card has a row per label with its threshold, and marks the tuned ones."""
    card, found = (tuned / "README.md").read_text(encoding="utf-8"), manifest(tuned)
    brand, one = found["calibration"]["labels"]["brand"], found["platt"]["brand"]
    row = f"| brand | {brand['fitted']} | {brand['reported']} | {one['scale']:.4g} | {one['bias']:.4g} "
    assert f"{row}| {found['thresholds']['brand']:.4g} | f1 |" in card
    assert "| 1 | 0 | 0.9 |  |" in card
    assert "F1 before and calibrated: thresholds as configured" in card


@pytest.mark.slow
def test_a_precision_is_reached_on_the_fitted_rows(tmp_path: Path, bert: Path, multi_file: Path) -> None:
    """With precision=0.6 the label's threshold has it on the fitted rows, with the bundle's own scores."""
    columns = ("--label-columns", ",".join(LABELS))
    options = ("--problem-type", MULTI, "--calibrate", multi_file, *columns, "--tune-thresholds", "precision=0.6")
    assert run_export(bert, tmp_path / "bundle", *options, "--scheme", "fp32") == 0
    lines = [line.split(",") for line in multi_file.read_text(encoding="utf-8").splitlines()[1:]]
    listed, truth = tuple(line[0] for line in lines), np.array([[cell == "1" for cell in line[1:]] for line in lines])
    fitted, _ = split_rows(listed, truth)
    model = ModelInferer(tmp_path / "bundle")
    named = np.array(["retailer" in model.predict(listed[i]).labels for i in fitted])
    assert named.any()
    assert truth[fitted, 0][named].mean() >= 0.6


# How texts are read


@pytest.mark.slow
@pytest.mark.parametrize(("truncation", "cut"), [("windows", 0), ("head_tail", 1), ("tail", 1)])
def test_what_is_measured_is_read_as_it_is_served(tmp_path: Path, bert: Path, truncation: str, cut: int) -> None:
    """Long texts run as the bundle reads them: the guard's figures are those of the bundle's own predictions."""
    listed = [LONG_TEXT, *texts(40)]
    file = write_rows(tmp_path / "long.csv", ("text",), [(text,) for text in listed])
    bundle = tmp_path / "bundle"
    options = ("--truncation", truncation, "--window-overlap", 8, "--window-pooling", "max", "--keep-fp32")
    assert run_export(bert, bundle, *options, "--eval", file) == 0
    found = manifest(bundle)
    assert found["windows"] == {"overlap": 8, "pooling": "max"}
    assert (found["guard"]["cut"], found["guard"]["left_out"]) == (cut, 0)
    int8, fp32 = ModelInferer(bundle), ModelInferer(bundle, quantize=False)
    pairs = [(int8.predict(text).scores, fp32.predict(text).scores) for text in listed]
    change = [max(abs(a[label] - b[label]) for label in LABELS) for a, b in pairs]
    assert found["guard"]["figures"]["mean_change"]["value"] == pytest.approx(np.mean(change), rel=1e-6)
    reader = TextReader(Encoder(bundle / "tokenizer.json", 64, 8), truncation, "max")
    np.testing.assert_array_equal(
        compute_logits(bundle / "model.onnx", reader, [LONG_TEXT], None)[0], fp32.logits(LONG_TEXT)
    )
    card = (bundle / "README.md").read_text(encoding="utf-8")
    said = {
        "windows": "in windows of that many, each sharing 8 with the one before; each label's highest logit counts.",
        "tail": "It reads the last 64 tokens of a text.",
        "head_tail": "Of a text of more than 64 tokens it reads that many, the first quarter from its beginning",
    }
    assert said[truncation] in card
    read = {"windows": (), "head_tail": ("only their beginning and end were",), "tail": ("only their end was",)}
    assert all(words in card for words in read[truncation])
    assert ("are longer than max_length" in card) == bool(cut)
