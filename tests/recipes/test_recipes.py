"""Every recipe on its real data, small: from the data to a bundle that replies to curl.

The encoders are small and random, of the recipe's architecture, each with its own kind of tokenizer. docs/train.md has
the figures with a real encoder, and test_conference.py checks those of the conference titles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.query_type import prepare
from tests.support.architectures import checkpoint, run_export
from tests.support.server import run_to_end, serving
from training.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_signals")]

SMALL = ("--epochs", "1", "--learning-rate", "1e-3")
ROWS = ("--train-rows", "160", "--test-rows", "60")
PAIR = ("who sleeps", "a man sleeps")
TITLE, COMMENT = "an index structure for similarity search", "you are a fool, sir"
# recipe, architecture, what of the data folder, more flags, the columns for the export's --eval, a text to ask
RUNS = {
    "conference-bert": ("conference", "bert", "conference/title_conference.csv", ROWS, TITLE),
    "conference-roberta": ("conference", "roberta", "conference/title_conference.csv", (*ROWS, "--head", "mlp"), TITLE),
    "conference-distilbert": ("conference", "distilbert", "conference/title_conference.csv", ROWS, TITLE),
    "hate_speech": ("hate_speech", "distilbert", "hate_speech", (*ROWS, "--epochs", "2"), COMMENT),
    "toxic_comments-bert": ("toxic_comments", "bert", "toxic_comments/train.csv", (), COMMENT),
    "toxic_comments-roberta": ("toxic_comments", "roberta", "toxic_comments/train.csv", (), COMMENT),
    "toxic_comments-distilbert": (
        "toxic_comments", "distilbert", "toxic_comments/train.csv", ("--head", "mlp"), COMMENT,
    ),
    "go_emotions": ("go_emotions", "bert", "go_emotions/sample.csv", ("--train-rows", "600"), COMMENT),
    "rotten_tomatoes": ("rotten_tomatoes", "bert", "rotten_tomatoes/reviews.csv", ROWS, "a fine film"),
    "clothing_reviews": (
        "clothing_reviews", "albert", "clothing_reviews/womens_clothing_ecommerce_reviews.csv", ROWS, "love this dress",
    ),
    "query_type": ("query_type", "bert", "query_type", (), "hand bags"),
    "sick_inference": ("sick_inference", "bert", "sick/sick.csv", ROWS, PAIR),
    "sick_relatedness": ("sick_relatedness", "roberta", "sick/sick.csv", ROWS, PAIR),
    "trec_qa": ("trec_qa", "distilbert", "trec_qa/train.csv", (*ROWS, "--test-share", "0.2"), PAIR),
}  # fmt: skip


def columns_of(recipe: dict[str, Any]) -> list[str]:
    """Return the export's flags for the columns of the held-out rows."""
    flags = ["--text-column", recipe["text_column"] or "text"]
    for name in ("text_pair_column", "group_column"):
        flags += [f"--{name.replace('_', '-')}", recipe[name]] if recipe[name] else []
    if recipe["label_columns"]:
        return [*flags, "--label-columns", ",".join(recipe["label_columns"])]
    flags += ["--label-column", recipe["label_column"] or "label"]
    return [*flags, "--label-separator", recipe["label_separator"]] if recipe["label_separator"] else flags


@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_leads_to_a_served_bundle(
    test_data: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """The recipe trains on its data, writes all reports, is exported with int8 compared, served and queried by curl."""
    recipe, architecture, data, more, text = RUNS[name]
    target, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    base = ("--base-model", str(checkpoint(tmp_path_factory, architecture)))
    source = test_data / data
    if recipe == "query_type":
        source = tmp_path / "prepared"
        prepared = ["--data", str(test_data / data), "--output", str(source), "--rows-each", "100", "--no-synonyms"]
        assert prepare.main(prepared) == 0
    given = ["--config", f"recipes/{recipe}.toml", "--data", str(source), *base, *SMALL, *more]
    assert main([*given, "--output", str(target)]) == 0
    record = json.loads((target / "training.json").read_text(encoding="utf-8"))
    there = {path.name for path in target.iterdir()}
    assert {"report.json", "learning_curves.png", "token_lengths.png", "README.md"} <= there
    assert (record["recipe"]["problem_type"] is None) == ("confusion_matrix.png" in there)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == architecture
    assert config.get("inferer_truncation", "head") == record["recipe"]["truncation"]
    held_out = ("--eval", target / "held_out.csv", *columns_of(record["recipe"]))
    assert run_export(target, bundle, *held_out) == 0
    if record["threshold"] is not None:
        manifest = json.loads((bundle / "inferer.json").read_text(encoding="utf-8"))
        assert set(manifest["thresholds"].values()) == {record["threshold"]}
    with serving(bundle, tmp_path / "log") as server:
        command = [
            "curl",
            "-s",
            f"http://127.0.0.1:{server.port}/predict",
            "-H",
            "content-type: application/json",
            "-d",
        ]
        done = run_to_end(
            *command,
            json.dumps(
                dict(zip(("text", "text_pair"), text, strict=True)) if isinstance(text, tuple) else {"text": text}
            ),
        )
        answer = json.loads(done.stdout)
    assert list(answer["scores"]) == list(config["id2label"].values())
    assert answer["label"] == max(answer["scores"], key=answer["scores"].get)
