"""Checkpoints of pairs and of one number, exported for real: torch's scores, activations, the guard, and refusals."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from export.errors import ExportError
from export.guard.numbers import compare_numbers
from export.predictions import DecisionRule, Predictions, predictions_from_logits
from inferer import ModelInferer, read_bundle
from service.app import create_app
from service.settings import Settings
from tests.export.checkpoints.environments import python_with
from tests.support import architectures
from tests.support.architectures import LONG_TEXT, TESTED, TEXTS, copy_of, run_export, write_checkpoint, write_json
from tests.support.server import run_to_end
from training.model.tokenizer_file import read_tokenizer

PAIRS = [*zip(TEXTS, TEXTS[::-1], strict=True), (TEXTS[1], LONG_TEXT), (LONG_TEXT, TEXTS[2]), (LONG_TEXT, LONG_TEXT)]
_SIGMOID, _IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with one logit that states no problem type, as rerankers are published."""
    return write_checkpoint(
        tmp_path_factory.mktemp("reranker") / "bert", "bert", labels=("LABEL_0",), problem_type=None
    )


def torch_logits(folder: Path) -> np.ndarray:
    """Return transformers' logits [pairs, labels] of the checkpoint in `folder`."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), read_tokenizer(folder)
    taken = {"input_ids", "attention_mask", "token_type_ids"} & set(inspect.signature(model.forward).parameters)
    rows = []
    for first, second in PAIRS:
        inputs = tokenizer(first, second, truncation="longest_first", max_length=64, return_tensors="pt")
        with torch.no_grad():
            rows.append(model.eval()(**{name: inputs[name] for name in taken & set(inputs)}).logits.numpy()[0])
    return np.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TESTED)
def test_a_pair_has_the_scores_of_torch(architecture: str, tmp_path: Path) -> None:
    """Every promised architecture reads pairs, long ones too, and gives torch's logits; int8 bits stay in batches."""
    folder = write_checkpoint(tmp_path / "checkpoint", architecture, labels=("LABEL_0",), problem_type=None)
    assert run_export(folder, tmp_path / "bundle", "--text-pair", "--keep-fp32", "--max-length", 64) == 0
    fp32 = ModelInferer(tmp_path / "bundle", quantize=False, intra_op_threads=1)
    expected = torch_logits(folder)
    found = np.stack([fp32.logits(*pair) for pair in PAIRS])
    assert found == pytest.approx(expected, abs=1e-4)
    assert [one.score for one in fp32.predict_batch(PAIRS)] == pytest.approx(
        (1 / (1 + np.exp(-expected)))[:, 0], abs=1e-4
    )
    int8 = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    assert [one.score for one in int8.predict_batch(PAIRS * 2)] == [int8.predict(*pair).score for pair in PAIRS] * 2
    assert int8.golden_check.outcome == "passed"


