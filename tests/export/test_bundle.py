"""The contents of a bundle: manifest, model card, tokenizer and models."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from export.checkpoint import Checkpoint, load_checkpoint
from export.checks.built_in_texts import built_in_texts
from export.checks.parity import Parity
from export.report.model_card import model_card
from inferer import BundleError, ModelInferer, read_bundle
from inferer.config import read_config
from inferer.cpu import instruction_flags
from inferer.scoring import softmax
from inferer.tokens.encoding import Encoder
from tests.support import architectures
from tests.support.architectures import LABELS, LONG_TEXT, TEXTS, copy_of, run_export, write_json

pytestmark = pytest.mark.slow

MULTI = "multi_label_classification"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint folder; not to be changed."""
    return architectures.checkpoint(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The BERT bundle, exported with --keep-fp32."""
    return architectures.bundle(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """The BERT bundle as it is exported without options."""
    return _export(bert, tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """The BERT bundle, exported with --scheme fp32."""
    return _export(bert, tmp_path_factory.mktemp("fp32") / "bundle", "--scheme", "fp32")


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """The BERT model as multi-label, with a threshold of its own for one label, both by --config."""
    folder = tmp_path_factory.mktemp("multi")
    config = write_json(folder / "config.json", {"problem_type": MULTI, "thresholds": {"brand": 0.75}})
    return _export(bert, folder / "bundle", "--config", config)


def _export(checkpoint: Path, target: Path, *options: object) -> Path:
    code = run_export(checkpoint, target, *options)
    if code != 0:
        pytest.fail(f"python -m export ended with {code}")
    return target


def _manifest(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "inferer.json").read_text(encoding="utf-8")))


def _card(bundle: Path) -> str:
    return (bundle / "README.md").read_text(encoding="utf-8")


# The manifest


def test_the_manifest_has_the_versions_that_made_it(plain: Path) -> None:
    """The manifest names the installed version of every package that made it."""
    names = ("onnxruntime", "onnx", "transformers", "torch", "tokenizers")
    assert _manifest(plain)["versions"] == {name: version(name) for name in names}


@pytest.mark.parametrize("which", ["plain", "kept", "fp32"])
def test_the_manifest_has_the_hash_of_every_file(which: str, request: pytest.FixtureRequest) -> None:
    """Every file of the bundle is in the manifest with its own SHA-256."""
    bundle: Path = request.getfixturevalue(which)
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in bundle.iterdir() if f.name != "inferer.json"}
    assert _manifest(bundle)["files"] == found


def test_the_manifest_has_the_opset_of_the_model(kept: Path) -> None:
    """The manifest names the opset that each of the ONNX files imports."""
    for name in ("model.onnx", "model_quantized.onnx"):
        imported = {entry.domain: entry.version for entry in onnx.load(kept / name).opset_import}
        assert _manifest(kept)["opset"][name] == imported[""]


def test_the_manifest_has_the_machine(plain: Path) -> None:
    """The manifest says on which CPU its int8 figures were measured."""
    assert _manifest(plain)["machine"] == {"architecture": platform.machine(), "cpu_flags": list(instruction_flags())}


def test_the_manifest_has_the_time_of_its_export(plain: Path) -> None:
    """The manifest has the time of its export, with a zone."""
    created = datetime.fromisoformat(_manifest(plain)["created"])
    assert timedelta(0) <= datetime.now(UTC) - created < timedelta(hours=1)


def test_the_manifest_states_the_defaults(plain: Path) -> None:
    """Every fact that serving reads is there, as the checkpoint says or by default."""
    manifest = _manifest(plain)
    expected = {
        "format_version": 3,
        "problem_type": "single_label_classification",
        "max_length": 64,
        "max_positions": 64,
        "temperature": 1.0,
        "platt": None,
        "truncation": "head",
        "windows": {"overlap": 16, "pooling": "max"},
        "thresholds": None,
        "abstain_threshold": None,
        "calibration": None,
        "abstention": None,
    }
    assert {name: manifest[name] for name in expected} == expected


def test_the_parity_figures_are_what_a_server_would_measure(kept: Path) -> None:
    """The int8 figures are those of the two models in the bundle on the same texts."""
    parity = _manifest(kept)["parity"]
    texts = built_in_texts(Encoder(kept / "tokenizer.json", 64))
    int8, fp32 = ModelInferer(kept), ModelInferer(kept, quantize=False)
    pairs = [(softmax(int8.logits(text)), softmax(fp32.logits(text))) for text in texts]
    changes = np.array([np.abs(one - other) for one, other in pairs])
    assert parity["n"] == len(texts)
    assert parity["int8_max_change"] == pytest.approx(changes.max(), abs=1e-5)
    assert parity["int8_mean_change"] == pytest.approx(changes.mean(), abs=1e-5)
    assert parity["int8_agreement"] == pytest.approx(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
    assert 0 < parity["int8_mean_change"] < 0.05
    assert parity["batch_sizes"] == [2, 3, 8]
    assert parity["int8_batch_max_change"] == 0
    assert 0 <= parity["fp32_max_difference"] < 1e-4


def test_the_parity_texts_go_from_one_word_to_more_than_is_read(kept: Path) -> None:
    """The check has short texts, middling ones, and ones that are cut."""
    encoder = Encoder(kept / "tokenizer.json", 64)
    lengths = [encoder.encode_one(text).num_tokens for text in built_in_texts(encoder)]
    assert min(lengths) <= 4
    assert any(8 < length <= 32 for length in lengths)
    assert max(lengths) > 64


# The options


def test_max_length_and_truncation_are_the_bundles(tmp_path: Path, bert: Path) -> None:
    """--max-length and --truncation are in the manifest, the length in the tokenizer's settings, and both heeded."""
    bundle = _export(bert, tmp_path / "bundle", "--max-length", 16, "--truncation", "error", "--scheme", "fp32")
    manifest = _manifest(bundle)
    assert (manifest["max_length"], manifest["max_positions"], manifest["truncation"]) == (16, 64, "error")
    assert json.loads((bundle / "tokenizer_config.json").read_text())["model_max_length"] == 16
    model = ModelInferer(bundle)
    with pytest.raises(Exception, match="at most 16 are allowed"):
        model.predict(LONG_TEXT)


def test_the_tokenizers_own_limit_is_the_default(tmp_path: Path, bert: Path) -> None:
    """A tokenizer's limit of 20 tokens holds in the bundle, though the architecture has 64 positions."""
    folder = copy_of(bert, tmp_path / "checkpoint")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": 20})
    manifest = _manifest(_export(folder, tmp_path / "bundle", "--scheme", "fp32"))
    assert (manifest["max_length"], manifest["max_positions"]) == (20, 64)


def test_problem_type_by_flag_wins_over_a_silent_checkpoint(tmp_path: Path, bert: Path) -> None:
    """--problem-type is in the bundle's config.json and manifest alike."""
    folder = copy_of(bert, tmp_path / "checkpoint", problem_type=None)
    bundle = _export(folder, tmp_path / "bundle", "--problem-type", MULTI, "--scheme", "fp32")
    assert _manifest(bundle)["problem_type"] == MULTI
    assert json.loads((bundle / "config.json").read_text())["problem_type"] == MULTI


def test_labels_by_config_are_the_bundles(tmp_path: Path, bert: Path) -> None:
    """Names given in the config replace the checkpoint's, in the order of their ids."""
    names = ["Zulu", "alpha", "Mike|pipe"]
    config = write_json(tmp_path / "config.json", {"id2label": {"2": names[2], "0": names[0], "1": names[1]}})
    bundle = _export(bert, tmp_path / "bundle", "--config", config, "--scheme", "fp32")
    written = json.loads((bundle / "config.json").read_text())
    assert written["id2label"] == {"0": "Zulu", "1": "alpha", "2": "Mike|pipe"}
    assert written["label2id"] == {"Zulu": 0, "alpha": 1, "Mike|pipe": 2}
    assert list(ModelInferer(bundle).predict("ok").scores) == names


def test_more_than_ten_labels_in_no_alphabetical_order_keep_their_order(tmp_path: Path) -> None:
    """Twelve labels keep the order of their ids as numbers, and each score has its own name."""
    labels = tuple(f"label {letter}" for letter in "zyxkabmnolpq")
    checkpoint = architectures.write_checkpoint(tmp_path / "twelve", "bert", labels=labels)
    bundle = _export(checkpoint, tmp_path / "bundle", "--scheme", "fp32")
    assert read_bundle(bundle).labels == labels
    expected = architectures.torch_logits(checkpoint, TEXTS)
    model = ModelInferer(bundle)
    for text, logits in zip(TEXTS, expected, strict=True):
        prediction = model.predict(text)
        assert list(prediction.scores) == list(labels)
        assert prediction.label == labels[int(logits.argmax())]
        np.testing.assert_allclose(list(prediction.scores.values()), softmax(logits), atol=1e-5)


def test_thresholds_by_config_are_the_bundles_and_others_are_half(multi: Path) -> None:
    """A multi-label bundle has the thresholds that the config gave, and 0.5 for the other labels."""
    expected = {"retailer": 0.5, "brand": 0.75, "other": 0.5}
    assert _manifest(multi)["thresholds"] == expected
    assert ModelInferer(multi).thresholds == expected


def test_one_threshold_by_config_is_every_labels(tmp_path: Path, bert: Path) -> None:
    """A single number for all labels is written for each of them."""
    config = write_json(tmp_path / "config.json", {"problem_type": MULTI, "threshold": 0.2})
    bundle = _export(bert, tmp_path / "bundle", "--config", config, "--scheme", "fp32")
    assert _manifest(bundle)["thresholds"] == dict.fromkeys(LABELS, 0.2)


def test_a_multi_label_bundle_answers_with_sigmoid_and_its_thresholds(multi: Path, bert: Path) -> None:
    """A multi-label bundle scores by sigmoid, and names labels by its own thresholds."""
    model = ModelInferer(multi)
    expected = 1 / (1 + np.exp(-architectures.torch_logits(bert, TEXTS).astype(np.float64)))
    for text, scores in zip(TEXTS, expected, strict=True):
        prediction = model.predict(text)
        np.testing.assert_allclose(list(prediction.scores.values()), scores, atol=0.03)
        limits = {"retailer": 0.5, "brand": 0.75, "other": 0.5}
        assert set(prediction.labels) == {name for name, score in prediction.scores.items() if score >= limits[name]}
    assert expected.sum(axis=1).min() > 1.2


# The models in it


def test_the_default_is_int8_alone(plain: Path, bert: Path) -> None:
    """The bundle holds int8 alone by default, and asking for fp32 says how to get it."""
    assert not (plain / "model.onnx").exists()
    assert _manifest(plain)["quantization"] == {"scheme": "int8-token", "quantized_matmuls": 12, "kept_fp32": []}
    assert ModelInferer(plain).scheme == "int8-token"
    with pytest.raises(BundleError, match="has no fp32 model .*--keep-fp32"):
        ModelInferer(plain, quantize=False)
    expected = architectures.torch_logits(bert, TEXTS)
    found = np.stack([ModelInferer(plain).logits(text) for text in TEXTS])
    assert 1e-4 < np.abs(found - expected).max() < 0.15


def test_the_same_checkpoint_gives_the_same_int8_model(plain: Path, kept: Path) -> None:
    """Two exports of a checkpoint give the same int8 model, byte for byte."""
    assert (plain / "model_quantized.onnx").read_bytes() == (kept / "model_quantized.onnx").read_bytes()


def test_keep_fp32_has_both_and_quantize_chooses(kept: Path, bert: Path) -> None:
    """With --keep-fp32, quantize=True runs the int8 model and quantize=False the fp32 one."""
    expected = architectures.torch_logits(bert, TEXTS)
    int8 = ModelInferer(config=None, checkpoint_path=kept, quantize=True)
    fp32 = ModelInferer(config=None, checkpoint_path=kept, quantize=False)
    assert (int8.scheme, fp32.scheme) == ("int8-token", "fp32")
    np.testing.assert_allclose(np.stack([fp32.logits(text) for text in TEXTS]), expected, atol=1e-5)
    assert np.abs(np.stack([int8.logits(text) for text in TEXTS]) - expected).max() > 1e-4


def test_scheme_fp32_has_no_int8_model(fp32: Path, bert: Path) -> None:
    """A bundle of scheme fp32 has no int8 model and no figures of one, and runs in fp32 as it is."""
    assert (fp32 / "model.onnx").is_file()
    assert not (fp32 / "model_quantized.onnx").exists()
    manifest = _manifest(fp32)
    assert manifest["quantization"] == {"scheme": "fp32", "quantized_matmuls": 0, "kept_fp32": []}
    assert {manifest["parity"][name] for name in ("int8_max_change", "int8_mean_change", "int8_agreement")} == {None}
    expected = architectures.torch_logits(bert, TEXTS)
    for quantize in (True, False):
        model = ModelInferer(fp32, quantize=quantize)
        assert model.scheme == "fp32"
        np.testing.assert_allclose(np.stack([model.logits(text) for text in TEXTS]), expected, atol=1e-5)


# The tokenizer


def test_padding_and_truncation_in_the_checkpoints_tokenizer_do_not_get_into_the_bundle(
    tmp_path: Path, bert: Path
) -> None:
    """A tokenizer.json that was saved with padding to 48 and a cut at 8 neither pads nor cuts the served texts."""
    folder = copy_of(bert, tmp_path / "checkpoint")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=48)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    bundle = _export(folder, tmp_path / "bundle", "--scheme", "fp32")
    written = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    assert (written["padding"], written["truncation"]) == (None, None)
    prediction = ModelInferer(bundle).predict("not worth the money")
    assert (prediction.num_tokens, prediction.truncated) == (6, False)


