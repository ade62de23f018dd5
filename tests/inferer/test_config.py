"""The `config` of ModelInferer and of export: every key checked, every fault named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferer.config import read_config
from inferer.errors import ConfigError


def test_a_file_is_read_like_a_mapping(tmp_path: Path) -> None:
    """A JSON file is read like the mapping in it."""
    values = {"labels": ["no", "yes"], "problem_type": "single_label_classification", "max_seq_length": 12}
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(values)
    assert config == read_config(tmp_path / "config.json") == read_config(str(tmp_path / "config.json"))
    assert (config.labels, config.max_length) == (("no", "yes"), 12)


def test_id2label_gives_labels_by_number() -> None:
    """The keys of id2label, whether numbers or text, are sorted as numbers."""
    names = {i: f"n{i}" for i in range(12)}
    assert read_config({"id2label": names}).labels == tuple(names.values())
    assert read_config({"id2label": {str(i): n for i, n in names.items()}}).labels == tuple(names.values())


def test_a_model_name_is_looked_up_beside_its_file(tmp_path: Path) -> None:
    """A relative model_name is looked up beside its config file, from any folder."""
    (tmp_path / "base").mkdir()
    (tmp_path / "config.json").write_text('{"model_name": "base"}')
    assert read_config(tmp_path / "config.json").model_name == str((tmp_path / "base").resolve())


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"lables": ["a"]}, "did you mean labels"),
        ({"labels": "ab"}, "config.labels: 'ab' is not allowed; expected a list of names"),
        ({"labels": []}, "config.labels"),
        ({"labels": ["a", "a"]}, "each name once"),
        ({"labels": ["a", 1]}, "config.labels"),
        ({"labels": ["a"], "id2label": {0: "a"}}, "only one of labels and id2label"),
        ({"id2label": {0: "a", 2: "b"}}, "the keys 0 to 1"),
        ({"id2label": ["a"]}, "config.id2label"),
        ({"problem_type": "softmax"}, "config.problem_type: 'softmax' is not allowed; expected one of single_label"),
        ({"max_length": 2}, "config.max_length: 2 is not allowed; expected a number of tokens from 3"),
        ({"max_length": True}, "config.max_length: True"),
        ({"max_length": 5, "max_seq_length": 5}, "only one of max_seq_length and max_length"),
        ({"threshold": 1.1}, "config.thresholds: 1.1 is not allowed; expected a number from 0 to 1"),
        ({"thresholds": {"a": "x"}}, r"config.thresholds\['a'\]: 'x'"),
        ({"thresholds": {1: 0.5}}, "label names as keys"),
        ({"model_name": ""}, "config.model_name: '' is not allowed"),
    ],
)
def test_a_wrong_value_is_named_with_the_expected_one(values: dict[str, Any], problem: str) -> None:
    """A wrong key or value is refused, with the expected one."""
    with pytest.raises(ConfigError, match=problem):
        read_config(values)


@pytest.mark.parametrize("content", ["", "[1]", "\xff"])
def test_a_file_without_a_json_object_is_named(tmp_path: Path, content: str) -> None:
    """A config file without a JSON object ends in a ConfigError that names it."""
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_config(tmp_path / "config.json")


def test_a_config_of_another_type_is_refused() -> None:
    """A list given as a config is refused, with the expected types."""
    with pytest.raises(ConfigError, match="a mapping or the path of a JSON file"):
        read_config(["a"])  # type: ignore[arg-type]