@pytest.mark.parametrize(
    ("config", "file", "activation"),
    [
        ({}, None, "sigmoid"),
        ({"problem_type": "regression"}, None, "none"),
        ({"sbert_ce_default_activation_function": _IDENTITY}, None, "none"),
        ({"sbert_ce_default_activation_function": _SIGMOID, "problem_type": "regression"}, None, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": _IDENTITY, "version": "4.1.0"}}, None, "none"),
        ({}, {"model_type": "CrossEncoder", "activation_fn": _IDENTITY}, "none"),
        ({}, {"model_type": "SentenceTransformer"}, "sigmoid"),
    ],
)
def test_the_activation_of_one_number(
    reranker: Path, tmp_path: Path, config: dict[str, Any], file: dict[str, Any] | None, activation: str
) -> None:
    """One logit is a sigmoid unless the checkpoint says otherwise, in each place where CrossEncoder may say it."""
    folder = copy_of(reranker, tmp_path / "checkpoint", **config)
    if file is not None:
        write_json(folder / "config_sentence_transformers.json", file)
    assert run_export(folder, tmp_path / "bundle", "--scheme", "fp32") == 0
    bundle = read_bundle(tmp_path / "bundle")
    noted = bool(set(config) - {"problem_type"}) or (file or {}).get("model_type") == "CrossEncoder"
    assert (bundle.problem_type, bundle.activation, bundle.text_pair) == ("regression", activation, noted)
    model = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    texts = ("ok", "hand bags") if noted else ("ok",)
    logit = float(model.logits(*texts)[0])
    assert model.predict(*texts).score == pytest.approx(logit if activation == "none" else 1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
            (),
            "sentence_transformers.activation_fn is 'torch.nn.modules.activation.Tanh', which is not served",
        ),
        ({"inferer_activation": "relu"}, (), "inferer_activation is 'relu' in config.json, expected none or sigmoid"),
        ({"problem_type": "single_label_classification"}, (), "cannot be loaded"),
        ({}, ("--calibrate",), "--calibrate is for classifiers; the model is a regression"),
        ({}, ("--abstain-below", "0.5"), "--abstain-below is for classifiers; the model is a regression"),
        ({}, ("--truncation", "only_first"), "for a model that reads one text it is one of head"),
        ({}, ("--text-pair", "--truncation", "head"), "that reads pairs it is one of longest_first"),
        ({}, ("--eval", "--min-agreement", "99"), "--min-agreement is for classifiers"),
        ({}, ("--eval", "--min-spearman", "0.3"), "--min-spearman is 0.3, expected 0.5 to 1"),
        ({}, ("--eval", "--text-pair"), "the model reads pairs: give --text-pair-column"),
        ({}, ("--eval", "--text-pair-column", "text"), "cannot be both the text and its pair"),
    ],
)  # fmt: skip
def test_faults_are_named(
    reranker: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: Any,
    options: tuple[str, ...],
    words: str,
) -> None:
    """Each fault of a checkpoint or an option is one sentence with its value and what is allowed."""
    file = tmp_path / "rows.csv"
    file.write_text("text,number\n" + "".join(f"{text},{i}\n" for i, text in enumerate(("ok", "hand bags") * 60)))
    given = [
        part
        for option in options
        for part in ([option, file, "--label-column", "number"] if option in ("--eval", "--calibrate") else [option])
    ]
    assert words in architectures.refusal(
        copy_of(reranker, tmp_path / "checkpoint", **changes), tmp_path / "out", capsys, *given
    )


