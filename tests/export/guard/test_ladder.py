"""The guard on int8 and its ladder, on real small checkpoints with a layer that int8 ruins."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.guard.guard import fewest_kept
from export.reference import BINS, reference
from inferer import ModelInferer
from service.app import create_app
from service.settings import Settings
from tests.support import architectures
from tests.support.architectures import LABELS, run_export, write_json
from tests.support.eval_texts import labelled_by_torch, texts, with_outlier, with_outlier_embedding, write_rows

BERT = "bert.encoder.layer.{0}.intermediate.dense>bert.encoder.layer.{0}.output.dense"
SENSITIVE = "bert.encoder.layer.{0}.output.dense"
ALBERT_LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
MULTI = "multi_label_classification"


def manifest(bundle: Path) -> dict[str, Any]:
    """Return a bundle's manifest."""
    return dict(json.loads((bundle / "inferer.json").read_text(encoding="utf-8")))


def int8_products(bundle: Path) -> int:
    """Return how many calls of layers are int8 in a bundle's model."""
    nodes = onnx.load(bundle / "model_quantized.onnx").graph.node
    return sum(node.op_type in ("MatMulInteger", "MatMulIntegerToFloat") for node in nodes)


# The search


@pytest.mark.parametrize("layers", [1, 2, 3, 12, 37])
def test_the_fewest_layers_that_hold_are_found(layers: int) -> None:
    """The fewest layers that hold are found for any number; None when only all hold."""
    for needed in range(1, layers + 1):
        tried: list[int] = []

        def holds(count: int, needed: int = needed, tried: list[int] = tried) -> bool:
            tried.append(count)
            return count >= needed

        assert fewest_kept(layers, holds) == (needed if needed < layers else None)
        assert len(tried) == len(set(tried)), "one count was tried twice"
        assert all(0 < count < layers for count in tried)


def test_the_search_doubles_and_then_halves() -> None:
    """For 6 of 72 layers the counts tried are 1, 2, 4, 8, 6, 5."""
    tried: list[int] = []

    def holds(count: int) -> bool:
        tried.append(count)
        return count >= 6

    assert fewest_kept(72, holds) == 6
    assert tried == [1, 2, 4, 8, 6, 5]


# Without limits


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The BERT bundle, measured on 80 texts that the checkpoint itself labelled; fp32 is kept."""
    folder = tmp_path_factory.mktemp("measured")
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    file = labelled_by_torch(folder / "own.csv", bert, 80)
    assert run_export(bert, folder / "bundle", "--eval", file, "--label-column", "label", "--keep-fp32") == 0
    return folder / "bundle"


@pytest.mark.slow
def test_the_figures_are_what_the_bundles_two_models_answer(measured: Path) -> None:
    """The manifest's figures are those of the bundle's own int8 and fp32 models on the file's texts."""
    guard = manifest(measured)["guard"]
    int8, fp32 = ModelInferer(measured), ModelInferer(measured, quantize=False)
    pairs = [(int8.predict(text), fp32.predict(text)) for text in texts(80)]
    change = [max(abs(a.scores[label] - b.scores[label]) for label in LABELS) for a, b in pairs]
    found = {name: figure["value"] for name, figure in guard["figures"].items()}
    assert found["agreement"] == pytest.approx(np.mean([a.label == b.label for a, b in pairs]))
    assert found["mean_change"] == pytest.approx(np.mean(change), abs=1e-5)
    assert found["largest_change"] == pytest.approx(max(change), abs=1e-5)
    assert found["accuracy_fp32"] == 1.0
    assert found["accuracy_int8"] == found["agreement"]
    assert found["accuracy_drop"] == pytest.approx(1.0 - found["agreement"])
    assert found["macro_f1_fp32"] == 1.0
    assert {figure["n"] for figure in guard["figures"].values()} == {80}


