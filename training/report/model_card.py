"""A checkpoint's README.md: a Hugging Face model card with its data, figures and recipe. No torch.

It is made from the run's record, training.json, and names no path of the machine that trained.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION
from training.data.location import file_name
from training.model.base_model import EMBEDDED
from training.recipe.defaults import with_choosing
from training.recipe.recipe import OPTIONS, Recipe
from training.report.next_steps import column_flags
from training.report.tables import figures_table, labels_table, markdown
from training.search.outcome import sentence

_EMBEDDED_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"  # the embedded base model has its weights, by SHA-256
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PATHS = ("path", "source")  # kinds of options of which the card shows the last name
_ALWAYS = ("base_model", "max_length", "epochs", "batch_size", "learning_rate", "seed")  # shown with their defaults too
_COUNTS = {"train_rows": "trained on", "validation_rows": "validation", "calibration_rows": "calibration"}
_FEW = 30
_FIGURES = (
    "On the held-out rows, which were not trained on. 95 % intervals: Wilson's for accuracy, the bootstrap over rows "
    "for the rest."
)
_FIGURES_OF_NUMBERS = (
    "On the held-out rows, which were not trained on. 95 % intervals: the bootstrap over rows or groups."
)
_ACTIVATIONS = {
    True: "A text may have any number of the labels, or none; scores are sigmoids of the logits.",
    False: "A text has exactly one of the labels; scores are the softmax of the logits.",
}


def model_card(name: str, problem_type: str, record: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the card as Markdown with YAML front matter.

    name: the model's. record: as training.json has it. pictures: captions by file, in the order of the card.
    """
    recipe, metrics, multi = record["recipe"], record["held_out"], problem_type == MULTI_LABEL
    number = problem_type == REGRESSION
    kind = "regression" if number else "multi-label" if multi else "single-label"
    what = "A regression model" if number else f"A {kind} text classifier with {len(metrics['labels'])} labels"
    pair = recipe.get("text_pair_column") is not None
    labels = [("id", "label"), *((str(i), one) for i, one in enumerate(metrics["labels"]))]
    base = _base_name(recipe["base_model"])
    parts = [
        _front_matter(base, kind),
        f"# {_plain(name)}",
        f"{what}, fine-tuned from {base}; it reads at most {recipe['max_length']} tokens of a "
        f"{'pair of texts' if pair else 'text'}.{'' if number else f' {_ACTIVATIONS[multi]}'}",
        *([] if number else _section("Labels", markdown(labels))),
        *_section("Data", _data(record)),
        *_section("Figures", _figures(metrics)),
        *[f"![{_plain(caption)}]({file})" for file, caption in pictures.items()],
        *_section("Recipe", _recipe(recipe, record["seeds"])),
        *([f"Search of the settings: {sentence(record['search'])}."] if "search" in record else []),
        *_section("Next steps", _next_steps(name, recipe)),
        *(_section("Notes", [f"- {_plain(one)}" for one in record["advice"]]) if record["advice"] else []),
        *_section("Limits", _limits_of_numbers() if number else _limits(metrics)),
        "Made with " + ", ".join(f"{library} {version}" for library, version in record["versions"].items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    lines = [_FIGURES if metrics["labels"] else _FIGURES_OF_NUMBERS, "", *markdown(figures_table(metrics))]
    return [*lines, "", *markdown(labels_table(metrics))] if metrics["labels"] else lines


def _base_name(base_model: str) -> str:
    """Return the base model's name on any machine: its hub name, or the last name of a folder."""
    if base_model == EMBEDDED:
        return _EMBEDDED_SOURCE
    on_hub = _HUB_NAME.fullmatch(base_model) is not None and base_model[0] != "." and not Path(base_model).is_dir()
    return base_model if on_hub else Path(base_model).name


def _front_matter(base: str, kind: str) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-classification"]
    if "/" in base:  # the hub does not know a folder's name
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "tags:", "- text-classification", f"- {kind}", "---"])


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(lines)]


def _data(record: Mapping[str, Any]) -> list[str]:
    data = record["data"]
    facts = [
        ("file", Path(data["file"]).name),
        ("rows", f"{data['rows']:,}"),
        ("rows dropped", f"{data['dropped']:,}"),
        ("duplicate texts", f"{data['duplicates']:,}"),
        *((title, f"{record[key]:,}") for key, title in _COUNTS.items() if record[key]),
        ("held out, for the figures", f"{record['held_out']['n']:,}"),
    ]
    counts = [(label, f"{n:,}") for label, n in data["counts"].items()]
    rows = markdown([("", "rows"), *facts])
    return [*rows, "", *markdown([("label", "rows"), *counts])] if counts else rows


def _recipe(recipe: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    """Return a table of the options that every reader wants, and of those that differ from their defaults."""
    defaults = with_choosing(Recipe()).as_dict()
    rows = [("option", "value")]
    for name, value in recipe.items():
        if value in (None, [], {}) or (name not in _ALWAYS and value == defaults.get(name)):
            continue
        parts = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
        rows += [(key, _shown(name, one)) for key, one in parts.items()]
    if len(seeds) > 1:
        rows.append(("seeds", _joined(seeds)))
    return [*markdown(rows), "", "The other options have their defaults; `recipe.toml` has all of them."]


def _shown(option: str, value: Any) -> str:
    if OPTIONS[option.partition(".")[0]].kind == "models":
        return ", ".join(_base_name(one) for one in value)
    if not isinstance(value, str):
        return _joined(value if isinstance(value, list) else [value])
    if OPTIONS[option].kind == "base":
        return _base_name(value)
    return file_name(value) if OPTIONS[option].kind in _PATHS else value


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)


def _next_steps(name: str, recipe: Mapping[str, Any]) -> list[str]:
    return [
        "```",
        f"python -m export <this folder> models/{shlex.quote(name)} \\",
        f"  --eval <this folder>/held_out.csv {column_flags(recipe)}",
        "python -m training.evaluate <this folder> --data FILE.csv --output reports/FILE",
        "```",
        "",
        "The first command makes a bundle for serving on CPUs and measures int8 against fp32 on the held-out rows; the "
        "second measures this checkpoint on other labelled texts. With transformers alone: "
        '`pipeline("text-classification", model="<this folder>")`.',
    ]


def _limits_of_numbers() -> list[str]:
    return ["- The figures hold for texts like the held-out ones; measure again on texts from elsewhere."]


def _limits(metrics: Mapping[str, Any]) -> list[str]:
    few = [_plain(label) for label, row in metrics["labels"].items() if row["n"] < _FEW]
    lines = [
        "- The figures hold for texts like the held-out ones; measure again on texts from elsewhere.",
        "- A text that fits none of the labels still gets scores.",
        "- Scores are not calibrated; the export's `--calibrate` fits and measures that.",
    ]
    if few:
        names = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        lines.append(f"- Labels with fewer than {_FEW} held-out rows, too few for figures: {names}.")
    return lines


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("[", "\\[").replace("]", "\\]")