def test_the_guard_compares_numbers(reranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The guard tells how far int8 moves the numbers, their ranks within groups, and with the user's own numbers."""
    rows = [f"{first},{second},{i % 3},{i % 2}" for i, (first, second) in enumerate([*PAIRS[:5]] * 4)]
    file = tmp_path / "pairs.csv"
    file.write_text(
        "q,d,group,relevance\n" + "\n".join(row.replace("money,", "money") for row in rows), encoding="utf-8"
    )
    columns = (
        "--text-column",
        "q",
        "--text-pair-column",
        "d",
        "--label-column",
        "relevance",
        "--group-column",
        "group",
    )
    code = run_export(reranker, tmp_path / "bundle", "--text-pair", "--eval", file, *columns, "--min-spearman", "0.5")
    assert code == 0
    said = capsys.readouterr().err
    for words in (
        "Spearman with fp32",
        "Kendall with fp32",
        "Spearman with yours, int8",
        "by group, where fp32's scores differ; 3 groups",
    ):
        assert words in said
    guard = json.loads((tmp_path / "bundle" / "inferer.json").read_text())["guard"]
    assert set(guard["figures"]) == {
        "largest_change", "mean_change", "spearman", "kendall", "spearman_fp32", "spearman_int8", "spearman_drop",
    }  # fmt: skip
    assert (guard["groups"], guard["limits"]["min_spearman"], guard["text_column"]) == (3, 0.5, "q, d")
    assert guard["figures"]["spearman"]["value"] > 0.5
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "A regression model (bert)" in card
    assert "The score is the sigmoid of the logit" in card
    assert "not calibrated" not in card
    assert '.predict("a text", "another")' in card


def test_scores_that_int8_makes_equal_have_lost_their_ranks() -> None:
    """A group counts with a correlation of 0 where int8 makes its scores equal; groups without an order are refused."""
    rule = DecisionRule("regression", activation="none")

    def given(*numbers: float) -> Predictions:
        return predictions_from_logits(np.array(numbers, dtype=np.float32)[:, None], rule)

    fp32, groups = given(1, 2, 3, 4, 5, 5), ("a", "a", "b", "b", "c", "c")
    figures = compare_numbers(fp32, given(1, 2, 7, 7, 5, 6), None, groups)
    assert (figures["spearman"].value, figures["kendall"].value) == pytest.approx((0.5, 0.5))
    assert figures["spearman"].n == 2
    assert compare_numbers(fp32, given(4, 4, 4, 4, 4, 4), None, ())["spearman"].value == 0
    assert compare_numbers(fp32, fp32, None, groups)["spearman"].value == pytest.approx(1)
    with pytest.raises(ExportError, match="in each group fp32 gives all texts the same score"):
        compare_numbers(given(1, 1), given(1, 2), None, ("a", "a"))


def test_names_of_inference_without_pairs_get_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint with the labels of natural language inference, exported for one text, gets a note."""
    labels = ("contradiction", "entailment", "neutral")
    folder = write_checkpoint(tmp_path / "checkpoint", "bert", labels=labels)
    assert run_export(folder, tmp_path / "bundle", "--scheme", "fp32") == 0
    assert "for a model of pairs: --text-pair" in capsys.readouterr().err


# Writes a checkpoint of a CrossEncoder, and prints its scores and its ranking.
CROSS_ENCODER = """
import json, sys
import torch
from sentence_transformers import CrossEncoder

source, target, activation, pairs = *sys.argv[1:4], json.loads(sys.argv[4])
kind = {"Sigmoid": torch.nn.Sigmoid, "Identity": torch.nn.Identity}[activation]
model = CrossEncoder(source, num_labels=1, max_length=64, activation_fn=kind(), backend="torch")
model.save_pretrained(target)
ranking = model.rank(pairs[0][0], [pair[1] for pair in pairs])
print(json.dumps([model.predict(pairs).tolist(), [one["corpus_id"] for one in ranking]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
def test_a_cross_encoder_is_served_with_its_own_scores(
    reranker: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, activation: str
) -> None:
    """sentence-transformers' CrossEncoder, saved by its newest version, has the same scores and ranks here."""
    python = python_with(tmp_path_factory.getbasetemp(), "sentence-transformers==6.2.0")
    given = (str(reranker), str(tmp_path / "saved"), activation, json.dumps(PAIRS))
    done = run_to_end(python, "-c", CROSS_ENCODER, *given, timeout_s=180)
    assert done.returncode == 0, done.stderr[-3000:]
    scores, ranking = json.loads(done.stdout.splitlines()[-1])
    assert run_export(tmp_path / "saved", tmp_path / "bundle", "--scheme", "fp32", "--max-length", 64) == 0
    model = ModelInferer(tmp_path / "bundle", intra_op_threads=1)
    assert (model.text_pair, model.activation) == (True, {"Sigmoid": "sigmoid", "Identity": "none"}[activation])
    assert [one.score for one in model.predict_batch(PAIRS)] == pytest.approx(scores, abs=1e-4)
    ours = [one.score for one in model.predict_batch([(PAIRS[0][0], second) for _, second in PAIRS])]
    assert sorted(range(len(ours)), key=lambda place: -ours[place]) == ranking


@pytest.mark.slow
def test_zero_shot_scores_are_those_of_transformers(tmp_path: Path) -> None:
    """Labels and scores of zero-shot classification are those of transformers' pipeline on the same checkpoint."""
    labels = ("contradiction", "entailment", "neutral")
    folder = write_checkpoint(tmp_path / "checkpoint", "bert", labels=labels)
    assert run_export(folder, tmp_path / "bundle", "--text-pair", "--scheme", "fp32", "--max-length", 64) == 0
    settings = Settings(bundle=tmp_path / "bundle")
    client = create_app(settings, ModelInferer(settings.bundle, intra_op_threads=1)).test_client()
    asked = pipeline("zero-shot-classification", model=str(folder), tokenizer=read_tokenizer(folder), device="cpu")
    for several in (False, True):
        parameters = {"candidate_labels": ["money", "a box", "ok"], "multi_label": several}
        for text in TEXTS:
            found = client.post("/", json={"inputs": text, "parameters": parameters}).json
            expected = asked(text, **parameters)
            assert found["labels"] == expected["labels"]
            assert found["scores"] == pytest.approx(expected["scores"], abs=1e-4)
