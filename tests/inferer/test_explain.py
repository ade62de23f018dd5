"""Contributions of words, checked by hand, in Python, at the terminal and over HTTP."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferer import ModelInferer
from inferer.batching import Cancellation
from inferer.errors import CallerGoneError, ConfigError, EmptyTextError, TextTooLongError
from inferer.explain import Explanation, occlude
from inferer.options import ExplainOptions
from inferer.tokens.encoding import Encoding, Side
from tests.support import tiny
from tests.support.server import Server, run_to_end, serving

WORDS = ("good", "bad", "odd", "plain")
_STRANGE = ("milk", "of", "the", "Huggies,", "(new)", "wet-wipes", "naïve", "x", "😀", "...", "犬の")
_sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)


def softmax(*logits: float) -> list[float]:
    """Return the softmax of three logits, by Python."""
    exp = np.exp(np.array(logits))
    return [float(value) for value in exp / exp.sum()]


def contributions(explanation: Explanation) -> list[tuple[str, float]]:
    """Return each part's text and contribution, rounded for comparison."""
    return [(part.text, pytest.approx(part.contribution, abs=1e-7)) for part in explanation.parts]


def test_contributions_by_hand(model: ModelInferer) -> None:
    """A word's contribution is the label's score less its score without the word."""
    explanation = model.explain("good bad good")
    full, one_less, no_bad = softmax(4, 2, 0)[0], softmax(2, 2, 0)[0], softmax(4, 0, 0)[0]
    assert explanation.label == "pos"
    assert contributions(explanation) == [
        ("good", full - one_less),
        ("bad", full - no_bad),
        ("good", full - one_less),
    ]
    assert [(part.start, part.end, part.words) for part in explanation.parts] == [(0, 4, 1), (5, 8, 1), (9, 13, 1)]


def test_another_label_can_be_explained(model: ModelInferer, multi: ModelInferer) -> None:
    """Contributions are to the label of the call; without one, to the best label."""
    explanation = model.explain("good bad", label="neg")
    assert (explanation.label, explanation.score) == ("neg", model.predict("good bad").scores["neg"])
    assert contributions(explanation)[1] == ("bad", softmax(2, 2, 0)[1] - softmax(2, 0, 0)[1])
    assert multi.explain("good bad bad").label == "neg"
    assert dict(contributions(multi.explain("good bad", label="pos"))) == {"good": 1 / (1 + np.exp(-2)) - 0.5, "bad": 0}


def test_the_only_word_is_compared_with_a_text_without_words(model: ModelInferer) -> None:
    """The only word of a text is compared with a text of special tokens alone."""
    assert contributions(model.explain("good")) == [("good", softmax(2, 0, 0)[0] - 1 / 3)]


@given(_sentences)
def test_each_contribution_is_the_difference_of_two_predictions(model: ModelInferer, words: list[str]) -> None:
    """Each contribution is, bit for bit, the difference of two predictions."""
    text = " ".join(words)
    explanation = model.explain(text)
    assert explanation.prediction == model.predict(text)
    assert [part.text for part in explanation.parts] == words
    for part in explanation.parts:
        rest = (text[: part.start] + text[part.end :]).strip()
        if rest:
            left = model.predict(" ".join(rest.split())).scores[explanation.label]
            assert part.contribution == explanation.score - left


