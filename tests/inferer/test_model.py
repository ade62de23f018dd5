"""ModelInferer: predictions checked by hand, alone, in batches and under threads."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferer import (
    CallerGoneError,
    ConfigError,
    DeadlineError,
    EmptyTextError,
    ModelInferer,
    RunError,
    TextError,
    TextTooLongError,
    TooManyTokensError,
)
from inferer.batching import Cancellation
from inferer.bundle.manifest import MULTI_LABEL
from inferer.options import CallOptions, ExplainOptions
from tests.support import tiny

E2 = math.exp(2)


def test_the_call_of_earlier_projects_works(tiny_bundle: Path) -> None:
    """ModelInferer(config=…, checkpoint_path=…, quantize=True).predict(text) predicts, as in earlier projects."""
    config = {"problem_type": "single_label_classification", "max_seq_length": 8}
    model_infer = ModelInferer(config=config, checkpoint_path=str(tiny_bundle), quantize=True)
    assert model_infer.predict("I hate you from more than you can imagine").num_tokens == 11


def test_scores_are_those_computed_by_hand(model: ModelInferer) -> None:
    """The score of a text is the softmax of the sum of its words' rows."""
    prediction = model.predict("good")
    assert prediction.label == "pos"
    assert prediction.score == pytest.approx(E2 / (E2 + 2), abs=1e-12)
    assert list(prediction.scores) == list(tiny.LABELS)
    assert (prediction.num_tokens, prediction.truncated) == (3, False)


def test_multi_label_scores_and_labels(multi: ModelInferer) -> None:
    """A multi-label model scores by sigmoid, and names the labels that reach their own thresholds."""
    prediction = multi.predict("good bad")
    high = 1 / (1 + math.exp(-2))
    assert prediction.scores == pytest.approx({"pos": high, "neg": high, "other": 0.5})
    assert prediction.labels == ("pos", "other")  # 0.88 is below neg's 0.9, 0.5 is at other's 0.5


def test_threshold_overrides_all_or_one_label(multi: ModelInferer) -> None:
    """A threshold of the call applies to all labels, or to the labels that it names."""
    assert multi.predict("good bad", threshold=0.88).labels == ("pos", "neg")
    assert multi.predict("good bad", threshold={"other": 0.51}).labels == ("pos",)
    assert multi.predict("good bad", threshold=0).labels == ("pos", "neg", "other")


def test_a_cut_is_reported(model: ModelInferer) -> None:
    """A text longer than the model allows is cut; its prediction reports the cut and counts all tokens."""
    prediction = model.predict("plain plain plain plain plain plain good good")
    assert (prediction.num_tokens, prediction.truncated) == (10, True)
    assert prediction.score == pytest.approx(1 / 3)


def test_truncation_error_refuses_a_long_text(model: ModelInferer) -> None:
    """With truncation="error", a text longer than the model allows is refused."""
    with pytest.raises(TextTooLongError, match="10 tokens, at most 8"):
        model.predict("good " * 8, truncation="error")


def test_a_batch_is_predicted_in_order_and_as_alone(model: ModelInferer) -> None:
    """Predictions of a batch are in order, and bit for bit those of each text alone."""
    texts = ["good", "bad bad", "plain", "odd good", "good " * 20]
    assert model.predict_batch(texts) == [model.predict(text) for text in texts]
    assert model.predict_batch(iter(texts), top_k=1) == [model.predict(text, top_k=1) for text in texts]
    assert model.predict_batch([]) == []


def test_a_bad_text_in_a_batch_is_named_by_place(model: ModelInferer) -> None:
    """A bad text in a batch is refused with its place."""
    with pytest.raises(EmptyTextError, match="text 1: the text is empty") as caught:
        model.predict_batch(["good", " ", ""])
    assert caught.value.index == 1


def test_one_str_is_not_a_batch(model: ModelInferer) -> None:
    """A str given to predict_batch is refused, and the error points to predict."""
    with pytest.raises(TextError, match=r"use predict\(text\)"):
        model.predict_batch("good")


