"""The golden check: on the serving CPU, stored texts must get the scores that they had at export."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from inferer import BundleError, ConfigError, GoldenCheckError, ModelInferer, read_bundle, verified_session
from inferer.bundle.golden import GoldenCheck, compare
from inferer.bundle.manifest import MULTI_LABEL
from inferer.bundle.reader import FP32
from inferer.session import Session
from inferer.tokens.encoding import Encoding
from inferer.verified_session import load
from tests.support import tiny

ALTERED = [{**tiny.GOLDEN[0], "int8": [0.0, 2.0, 0.0]}, *tiny.GOLDEN[1:]]


# Comparing


@pytest.mark.parametrize(
    ("stored", "found", "expected"),
    [
        ([0.7, 0.3], [0.7, 0.3], GoldenCheck("passed", 1, 0, 0, 0.0)),
        ([0.7, 0.3], [0.6875, 0.3125], GoldenCheck("passed", 1, 0, 0, 0.0125)),
        ([0.75, 0.25], [0.71875, 0.28125], GoldenCheck("failed", 1, 1, 0, 0.03125)),
        ([0.504, 0.496], [0.496, 0.504], GoldenCheck("failed", 1, 1, 1, 0.008)),
        ([0.9, 0.8], [0.9, 0.75], GoldenCheck("failed", 1, 1, 0, 0.05)),
        ([0.9, 0.1], [math.nan, 0.1], GoldenCheck("failed", 1, 1, 0, 1.0)),
        ([0.9], [0.885], GoldenCheck("passed", 1, 0, 0, 0.015)),
    ],
)
def test_a_text_passes_with_the_same_label_and_scores_within_two_hundredths(
    stored: list[float], found: list[float], expected: GoldenCheck
) -> None:
    """A text passes exactly when its best label is the stored one and no score differs by more than 0.02."""
    outcome = compare([(stored, found)])
    assert outcome.largest_difference == pytest.approx(expected.largest_difference)
    assert outcome.as_dict() == {**expected.as_dict(), "largest_difference": outcome.largest_difference}


def test_results_are_summed_over_the_texts() -> None:
    """Failed texts and other best labels are counted over all texts, and the largest difference is kept."""
    same, off, other = ([0.7, 0.3],) * 2, ([0.7, 0.3], [0.6, 0.4]), ([0.7, 0.3], [0.2, 0.8])
    outcome = compare([same, off, other, same])
    assert (outcome.texts, outcome.differing, outcome.other_label) == (4, 2, 1)
    assert str(outcome) == (
        "golden check failed on 2 of 4 texts: 1 with another best label, scores differ by up to 0.5000 (0.02 allowed)"
    )


# A bundle on this CPU


def test_a_good_bundle_passes_on_all_its_texts(model: ModelInferer) -> None:
    """A good bundle passes on all of its texts, with no difference."""
    assert model.golden_check == GoldenCheck("passed", 4, 0, 0, 0.0)
    assert str(model.golden_check) == "golden check passed on 4 texts, scores differ by at most 0.0000"


def test_a_bundle_with_other_scores_is_refused_with_the_remedies(tmp_path: Path) -> None:
    """A bundle with other scores is refused, with the counts, the differences, both CPUs and the remedies."""
    machine = {"architecture": "x86_64", "cpu_flags": ["avx2", "amx_int8"]}
    folder = tiny.write_bundle(tmp_path / "b", golden=ALTERED, machine=machine)
    with pytest.raises(GoldenCheckError) as caught:
        ModelInferer(folder)
    message = str(caught.value)
    assert "golden check failed on 1 of 4 texts: 1 with another best label, scores differ by up to 0.6805" in message
    assert "CPU flags here: " in message
    assert "where it was exported: avx2 amx_int8; export it on this kind of CPU, serve fp32" in message
    assert "INFERER_GOLDEN_CHECK=warn" in message
    assert "\n" not in message


@pytest.mark.parametrize("machine", [None, [], {}, {"cpu_flags": None}, {"cpu_flags": [1, None]}])
def test_a_failed_check_is_reported_without_cpu_flags(tmp_path: Path, machine: Any) -> None:
    """Whatever the manifest holds about the exporting machine, a failed check is reported."""
    folder = tiny.write_bundle(tmp_path / "b", golden=ALTERED, machine=machine)
    with pytest.raises(GoldenCheckError, match="golden check failed on 1 of 4"):
        ModelInferer(folder)


def test_warn_logs_one_line_and_predicts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With golden_check="warn" a failed check is one warning in the log and no other output, and the model predicts."""
    folder = tiny.write_bundle(tmp_path / "b", golden=ALTERED)
    model = ModelInferer(folder, golden_check="warn")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("inferer", logging.WARNING)
    assert "golden check failed on 1 of 4" in record.getMessage()
    assert capfd.readouterr() == ("", "")
    assert (model.golden_check.outcome, model.golden_check.differing) == ("failed", 1)
    assert model.predict("good").label == "pos"