# The model card


def test_the_model_card_has_the_labels_in_order(plain: Path) -> None:
    """The card lists every label under its id."""
    assert "| 0 | retailer |\n| 1 | brand |\n| 2 | other |\n" in _card(plain)


def test_the_model_card_has_the_manifests_figures(plain: Path) -> None:
    """The card's figures are those of the manifest."""
    card, parity = _card(plain), _manifest(plain)["parity"]
    assert f"| int8 against fp32, same best label | {parity['int8_agreement']:.1%} |" in card
    assert f"| int8 against fp32, mean change of a score | {parity['int8_mean_change']:.4f} |" in card
    assert f"| int8 against fp32, largest change of a score | {parity['int8_max_change']:.4f} |" in card
    assert f"largest difference of a logit | {parity['fp32_max_difference']:.1e} |" in card
    assert f"Measured at export on {parity['n']} built-in sentences" in card


def test_the_model_card_says_what_the_model_is(plain: Path, multi: Path) -> None:
    """The card tells the kind of model, its architecture, its length, its scheme and its name."""
    card = _card(plain)
    assert card.startswith("---\nlibrary_name: onnx\npipeline_tag: text-classification\n---\n\n# bert\n")
    assert "A single-label text classifier (bert)" in card
    assert "It reads the first 64 tokens" in card
    assert "Scheme: int8-token, 12 int8 matrix products." in card
    assert "A multi-label text classifier (bert)" in _card(multi)