def test_a_bar_is_shown_on_request(model: ModelInferer, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar is shown with progress=True, and none without it."""
    model.predict_batch(["good"] * 3)
    assert capsys.readouterr().err == ""
    model.predict_batch(["good"] * 3, progress=True)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"top_k": 0}, "top_k: 0 is not allowed; expected an integer of at least 1"),
        ({"top_k": True}, "top_k: True"),
        ({"top_k": 1.5}, "top_k: 1.5"),
        (
            {"truncation": "middle"},
            "truncation: 'middle' is not allowed; expected one of head, tail, head_tail, windows, error",
        ),
        ({"threshold": 0.5}, "threshold: 0.5 is not allowed; expected none"),
    ],
)
def test_wrong_options_are_named(model: ModelInferer, options: dict[str, Any], problem: str) -> None:
    """A wrong option is refused, with its name and value."""
    with pytest.raises(ConfigError, match=problem):
        model.predict("good", **options)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", True, {"nobody": 0.5}, {"pos": 2}])
def test_wrong_thresholds_are_refused(multi: ModelInferer, threshold: Any) -> None:
    """A threshold other than a number from 0 to 1, or for an unknown label, is refused."""
    with pytest.raises(ConfigError, match="threshold"):
        multi.predict("good", threshold=threshold)


def test_config_overrides_the_bundles_facts(tiny_bundle: Path) -> None:
    """Labels, problem_type, max length and threshold of the config are used instead of the bundle's."""
    config = {"labels": ["x", "y", "z"], "problem_type": "multi_label_classification", "threshold": 0.9}
    model = ModelInferer(tiny_bundle, {**config, "max_length": 4})
    prediction = model.predict("good good bad odd")
    assert (prediction.labels, prediction.truncated) == (("x",), True)
    assert prediction.scores == pytest.approx({"x": 1 / (1 + math.exp(-4)), "y": 0.5, "z": 0.5})


def test_renamed_labels_keep_their_thresholds(multi_bundle: Path) -> None:
    """A label renamed by the config keeps the threshold that the bundle has for it."""
    model = ModelInferer(multi_bundle, {"labels": ["x", "y", "z"]})
    assert model.thresholds == {"x": 0.5, "y": 0.9, "z": 0.5}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"labels": ["a", "b"]}, r"\['a', 'b'\] is not allowed; expected 3 names"),
        ({"max_length": 17}, "config.max_length: 17 is not allowed; expected at most the model's 16"),
        ({"threshold": 0.5}, "config.thresholds: 0.5 is not allowed; expected none for single_label"),
    ],
)
def test_a_config_that_does_not_fit_the_model_is_refused(
    tiny_bundle: Path, config: dict[str, Any], problem: str
) -> None:
    """A config that contradicts the model is refused, and the error names the value."""
    with pytest.raises(ConfigError, match=problem):
        ModelInferer(tiny_bundle, config)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, 2**31])
def test_a_wrong_number_of_threads_is_refused(tiny_bundle: Path, threads: Any) -> None:
    """A number of threads other than an integer of at least 1 is refused."""
    with pytest.raises(ConfigError, match="intra_op_threads"):
        ModelInferer(tiny_bundle, intra_op_threads=threads)


def test_nan_logits_are_an_error(tmp_path: Path) -> None:
    """A text with NaN logits ends in a RunError."""
    table = tiny.TABLE.copy()
    table[4, 0] = np.nan
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=tiny.model(table=table))
    broken = ModelInferer(folder, golden_check="off")
    assert broken.predict("bad").label == "neg"
    with pytest.raises(RunError, match="not finite"):
        broken.predict("good")


def test_a_failed_run_is_an_exception_and_nothing_else(model: ModelInferer, capfd: pytest.CaptureFixture[str]) -> None:
    """Of a failed run onnxruntime writes nothing to stderr, where it would wait for a reader of the log."""
    encoding = model._encoder.encode_one("good")
    beyond = replace(encoding, input_ids=encoding.input_ids + 10**7)
    with pytest.raises(RunError, match="the model run failed: .*out of data bounds"):
        model._session.run(beyond)
    assert capfd.readouterr() == ("", "")


def test_only_declared_inputs_are_fed(tmp_path: Path) -> None:
    """A model that declares some or all of the three inputs runs."""
    for inputs in (("input_ids",), ("input_ids", "attention_mask", "token_type_ids")):
        graph = tiny.model(inputs[:2])
        if len(inputs) == 3:
            extra = graph.graph.input.add()
            extra.CopyFrom(graph.graph.input[1])
            extra.name = "token_type_ids"
        folder = tiny.write_bundle(tmp_path / str(len(inputs)), onnx_model=graph)
        assert ModelInferer(folder).predict("good").label == "pos"


def test_many_threads_get_the_predictions_of_a_text_alone(demo_bundle: Path) -> None:
    """Under 16 threads, every text of a real model gets the prediction that it gets alone."""
    model = ModelInferer(demo_bundle)
    texts = [f"{a} {b}" for a in ("Target", "huggies", "hand bags", "cell phones") for b in range(25)]
    alone = {text: model.predict(text) for text in texts}
    start = threading.Barrier(16)
    wrong: list[str] = []

    def ask(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(texts)
        start.wait()
        wrong.extend(text for text in order if model.predict(str(text)) != alone[str(text)])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    assert wrong == []


# --- calibration, thresholds, abstaining ---------------------------------------------------------------


def test_a_temperature_changes_scores_and_no_label(tmp_path: Path, model: ModelInferer) -> None:
    """A temperature gives the scores of the divided logits, and the same labels."""
    calibrated = ModelInferer(tiny.write_bundle(tmp_path / "b", temperature=2.0))
    cool = calibrated.predict("good good bad")
    exp = np.exp([2.0, 1.0, 0.0])
    assert list(cool.scores.values()) == pytest.approx(list(exp / exp.sum()))
    assert cool.labels == model.predict("good good bad").labels
    assert calibrated.logits("good good bad").tolist() == [4, 2, 0], "logits are the model's own"


def test_platt_scaling_comes_before_the_thresholds(tmp_path: Path) -> None:
    """Each label's threshold applies to its calibrated score."""
    platt = {"pos": {"scale": 1, "bias": -2}, "neg": {"scale": 1, "bias": 1}, "other": {"scale": 1, "bias": 0}}
    folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, platt=platt)
    prediction = ModelInferer(folder).predict("good")  # logits 2, 0, 0
    assert prediction.scores == pytest.approx({"pos": 0.5, "neg": 1 / (1 + np.exp(-1)), "other": 0.5})
    assert (prediction.label, prediction.labels) == ("neg", ("neg", "pos", "other"))