def test_off_runs_none_of_the_texts(tmp_path: Path) -> None:
    """With golden_check="off" no stored text is run, and the model predicts."""
    unreadable = [{**tiny.GOLDEN[0], "text": "\ud800"}]
    model = ModelInferer(tiny.write_bundle(tmp_path / "b", golden=unreadable), golden_check="off")
    assert model.golden_check == GoldenCheck("off")
    assert str(model.golden_check) == "golden check off"
    assert model.predict("good").label == "pos"


@pytest.mark.parametrize("value", ["on", "", None, True])
def test_another_mode_is_refused(tiny_bundle: Path, value: Any) -> None:
    """Any other golden_check is refused, with the three modes."""
    with pytest.raises(ConfigError, match="golden_check: .* is not allowed; expected one of enforce, warn, off"):
        ModelInferer(tiny_bundle, golden_check=value)


def test_a_config_does_not_disturb_the_check(tmp_path: Path) -> None:
    """Overrides by config, and a temperature, change nothing in the check."""
    config = {"labels": ["x", "y", "z"], "max_length": 4}
    passed = GoldenCheck("passed", 4, 0, 0, 0.0)
    folder = tiny.write_bundle(tmp_path / "a")
    assert ModelInferer(folder, {**config, "problem_type": MULTI_LABEL}).golden_check == passed
    assert ModelInferer(tiny.write_bundle(tmp_path / "b", temperature=3.0), config).golden_check == passed


def test_a_temperature_hides_no_difference(tmp_path: Path) -> None:
    """Scores are compared at temperature 1, so a temperature cannot hide a difference."""
    golden = [{**tiny.GOLDEN[0], "int8": [2.2, 0.0, 0.0]}]
    folder = tiny.write_bundle(tmp_path / "b", temperature=3.0, golden=golden)
    with pytest.raises(GoldenCheckError, match="scores differ by up to 0.0316"):
        ModelInferer(folder)


def test_a_multi_label_bundle_is_compared_by_sigmoid(tmp_path: Path) -> None:
    """In a multi-label bundle, a difference in one label's sigmoid is found."""
    golden = [{**tiny.GOLDEN[0], "int8": [2.0, 0.0, 0.2]}]
    folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, golden=golden)
    with pytest.raises(GoldenCheckError, match="0 with another best label, scores differ by up to 0.0498"):
        ModelInferer(folder)


def test_fp32_is_compared_with_its_own_logits(tmp_path: Path) -> None:
    """quantize=False checks the fp32 logits, and quantize=True the int8 logits."""
    folder = tiny.write_bundle(tmp_path / "b", golden=ALTERED)
    (folder / "model.onnx").write_bytes(tiny.model().SerializeToString())
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    assert ModelInferer(folder, quantize=False).golden_check.outcome == "passed"
    with pytest.raises(GoldenCheckError):
        ModelInferer(folder, quantize=True)


def test_a_model_that_gives_nan_fails(tmp_path: Path) -> None:
    """NaN in the place of a number fails the check."""
    table = tiny.TABLE.copy()
    table[4, 0] = np.nan
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=tiny.model(table=table))
    with pytest.raises(GoldenCheckError, match="failed on 3 of 4 texts: .* differ by up to 1.0000"):
        ModelInferer(folder)


def test_a_text_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """An invalid golden text is refused as the bundle's fault, and shown."""
    folder = tiny.write_bundle(tmp_path / "b", golden=[{**tiny.GOLDEN[0], "text": "\ud800"}])
    with pytest.raises(BundleError, match=r"the golden text '\\ud800' cannot be run: the text has a lone surrogate"):
        ModelInferer(folder)


# A tokenizer that is not the model's


def test_a_tokenizer_with_an_id_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    """A tokenizer with more words than the model, though its hash is right, is refused, and the word is named."""
    folder = tiny.write_bundle(tmp_path / "b")
    more = tiny.tokenizer()
    more.add_tokens(["surplus"])
    more.save(str(folder / "tokenizer.json"))
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    with pytest.raises(BundleError, match=r"tokenizer.json has the id 8 \('surplus'\), .* embeddings for 0 to 7"):
        ModelInferer(folder, golden_check="off")


def test_a_tokenizer_with_the_words_in_another_order_fails_the_check(tmp_path: Path) -> None:
    """A tokenizer of the same size with other ids, though its hash is right, fails the golden check."""
    folder = tiny.write_bundle(tmp_path / "b")
    words = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (folder / "tokenizer.json").write_text(json.dumps(words))
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    with pytest.raises(GoldenCheckError, match="golden check failed on 4 of 4 texts: 3 with"):
        ModelInferer(folder)


# Exact mode