@given(
    st.lists(st.sampled_from(_STRANGE), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_parts_cover_the_text_in_order_and_are_as_few_as_asked(
    demo_model: ModelInferer, words: list[str], max_parts: int
) -> None:
    """Under any limit, parts follow one another without overlap and cover every word that the model got."""
    text = " ".join(words)
    explanation = demo_model.explain(text, max_parts=max_parts)
    parts = explanation.parts
    assert 1 <= len(parts) <= max_parts
    assert all(text[part.start : part.end] == part.text for part in parts)
    assert all(one.end <= following.start for one, following in pairwise(parts))
    if not explanation.prediction.truncated:
        between = [text[one.end : following.start] for one, following in pairwise(parts)]
        assert "".join((text[: parts[0].start], *between, text[parts[-1].end :])).strip() == ""
    assert explanation.score == demo_model.predict(text).scores[explanation.label]


@pytest.fixture(scope="module")
def demo_model(demo_bundle: Path) -> ModelInferer:
    """The demo's model."""
    return ModelInferer(demo_bundle)


def test_words_of_the_largest_effect_are_parts_of_their_own(tmp_path: Path) -> None:
    """With few parts, the words of the largest effect are left out alone and the others together."""
    model = ModelInferer(tiny.write_bundle(tmp_path / "long", max_length=16))
    text = "plain plain plain good plain plain plain plain bad plain"
    few = [(part.text, part.words, part.contribution != 0) for part in model.explain(text, max_parts=3).parts]
    assert few == [("plain plain plain", 3, False), ("good", 1, True), ("plain plain plain plain bad plain", 6, True)]
    more = [part.text for part in model.explain(text, max_parts=5).parts]
    assert more == ["plain plain plain", "good", "plain plain plain plain", "bad", "plain"]
    assert [part.words for part in model.explain(text, max_parts=1).parts] == [10]


def test_by_default_twenty_words_are_twenty_parts(demo_model: ModelInferer) -> None:
    """By default a text of twenty words has twenty parts, a longer one nine."""
    assert len(demo_model.explain("milk bread " * 10).parts) == 20
    assert len(demo_model.explain("milk bread " * 10 + "milk").parts) == 9


def test_a_text_can_have_a_part_per_word(demo_model: ModelInferer) -> None:
    """A text of 300 words can have 200 parts, and 300."""
    text = "milk bread " * 150
    parts = demo_model.explain(text, truncation="windows", max_parts=200).parts
    assert len(parts) > 128
    assert sum(part.words for part in parts) == 300
    assert len(demo_model.explain(text, truncation="windows", max_parts=300).parts) == 300


def test_runs_are_bounded_and_stated(demo_model: ModelInferer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the text, the cost is one text per part, the whole, and at most 129 short ones; it is reported."""
    explanation = demo_model.explain("milk and bread " * 300, truncation="windows", max_parts=4)
    windows = explanation.prediction.windows
    assert windows is not None
    most_of_a_part = 129 + windows + 4 * windows
    assert len(explanation.parts) <= 4
    assert explanation.runs <= most_of_a_part
    assert sum(part.words for part in explanation.parts) == 900
    runs: list[tuple[int, int]] = []
    monkeypatch.setattr(demo_model.batcher, "on_run", lambda texts, tokens: runs.append((texts, tokens)))
    explanation = demo_model.explain("milk and bread", max_parts=3)
    assert explanation.runs == sum(texts for texts, _ in runs) == 4
    assert explanation.tokens == sum(tokens for _, tokens in runs) == 5 + 3 * 4


def test_windows_without_the_words_are_not_run_again(model: ModelInferer) -> None:
    """In windows, leaving out a word runs the windows with that word; the others keep their logits."""
    text = "good good good good good bad bad"  # two windows: 5 good, 1 bad; good, bad, bad
    explanation = model.explain(text, truncation="windows")
    assert explanation.prediction == model.predict(text, truncation="windows")
    first = np.array([8, 2, 0]) * 5 + np.array([2, 4, 0]) * 3
    assert explanation.parts[0].contribution == pytest.approx(explanation.score - softmax(*first / 8)[0], abs=1e-6)
    assert explanation.runs == 2 + 7 + 2  # both windows; one a word, but both for the two words that both have


def test_a_window_that_loses_all_its_words_is_not_pooled(tmp_path: Path) -> None:
    """A window without words is not pooled, so the logits of special tokens alone have no effect."""
    table = tiny.TABLE.copy()
    table[4:] -= 3  # so that special tokens alone, at 0, would be the highest
    windows = {"overlap": 0, "pooling": "max"}
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=tiny.model(table=table), windows=windows)
    model = ModelInferer(folder, golden_check="off")
    explanation = model.explain("good good good good good good bad", truncation="windows")
    assert explanation.prediction.windows == 2
    assert contributions(explanation)[-1] == ("bad", softmax(-3, -1, -3)[1] - softmax(-6, -18, -18)[1])


def test_words_cut_by_truncation_are_in_no_part(model: ModelInferer) -> None:
    """Words cut by truncation are in no part, and the explanation reports the cut."""
    explanation = model.explain("good bad odd good bad odd plain plain", truncation="head")
    assert [part.text for part in explanation.parts] == ["good", "bad", "odd", "good", "bad", "odd"]
    reply = explanation.as_dict()
    assert (reply["truncated"], reply["num_tokens"]) == (True, 10)
    tail = model.explain("good bad odd good bad odd plain plain", truncation="head_tail")
    assert [part.start for part in tail.parts][:3] == [0, 5, 18], "the words in the gap are in no part"
    last = model.explain("good bad odd good bad odd plain plain", truncation="tail")
    assert [part.text for part in last.parts] == ["odd", "good", "bad", "odd", "plain", "plain"]


def test_words_of_a_script_without_blanks_are_characters(demo_model: ModelInferer) -> None:
    """Chinese and Japanese are divided into characters, other scripts at white space; punctuation joins its word."""
    assert [part.text for part in demo_model.explain("猫が好き!").parts] == ["猫", "が", "好", "き!"]
    assert [part.text for part in demo_model.explain("it's good , really !").parts] == ["it's", "good ,", "really !"]


def test_words_that_share_a_token_are_one_part(model: ModelInferer, tmp_path: Path) -> None:
    """Words that share a token are left out together, and the parts still cover the text."""
    assert [(part.text, part.words) for part in model.explain("good 犬の家 bad").parts] == [
        ("good", 1), ("犬の家", 3), ("bad", 1),
    ]  # fmt: skip


def test_a_part_does_not_span_the_cut_in_the_middle(model: ModelInferer, demo_model: ModelInferer) -> None:
    """With head_tail no part spans the cut in the middle, so there may be one part more."""
    text = "who is " + "milk " * 2000 + "the end"
    for most in (1, 2, 5, 70):
        parts = demo_model.explain(text, truncation="head_tail", max_parts=most).parts
        assert len(parts) <= max(most, 2)
        assert all(part.words == len(part.text.split()) for part in parts)
        assert sum(part.words for part in parts) == 62


def test_words_that_the_tokenizer_drops_cost_nothing(demo_model: ModelInferer) -> None:
    """Words without a token add no run, however many there are."""
    explanation = demo_model.explain("a \u200b " * 4000, truncation="windows", max_parts=2)
    windows = explanation.prediction.windows
    assert windows is not None
    assert explanation.runs <= windows + 129 + 2 * windows


def test_an_explanation_stops_when_its_caller_leaves(demo_model: ModelInferer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run of an explanation begins after its caller has left."""
    runs: list[int] = []
    monkeypatch.setattr(demo_model.batcher, "on_run", lambda texts, _: runs.append(texts))
    with pytest.raises(CallerGoneError):
        demo_model.explain_timed(
            "milk " * 600, ExplainOptions(truncation="windows"), Cancellation(is_cancelled=lambda: len(runs) >= 3)
        )
    assert len(runs) == 3


def test_a_calibrated_models_contributions_are_of_its_scores(tmp_path: Path) -> None:
    """With a temperature, contributions are differences of the calibrated scores."""
    model = ModelInferer(tiny.write_bundle(tmp_path / "b", temperature=2.0))
    assert contributions(model.explain("good bad")) == [
        ("good", softmax(1, 1, 0)[0] - softmax(0, 1, 0)[0]),
        ("bad", softmax(1, 1, 0)[0] - softmax(1, 0, 0)[0]),
    ]


def test_wrong_options_are_named(model: ModelInferer) -> None:
    """An unknown label, a wrong number of parts and an empty text are refused by name."""
    with pytest.raises(ConfigError, match="label: 'best' is not allowed; expected one of the labels pos, neg, other"):
        model.explain("good", label="best")
    for most in (0, True, 1.5):
        with pytest.raises(ConfigError, match=f"max_parts: {most} is not allowed; expected an integer of at least 1"):
            model.explain("good", max_parts=most)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="truncation: 'middle'"):
        model.explain("good", truncation="middle")
    with pytest.raises(EmptyTextError):
        model.explain(" ")
    with pytest.raises(TextTooLongError, match="10 tokens, at most 8"):
        model.explain("good " * 8, truncation="error")


# --- the picture ---------------------------------------------------------------------------------------


def run(bundle: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of `python -m inferer`."""
    done = run_to_end(sys.executable, "-m", "inferer", str(bundle), *arguments)
    return done.returncode, done.stdout, done.stderr


def test_a_person_sees_bars_to_both_sides(tiny_bundle: Path) -> None:
    """The picture has one line per part, in order, with bars to scale: supporting words to the right, others left."""
    code, out, err = run(tiny_bundle, "--explain", "good bad good plain")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "good bad good plain"
    assert lines[1].startswith(" pos 86.68%; ")
    bars = [line.rpartition("│") for line in lines[2:6]]
    assert [line.split()[0] for line in lines[2:6]] == ["good", "bad", "good", "plain"]
    assert [right.count("█") for _, _, right in bars] == [18, 0, 18, 0]
    assert [left.count("░") for left, _, _ in bars] == [0, 4, 0, 0]
    assert lines[6] == "   occlusion: 5 runs, 26 tokens"
    assert max(map(len, lines)) <= 80


def test_a_person_is_told_how_to_see_more(tiny_bundle: Path) -> None:
    """The picture names the option that separates words only when words were left out together."""
    _, out, _ = run(tiny_bundle, "--explain", "--max-parts", "2", "good plain plain plain")
    assert out.splitlines()[-1].partition("tokens; ")[2].startswith("--max-parts 4 ")
    assert len(out.splitlines()[-1]) <= 80
    assert "max-parts" not in run(tiny_bundle, "--explain", "--max-parts", "4", "good plain plain plain")[1]


def test_a_program_gets_the_explanation_of_the_api(tiny_bundle: Path, model: ModelInferer) -> None:
    """--explain --json prints the same object as POST /explain, for the label and the parts of the call."""
    code, out, _ = run(tiny_bundle, "--explain", "--json", "--label", "neg", "--max-parts", "2", "good bad odd")
    assert code == 0
    assert json.loads(out) == model.explain("good bad odd", label="neg", max_parts=2).as_dict()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--label", "neg"), "--label needs --explain"),
        (("--max-parts", "3"), "--max-parts needs --explain"),
        (("--explain", "--top-k", "1"), "--top-k does not go with --explain"),
        (("--explain", "--label", "best"), "label: 'best' is not allowed; expected one of the labels pos, neg, other"),
        (("--explain", "--max-parts", "0"), "max_parts: 0 is not allowed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny_bundle: Path, arguments: tuple[str, ...], words: str) -> None:
    """An option without effect in this call ends it with code 2 and a line that names the option."""
    code, out, err = run(tiny_bundle, "good", *arguments)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]


# --- HTTP ----------------------------------------------------------------------------------------------


def explain(server: Server, body: object) -> tuple[int, dict[str, object]]:
    """POST `body` to /explain; return status and body."""
    reply = server.request("POST", "/explain", json.dumps(body), content_type="application/json")
    return reply.status, reply.json()


def test_the_api_explains_as_python_does(server: Server, model: ModelInferer) -> None:
    """POST /explain returns the result of ModelInferer.explain, key by key, and its timings."""
    body = json.dumps({"text": "good bad odd", "label": "neg", "max_parts": 2, "truncation": "head_tail"})
    reply = server.request("POST", "/explain", body, content_type="application/json")
    assert reply.status == 200
    given = reply.json()
    assert given == model.explain("good bad odd", label="neg", max_parts=2, truncation="head_tail").as_dict()
    assert list(given) == ["label", "score", "method", "parts", "cost", "num_tokens", "truncated"]
    assert given["method"] == "occlusion"
    assert list(given["parts"][0]) == ["text", "start", "end", "words", "contribution"]
    assert reply.headers["server-timing"].startswith("queue;dur=")
    assert explain(server, {"text": "good"}) == (200, model.explain("good", max_parts=4).as_dict())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "text"),
        (
            {"texts": ["good"]},
            "field 'texts': ['good']: unknown field; allowed are text, text_pair, label, truncation, max_parts",
        ),
        ({"text": ""}, "field 'text': the text is empty"),
        ({"text": "x" * 1001}, "field 'text': has 1001 characters, at most 1000 are allowed"),
        ({"text": "good", "label": "best"}, "field 'label': 'best' is not allowed; expected one of the labels pos"),
        ({"text": "good", "label": 1}, "field 'label': 1: Expected str"),
        ({"text": "good", "truncation": "middle"}, "field 'truncation': 'middle' is not allowed"),
        ({"text": "good", "max_parts": 0}, "field 'max_parts': 0: Expected int >= 1"),
        ({"text": "good", "max_parts": 5}, "field 'max_parts': 5 is not allowed; expected at most 4"),
        ({"text": "good " * 8, "truncation": "error"}, "field 'text': the text has 10 tokens"),
    ],
)
def test_the_api_refuses_by_field(server: Server, body: object, words: str) -> None:
    """A wrong request gets 422, naming the field, its value and the allowed values."""
    status, error = explain(server, body)
    assert (status, error["error_type"]) == (422, "Validation")
    assert words in str(error["error"])


def test_an_explanation_keeps_the_services_rules(tiny_bundle: Path, tmp_path: Path) -> None:
    """API key, deadline header, content type and method hold for /explain as for /predict."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="k") as server:
        body = json.dumps({"text": "good"})
        key = {"authorization": "Bearer k", "content_type": "application/json"}
        assert server.request("POST", "/explain", body, content_type="application/json").status == 401
        assert server.request("POST", "/explain", body, **key).status == 200
        assert server.request("POST", "/explain", body, x_request_timeout_ms="x", **key).status == 422
        assert server.request("POST", "/explain", body, authorization="Bearer k").status == 415
        assert server.request("GET", "/explain", **key).status == 405


def test_tokens_of_white_space_alone_have_no_parts() -> None:
    """A text of which the model sees white space alone, as the head of a text may be, has no word to leave out."""
    ids = np.array([1, 5, 5, 2], dtype=np.int32)
    ones = np.ones(4, dtype=np.int64)
    spans = np.array([(0, 0), (0, 1), (1, 2), (0, 0)], dtype=np.int32)
    encoding = Encoding(ids, ones, 0 * ones, 5, (Side(3, truncated=True, first=1, kept=2),), spans)
    assert occlude(["\n\nhello"], [encoding], lambda _: [], 0, None) == []