def test_a_model_that_abstains_says_so(tmp_path: Path) -> None:
    """Below its abstain threshold a model names no label, above it the best; both list all scores."""
    model = ModelInferer(tiny.write_bundle(tmp_path / "b", abstain_threshold=0.6))
    unsure, sure = model.predict_batch(["good bad", "good"])
    assert (unsure.labels, unsure.abstained, unsure.label, len(unsure.scores)) == ((), True, "pos", 3)
    assert (sure.labels, sure.abstained) == (("pos",), False)


def test_a_calibrated_bundle_keeps_its_problem_type(tmp_path: Path) -> None:
    """A config cannot change the problem type of a bundle that is calibrated or abstains."""
    for number, fitted in enumerate(({"temperature": 2.0}, {"abstain_threshold": 0.6})):
        folder = tiny.write_bundle(tmp_path / str(number), **fitted)
        with pytest.raises(ConfigError, match="config.problem_type: .*, which this bundle is calibrated for"):
            ModelInferer(folder, {"problem_type": MULTI_LABEL})
        assert ModelInferer(folder, {"labels": ["x", "y", "z"]}).predict("bad").label == "y"


# --- limits of a call -----------------------------------------------------------------------------------


SLOW = ("good " * 4000) * 500  # 2,000,000 tokens in about 2,500 pieces


def test_a_deadline_ends_a_call_between_the_pieces_of_a_text(model: ModelInferer) -> None:
    """A deadline that passes during tokenization ends the call soon after, with the time since its arrival."""
    arrived = time.monotonic() - 5
    for call in (
        lambda limit: model.predict_timed([SLOW], CallOptions(), limit),
        lambda limit: model.explain_timed(SLOW, ExplainOptions(), limit),
    ):
        started = time.monotonic()
        with pytest.raises(DeadlineError) as raised:
            call(Cancellation(started + 0.05, arrived=arrived))
        assert 5.05 <= raised.value.waited_s < 6
        assert time.monotonic() - started < 0.5


def test_a_caller_that_leaves_ends_its_call_between_pieces_and_texts(model: ModelInferer) -> None:
    """A caller that leaves during tokenization ends the call soon after, in one long text or in many short ones."""
    for texts in ([SLOW], ["good bad " * 20] * 200_000):
        left = time.monotonic() + 0.05
        cancellation = Cancellation(is_cancelled=lambda left=left: time.monotonic() > left)
        with pytest.raises(CallerGoneError):
            model.predict_timed(texts, CallOptions(), cancellation)
        assert time.monotonic() < left + 0.5


def test_a_lone_short_text_asks_nothing_before_its_run(model: ModelInferer) -> None:
    """For a short text of an idle model the caller is not asked whether it is there: that costs a system call."""
    asked: list[float] = []
    cancellation = Cancellation(is_cancelled=lambda: bool(asked.append(time.monotonic())))
    model.predict_timed(["good"], CallOptions(), cancellation)
    assert asked == []


def test_the_tokens_of_a_call_are_limited_before_truncation(model: ModelInferer) -> None:
    """A call with more tokens than allowed ends with its count so far, at the text that exceeds the limit."""
    texts = ["good " * 98] * 5  # 100 tokens each
    assert len(model.predict_timed(texts, CallOptions(), max_tokens=500)[0]) == 5
    with pytest.raises(TooManyTokensError, match="text 4: 500 tokens up to here, .* may have 499") as last:
        model.predict_timed(texts, CallOptions(), max_tokens=499)
    assert last.value.index == 4
    started = time.monotonic()
    with pytest.raises(TooManyTokensError, match="text 0: 1[0-9]{4} tokens") as early:
        model.predict_timed([SLOW], CallOptions(), max_tokens=10_000)
    assert early.value.index == 0
    with pytest.raises(TooManyTokensError, match="^1[0-9]{4} tokens"):
        model.explain_timed(SLOW, ExplainOptions(), max_tokens=10_000)
    assert time.monotonic() - started < 0.5


def test_python_callers_have_no_limit_on_tokens(model: ModelInferer) -> None:
    """`predict` and `predict_batch` take texts of any number of tokens, counted exactly."""
    assert model.predict(SLOW).num_tokens == 2_000_002