class Fake:
    """A session with right logits in exact mode alone, or never; `allowed` False denies exact mode.

    operators: it has native operators, and is right without them.
    """

    def __init__(
        self, exact: bool, native: bool, *, helps: bool = True, allowed: bool = True, operators: bool = False
    ) -> None:
        self.exact = exact and allowed
        self.native = native and operators
        self.right = (self.exact and helps) or (operators and not native)

    def run(self, encoding: Encoding) -> np.ndarray:
        """Return the logits of the table, reversed unless the session is right."""
        logits: np.ndarray = tiny.TABLE[encoding.input_ids].sum(axis=0)
        return logits if self.right else logits[::-1]

    def run_batch(self, encodings: Sequence[Encoding]) -> np.ndarray:
        """Return the logits of several texts."""
        return np.array([self.run(encoding) for encoding in encodings])


def made(bundle: Path, mode: str = "enforce", scheme: str = "int8-tensor", **how: bool) -> verified_session.Loaded:
    """Load `bundle` with fake sessions."""
    return load(read_bundle(bundle), scheme, mode, make(how))


def make(how: dict[str, bool]) -> Any:
    """Return a maker of fake sessions."""
    return lambda exact, native=True: Fake(exact, native, **how)


def test_a_failed_check_is_tried_again_exactly(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 that fails on x86-64 is loaded again in exact mode, which serves when it passes."""
    monkeypatch.setattr(verified_session, "is_x86_64", lambda: True)
    session, exact_because, found, _ = made(tiny_bundle)
    assert session.exact
    assert exact_because == "the golden check failed without"
    assert found.outcome == "passed"


def test_a_failed_check_is_tried_again_without_the_native_operators(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that fails with the native operators runs without them, with a line in the log."""
    session, exact_because, found, _ = made(tiny_bundle, operators=True)
    assert (session.native, session.exact, exact_because, found.outcome) == (False, False, None, "passed")
    (line,) = caplog.messages
    assert line.startswith("golden check failed on 3 of 4 texts")
    assert line.endswith("with the native operators; the model runs without them, slower")


@pytest.mark.parametrize(
    ("x86", "scheme", "how", "words"),
    [
        (True, "int8-tensor", {"helps": False}, "exact int8 arithmetic did not help; CPU flags"),
        (True, "int8-tensor", {"allowed": False}, "this model allows no exact int8 arithmetic; CPU flags"),
        (False, "int8-tensor", {}, r"\(0.02 allowed\); CPU flags"),
        (True, FP32, {}, r"\(0.02 allowed\); CPU flags"),
    ],
)
def test_a_bundle_that_exact_mode_cannot_help_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, x86: bool, scheme: str, how: dict[str, bool], words: str
) -> None:
    """Exact mode is tried for int8 on x86-64 alone; when it does not pass, the bundle is refused."""
    monkeypatch.setattr(verified_session, "is_x86_64", lambda: x86)
    with pytest.raises(GoldenCheckError, match=words):
        made(tiny_bundle, scheme=scheme, **how)
    session, exact_because, found, _ = made(tiny_bundle, "warn", scheme, **how)
    assert (session.exact, exact_because, found.outcome) == (False, None, "failed")


def test_a_cpu_without_vnni_computes_exactly_from_the_start(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU without VNNI an int8 model is exact and says why; fp32 is not exact, nor int8 on a CPU with VNNI."""
    given: list[str] = []
    real = onnxruntime.InferenceSession

    def spy(path: str, options: Any, **arguments: Any) -> Any:
        try:
            given.append(options.get_session_config_entry("session.x64quantprecision"))
        except RuntimeError:  # not set
            given.append("")
        return real(path, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    monkeypatch.setattr("inferer.session.int8_may_saturate", lambda: False)
    assert ModelInferer(tiny_bundle).exact_because is None
    monkeypatch.setattr("inferer.session.int8_may_saturate", lambda: True)
    assert ModelInferer(tiny_bundle).exact_because == "this CPU shows no VNNI instructions"
    assert ModelInferer(tiny_bundle, golden_check="off").exact_because == "this CPU shows no VNNI instructions"
    assert given == ["", "1", "1"]
    fp32 = [{**entry, "int8": None} for entry in tiny.GOLDEN]
    folder = tiny.write_bundle(tmp_path / "b", quantization={"scheme": FP32}, golden=fp32)
    (folder / "model_quantized.onnx").rename(folder / "model.onnx")
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    assert ModelInferer(folder).exact_because is None


def test_a_model_that_cannot_be_exact_is_run_as_it_is(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that onnxruntime rejects in exact mode alone is loaded without it, and says so."""
    real = onnxruntime.InferenceSession

    def refuse(path: str, options: Any, **arguments: Any) -> Any:
        try:
            exact = options.get_session_config_entry("session.x64quantprecision") == "1"
        except RuntimeError:
            exact = False
        if exact:
            raise RuntimeError("Attempt to replace the existing tensor")
        return real(path, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    assert not Session(tiny_bundle / "model_quantized.onnx", 1, exact=True).exact
