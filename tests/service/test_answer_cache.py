"""The cache of answers: the same bytes with and without it, bounded memory, and an end with the model."""

from __future__ import annotations

import gc
import random
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inferer import ModelInferer
from inferer.answers.cache import AnswerCache
from inferer.batching import ModelRun
from inferer.errors import TextTooLongError
from inferer.options import CallOptions, Timings
from inferer.scoring import Prediction
from inferer.tokens.texts import TextOrPair
from service.app import create_app
from service.settings import Settings
from tests.service.process.test_reload import hup, label, link, point  # noqa: F401  # link is a fixture
from tests.support.apps import comes_to
from tests.support.server import serving

WORDS = ("good", "bad", "odd")
PLAIN = CallOptions()
RUN = ModelRun(queued=0.0, started=0.5, infer_s=1.0, texts=1, tokens=3)


def prediction(text: TextOrPair, tokens: int = 3) -> Prediction:
    """Return a prediction that tells its text."""
    return Prediction(str(text), 0.5, ("a",), {"a": 0.5, "b": 0.25}, tokens, truncated=False)


class Model:
    """Predicts, and keeps what it was asked."""

    def __init__(self, tokens: int = 3) -> None:
        self.asked: list[TextOrPair] = []
        self.tokens = tokens

    def __call__(self, texts: Sequence[TextOrPair], most: int | None) -> tuple[list[Prediction], Timings]:
        """Return predictions, or an error that names a text called `wrong` or too many tokens."""
        self.asked += texts
        for index, text in enumerate(texts):
            if text == "wrong" or (most is not None and (index + 1) * self.tokens > most):
                raise TextTooLongError(f"{text} of {len(texts)}").at(index)
        return [prediction(text, self.tokens) for text in texts], Timings(runs=[RUN])


def labels(found: Sequence[Prediction]) -> list[str]:
    """Return the texts that the predictions are for."""
    return [one.label for one in found]


def test_a_text_is_computed_once_per_options() -> None:
    """Known texts come from the cache, new ones from the model, in the order of the call; options are a part of it."""
    answers, model = AnswerCache(100_000), Model()
    assert labels(answers.predict(["a", "b", "a"], PLAIN, None, model)[0]) == ["a", "b", "a"]
    found, timings, known = answers.predict(["c", "b", "a"], PLAIN, None, model)
    assert (labels(found), known, timings.infer_s) == (["c", "b", "a"], 2, 1.0)
    found, timings, known = answers.predict(["b", "b"], PLAIN, None, model)
    assert (labels(found), known, timings.infer_s) == (["b", "b"], 2, 0.0)
    assert model.asked == ["a", "b", "c"]
    different: list[CallOptions] = [
        CallOptions(top_k=1),
        CallOptions(truncation="tail"),
        CallOptions(threshold=0.5),
        CallOptions(threshold={"a": 0.5}),
        CallOptions(threshold={"a": 0.6}),
        CallOptions(activation="none"),
    ]
    for options in different:
        assert answers.predict(["a"], options, None, model)[2] == 0
        assert answers.predict(["a"], options, None, model)[2] == 1
    for pair in (("a", "b"), ("b", "a"), ("ab", "")):
        assert answers.predict([pair], PLAIN, None, model)[2] == 0


def test_errors_are_those_of_the_whole_call() -> None:
    """A faulty text keeps its place among known ones, and known tokens count against the limit of a request."""
    answers, model = AnswerCache(100_000), Model(tokens=4)
    answers.predict(["a", "b"], PLAIN, 8, model)
    with pytest.raises(TextTooLongError) as caught:
        answers.predict(["a", "wrong", "b"], PLAIN, None, model)
    assert (caught.value.index, caught.value.problem) == (1, "wrong of 3")
    with pytest.raises(TextTooLongError) as caught:
        answers.predict(["a", "b", "c"], PLAIN, 8, model)
    assert (caught.value.index, caught.value.problem) == (2, "c of 3")
    with pytest.raises(TextTooLongError):
        answers.predict(["a", "b", "a"], PLAIN, 8, model)
    assert answers.predict(["a", "b"], PLAIN, 8, model)[2] == 2


def test_memory_stays_within_the_bound() -> None:
    """The least recently used go first, the estimate covers what Python allocates, and threads keep the bound."""
    changes: list[int] = []
    answers, model = AnswerCache(50_000, changes.append), Model()
    for number in range(40):
        answers.predict([f"text {number}", "kept"], PLAIN, None, model)
    assert max(changes) == answers.bytes <= 50_000
    assert answers.predict(["kept"], PLAIN, None, model)[2] == 1
    assert answers.predict(["text 0"], PLAIN, None, model)[2] == 0
    before = len(answers)
    answers.predict(["x" * 60_000], PLAIN, None, model)
    assert len(answers) == before, "an answer above the bound is not kept, and drives none out"

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            answers.predict([str(rng.randrange(100)) * rng.randrange(1, 50) for _ in range(3)], PLAIN, None, Model())

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(changes) <= 50_000
    assert answers.bytes == sum(size for _, size in answers._entries.values())