def test_the_model_card_lists_the_models_that_are_there(plain: Path, kept: Path, fp32: Path) -> None:
    """The card lists the model files that are in the bundle, and no others."""
    listed = {
        bundle: {name for name in ("model.onnx", "model_quantized.onnx") if f"| `{name}` | " in _card(bundle)}
        for bundle in (plain, kept, fp32)
    }
    assert listed == {
        plain: {"model_quantized.onnx"},
        kept: {"model.onnx", "model_quantized.onnx"},
        fp32: {"model.onnx"},
    }
    assert 'file_name="model.onnx"' in _card(fp32)
    assert "| int8 against fp32 | not in this bundle |" in _card(fp32)


def test_a_label_with_a_bar_does_not_break_the_cards_table(tmp_path: Path, bert: Path) -> None:
    """A label with | or a line break in it stays in its own row and column of the table."""
    config = read_config({"labels": ["a|b", "two\nlines", "c"]})
    checkpoint: Checkpoint = load_checkpoint(bert, config)
    card = model_card(
        checkpoint,
        {"scheme": "fp32", "quantized_matmuls": 0, "kept_fp32": []},
        Parity(1, (2,), 0.0, None, None, None, None),
        {"m": 1},
        {
            "truncation": "head",
            "guard": None,
            "calibration": None,
            "abstention": None,
            "abstain_threshold": None,
            "thresholds": None,
        },
    )
    assert "| 0 | a\\|b |\n| 1 | two lines |\n| 2 | c |\n" in card