@pytest.mark.slow
def test_the_manifest_says_what_was_measured_and_no_text(measured: Path) -> None:
    """The manifest has the file's name, its counts, the limits and the one rung, and none of the texts."""
    guard = manifest(measured)["guard"]
    assert (guard["file"], guard["rows"], guard["evaluated"], guard["cut"], guard["left_out"]) == (
        "own.csv", 80, 80, 0, 0,
    )  # fmt: skip
    assert (guard["text_column"], guard["labels_from"], guard["in_bundle"]) == ("text", ["label"], True)
    assert guard["limits"] == {"max_accuracy_drop_points": None, "min_agreement_percent": None, "min_spearman": None}
    assert [rung["kept_fp32"] for rung in guard["rungs"]] == [[]]
    assert guard["rungs"][0]["model_bytes"] == (measured / "model_quantized.onnx").stat().st_size
    assert guard["sensitivity"] == []
    assert manifest(measured)["quantization"]["kept_fp32"] == []
    longest = max(texts(80), key=len)
    assert not [file.name for file in measured.iterdir() if longest.encode() in file.read_bytes()]


@pytest.mark.slow
def test_the_bundle_remembers_its_labels_and_scores(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`reference` counts the predictions of the bundle's model on the file's texts, and the rows of the training."""
    model = ModelInferer(measured)
    found = [model.predict(text) for text in texts(80)]
    bins = [min(int(one.score * BINS), BINS - 1) for one in found]
    evaluated = {
        "file": "own.csv",
        "labels": {label: sum(one.label == label for one in found) for label in LABELS},
        "scores": [bins.count(place) for place in range(BINS)],
    }
    assert manifest(measured)["reference"] == {"training": None, "evaluated": evaluated}
    trained = tmp_path_factory.mktemp("trained")
    (trained / "training.json").write_text(json.dumps({"data": {"counts": dict.fromkeys(LABELS, 7)}}))
    assert reference(trained, LABELS, None) == {"training": dict.fromkeys(LABELS, 7), "evaluated": None}
    assert reference(trained, ("renamed", *LABELS), None)["training"] is None


@pytest.mark.slow
def test_info_shows_the_guards_figures(measured: Path) -> None:
    """/info has the manifest's figures, limits and counts, without the lists of rungs and layers."""
    settings = Settings(bundle=measured)
    answer = create_app(settings, ModelInferer(measured)).test_client().get("/info").json
    guard = manifest(measured)["guard"]
    assert answer["guard"] == {name: value for name, value in guard.items() if name not in ("rungs", "sensitivity")}
    assert answer["guard"]["figures"]["accuracy_fp32"]["value"] == 1.0
    assert answer["quantization"]["kept_fp32"] == []


@pytest.mark.slow
def test_the_picture_is_in_the_bundle_under_its_hash(measured: Path) -> None:
    """quantization.png is a PNG of some size, listed in the manifest with its SHA-256."""
    content = (measured / "quantization.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000
    assert manifest(measured)["files"]["quantization.png"] == hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_the_model_card_has_the_guards_figures(measured: Path) -> None:
    """The card shows the manifest's figures with interval and n, and the picture."""
    card, figures = (measured / "README.md").read_text(encoding="utf-8"), manifest(measured)["guard"]["figures"]
    same, mean = figures["agreement"], figures["mean_change"]
    shares = [f"{100 * same[name]:.2f}" for name in ("value", "low", "high")]
    assert f"| same label as fp32 | {shares[0]} % | {shares[1]} to {shares[2]} % | 80 |" in card
    assert f"| change of a score, mean | {mean['value']:.4f} | {mean['low']:.4f} to {mean['high']:.4f} | 80 |" in card
    assert "](quantization.png)" in card
    assert "own.csv: texts from column 'text', labels from column 'label'" in card


@pytest.mark.slow
def test_without_texts_the_report_says_that_int8_was_not_checked_on_them(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export without --eval says in one line how to check int8, and its bundle has no guard and no picture."""
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    assert run_export(bert, tmp_path / "bundle") == 0
    said = capsys.readouterr().err
    assert "int8 was not checked on your texts; to check it: --eval FILE.csv --label-column NAME" in said
    assert manifest(tmp_path / "bundle")["guard"] is None
    assert not (tmp_path / "bundle" / "quantization.png").exists()


# The ladder


@pytest.mark.slow
def test_limits_that_int8_holds_need_no_ladder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the whole scheme holds it is written, and no layer is measured."""
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    file = labelled_by_torch(tmp_path / "own.csv", bert, 60)
    arguments = ("--eval", file, "--label-column", "label", "--min-agreement", 90, "--max-accuracy-drop", 10)
    assert run_export(bert, tmp_path / "bundle", *arguments) == 0
    guard = manifest(tmp_path / "bundle")["guard"]
    assert guard["limits"] == {"max_accuracy_drop_points": 10.0, "min_agreement_percent": 90.0, "min_spearman": None}
    assert (len(guard["rungs"]), guard["rungs"][0]["missed"], guard["sensitivity"]) == (1, [], [])
    assert int8_products(tmp_path / "bundle") == 12
    said = capsys.readouterr().err
    assert "limits: accuracy at most 10 points lower, same label for at least 90 %" in said
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "Limits: accuracy at most 10 points lower, same label for at least 90 %." in card


@pytest.mark.slow
@pytest.mark.parametrize("keep_fp32", [False, True])
def test_the_layer_that_int8_ruins_is_found_and_kept(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], keep_fp32: bool
) -> None:
    """One layer with an outlier before it is the most sensitive, and it alone stays in fp32."""
    bert = with_outlier(architectures.checkpoint(tmp_path_factory, "bert"), tmp_path / "bert", BERT.format(1))
    file = labelled_by_torch(tmp_path / "own.csv", bert, 80)
    bundle = tmp_path / "bundle"
    arguments = ["--eval", file, "--label-column", "label", "--max-accuracy-drop", 6]
    assert run_export(bert, bundle, *arguments, *(["--keep-fp32"] if keep_fp32 else [])) == 0
    found = manifest(bundle)
    assert found["quantization"]["kept_fp32"] == [SENSITIVE.format(1)]
    assert found["quantization"]["quantized_matmuls"] == int8_products(bundle) == 11
    assert found["guard"]["sensitivity"][0]["layer"] == SENSITIVE.format(1)
    assert len(found["guard"]["sensitivity"]) == 12
    assert [rung["missed"] for rung in found["guard"]["rungs"]] == [["accuracy_drop"], []]
    drops = [rung["accuracy_drop"]["value"] for rung in found["guard"]["rungs"]]
    assert drops[0] > 0.06 >= drops[1] == found["guard"]["figures"]["accuracy_drop"]["value"]
    assert (bundle / "model.onnx").exists() == keep_fp32
    model, rows = ModelInferer(bundle), [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert np.mean([model.predict(text).label == label for text, label in rows]) >= 0.94
    said = capsys.readouterr().err
    assert f"  kept in fp32:\n    {SENSITIVE.format(1)}\n" in said
    assert f"Kept in fp32: `{SENSITIVE.format(1)}`." in (bundle / "README.md").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bert", "bundle", "own.csv"]
    assert not [file for file in bundle.iterdir() if file.is_dir()]


@pytest.mark.slow
def test_two_layers_that_int8_ruins_are_both_kept(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where one layer is not enough the next is kept too, and no more than those two."""
    source = architectures.checkpoint(tmp_path_factory, "bert")
    bert = with_outlier(source, tmp_path / "bert", BERT.format(0), BERT.format(1))
    file = labelled_by_torch(tmp_path / "own.csv", bert, 80)
    assert run_export(bert, tmp_path / "bundle", "--eval", file, "--min-agreement", 94) == 0
    found = manifest(tmp_path / "bundle")
    assert set(found["quantization"]["kept_fp32"]) == {SENSITIVE.format(0), SENSITIVE.format(1)}
    assert [len(rung["kept_fp32"]) for rung in found["guard"]["rungs"]] == [0, 1, 2]
    assert int8_products(tmp_path / "bundle") == 10


@pytest.mark.slow
def test_when_only_fp32_holds_the_bundle_is_fp32_and_the_exit_code_is_4(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """When int8 ruins more than the layers, every rung misses: the bundle is fp32, says so, and the exit code is 4."""
    source = architectures.checkpoint(tmp_path_factory, "bert")
    bert = with_outlier_embedding(source, tmp_path / "bert", token=4)
    file = labelled_by_torch(tmp_path / "own.csv", bert, 60)
    bundle = tmp_path / "bundle"
    arguments = ("--eval", file, "--label-column", "label", "--min-agreement", 99, "--scheme", "int8-tensor")
    assert run_export(bert, bundle, *arguments) == 4
    found = manifest(bundle)
    assert found["quantization"] == {"scheme": "fp32", "quantized_matmuls": 0, "kept_fp32": []}
    assert [len(rung["kept_fp32"]) for rung in found["guard"]["rungs"]] == [0, 1, 2, 4, 8, 11]
    assert not found["guard"]["in_bundle"]
    assert {file.name for file in bundle.iterdir()} & {"model.onnx", "model_quantized.onnx"} == {"model.onnx"}
    assert "only fp32 holds the limits: the bundle is fp32, without an int8 model" in capsys.readouterr().err
    assert "**int8 missed the limits, so this bundle is fp32.**" in (bundle / "README.md").read_text()
    model = ModelInferer(bundle)
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert [model.predict(text).label for text, _ in rows] == [label for _, label in rows]


@pytest.mark.slow
def test_alberts_one_layer_is_kept_for_all_its_calls(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """ALBERT's ruined layer is one name, and each of its three runs is fp32 once that is kept."""
    source = architectures.checkpoint(tmp_path_factory, "albert")
    albert = with_outlier(source, tmp_path / "albert", f"{ALBERT_LAYER}.ffn>{ALBERT_LAYER}.ffn_output")
    file = write_rows(tmp_path / "own.csv", ("text",), [(text,) for text in texts(60)])
    assert run_export(albert, tmp_path / "bundle", "--eval", file, "--min-agreement", 88) == 0
    found = manifest(tmp_path / "bundle")
    assert found["quantization"]["kept_fp32"] == [f"{ALBERT_LAYER}.ffn_output"]
    assert found["quantization"]["quantized_matmuls"] == int8_products(tmp_path / "bundle") == 6 * 3 + 1 - 3


@pytest.mark.slow
def test_an_interrupted_ladder_leaves_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control-C while the layers are measured ends with 130 and leaves no bundle and no trial model."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("export.guard.guard.rank_layers", interrupted)
    source = architectures.checkpoint(tmp_path_factory, "bert")
    bert = with_outlier(source, tmp_path / "bert", BERT.format(0))
    file = write_rows(tmp_path / "own.csv", ("text",), [(text,) for text in texts(20)])
    assert run_export(bert, tmp_path / "out" / "bundle", "--eval", file, "--min-agreement", 99) == 130
    assert not list((tmp_path / "out").iterdir())


# Multi-label


@pytest.mark.slow
def test_a_multi_label_model_is_measured_by_sets_of_labels(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """0/1 columns in another order than the model's, and a threshold, are heeded: fp32 is right by its own labels."""
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    config = write_json(tmp_path / "config.json", {"problem_type": MULTI, "thresholds": {"brand": 0.75}})
    listed = texts(60)
    scores = 1 / (1 + np.exp(-architectures.torch_logits(bert, listed).astype(np.float64)))
    flags = (scores >= [0.5, 0.75, 0.5]).astype(int)[:, [2, 0, 1]]
    order = [LABELS[i] for i in (2, 0, 1)]
    file = write_rows(tmp_path / "own.csv", ("text", *order), [(t, *row) for t, row in zip(listed, flags, strict=True)])
    arguments = ("--config", config, "--eval", file, "--label-columns", ",".join(order))
    assert run_export(bert, tmp_path / "bundle", *arguments) == 0
    figures = manifest(tmp_path / "bundle")["guard"]["figures"]
    assert figures["accuracy_fp32"]["value"] == 1.0
    assert figures["accuracy_int8"]["value"] == figures["agreement"]["value"] > 0.8
    said = capsys.readouterr().err
    assert "same set of labels as fp32" in said
    assert "labels from columns 'other', 'retailer', 'brand'" in said
    assert "accuracy counts a text as right when all its labels are" in said


@pytest.mark.slow
def test_labels_joined_in_a_cell_are_read_and_an_empty_cell_may_mean_none(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a separator the labels of a cell are a set, and --allow-unlabelled lets a cell be empty."""
    bert = architectures.checkpoint(tmp_path_factory, "bert")
    file = write_rows(
        tmp_path / "own.csv", ("text", "tags"), [("ok", "brand|other"), ("the dog", ""), ("fox", "other")]
    )
    arguments = ["--problem-type", MULTI, "--eval", file, "--label-column", "tags", "--label-separator", "|"]
    assert run_export(bert, tmp_path / "bundle", *arguments) == 2
    assert run_export(bert, tmp_path / "bundle", *arguments, "--allow-unlabelled") == 0
    assert manifest(tmp_path / "bundle")["guard"]["figures"]["accuracy_fp32"]["n"] == 3