@pytest.mark.parametrize("bundle", ["tiny_bundle", "multi_bundle", "rank_bundle"])
def test_the_estimate_covers_the_memory(bundle: str, request: pytest.FixtureRequest) -> None:
    """A cache of a real model's answers allocates no more than it counts."""
    model = ModelInferer(request.getfixturevalue(bundle), intra_op_threads=1)
    answers = AnswerCache(10_000_000)

    def computed(texts: Sequence[TextOrPair], most: int | None) -> tuple[list[Prediction], Timings]:
        return model.predict_timed(texts, CallOptions(activation="none"), None, most)

    gc.collect()
    tracemalloc.start()
    for number in range(2_000):
        text = f"good {number} ö"
        texts: list[TextOrPair] = [(text, text + "b")] if model.text_pair else [text]
        answers.predict(texts, CallOptions(activation="none"), None, computed)
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(answers) == 2_000
    assert allocated <= answers.bytes


def bodies(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return paths and bodies of several contracts, of few texts, some of them faulty."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(12)] + ["", " ", "x" * 300]
    made: list[tuple[str, dict[str, Any]]] = []
    for _ in range(count):
        some = rng.choices(texts, k=rng.randint(1, 4))
        made.append(
            rng.choice(
                [
                    ("/predict", {"texts": some}),
                    ("/predict", {"text": some[0], "top_k": 1}),
                    ("/predict", {"texts": some, "truncation": rng.choice(["tail", "windows", "error"])}),
                    ("/predict", {"instances": some}),
                    ("/predict", {"inputs": some, "parameters": {"function_to_apply": "none"}}),
                    ("/predict", {"text": some[0], "threshold": 0.5}),
                    ("/v1/models/bundle:predict", {"instances": some}),
                ]
            )
        )
    return made


def test_replies_have_the_same_bytes(tiny_bundle: Path) -> None:
    """Over many contracts, options and faults, every reply is that of a service without the cache."""
    model = ModelInferer(tiny_bundle, intra_op_threads=1)
    limits = {"max_text_chars": 200, "max_tokens_per_request": 18, "model_name": "bundle"}
    plain = create_app(Settings(**limits), model)  # type: ignore[arg-type]
    cached = create_app(Settings(cache_bytes=20_000, **limits), model)  # type: ignore[arg-type]
    seen: set[int] = set()
    for path, body in bodies(600):
        replies = [app.test_client().post(path, json=body, headers={"X-Request-Id": "id"}) for app in (plain, cached)]
        one, other = ({name: value for name, value in reply.headers if name != "Server-Timing"} for reply in replies)
        assert one == other
        assert replies[0].get_data() == replies[1].get_data(), body
        assert replies[0].status_code == replies[1].status_code
        seen.add(replies[0].status_code)
    assert seen == {200, 422}
    exposed = cached.extensions["inferer"].metrics.exposition("")[0].decode()
    hits = next(line for line in exposed.splitlines() if line.startswith('inferer_cache_texts_total{outcome="hit"}'))
    assert float(hits.split()[1]) > 100


def test_the_operator_sees_hits(tiny_bundle: Path, tmp_path: Path) -> None:
    """Server-Timing, the log line and /metrics tell of known texts; without the setting none of them does."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_CACHE_BYTES="100000") as server:
        first = server.predict({"texts": ["good", "bad"]})
        assert "cache" not in first.headers["server-timing"]
        again = server.predict({"texts": ["good", "odd"]})
        assert again.headers["server-timing"].endswith('cache;desc="1 of 2"')
        comes_to(server, 1, "inferer_cache_texts_total", outcome="hit")
        comes_to(server, 3, "inferer_cache_texts_total", outcome="miss")
        comes_to(server, 2, "inferer_stage_duration_seconds_count", stage="infer")
        assert server.predict({"text": "odd"}).status == 200
        comes_to(server, 2, "inferer_stage_duration_seconds_count", stage="infer")
        lines = [line["cached"] for line in server.logged() if line.get("route") == "/predict"]
    assert lines == [0, 1, 1]
    with serving(tiny_bundle, tmp_path / "plain") as server:
        for _ in range(2):
            assert "cache" not in server.predict({"text": "good"}).headers["server-timing"]
        comes_to(server, 0, "inferer_cache_bytes")
        assert all("cached" not in line for line in server.logged())


@pytest.mark.slow
def test_a_reload_empties_the_cache(link: Path, tmp_path: Path) -> None:  # noqa: F811
    """After a reload the answer is that of the new bundle."""
    with serving(link, tmp_path / "log", INFERER_CACHE_BYTES="100000") as server:
        assert [label(server) for _ in range(3)] == ["pos"] * 3
        point(link, "other")
        hup(server, f"serving {tmp_path / 'other'} in place of {tmp_path / 'one'}")
        assert {label(server) for _ in range(10)} == {"POS"}
