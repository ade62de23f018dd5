"""A checkpoint's README.md: a Hugging Face model card of what was trained, on what, and how well it does. No torch.

Reads the record of a run in plain types, as training.json has it; writes no path that means something on one machine
alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import MULTI_LABEL
from training.data.location import file_name
from training.errors import TrainingError
from training.model.base_model import EMBEDDED
from training.recipe.recipe import OPTIONS
from training.report.tables import figures_table, labels_table, markdown

_EMBEDDED_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"  # whose weights the embedded base model is, by SHA-256
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PATHS = ("path", "file", "source", "files")  # kinds of options of which a card has the last name
_PARTS = {"train_rows": "trained on", "validation_rows": "validation", "calibration_rows": "calibration"}


def model_card(name: str, problem_type: str, record: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the card as Markdown with YAML front matter.

    name: the model's. record: of the run, with "recipe", "train_rows", "held_out" (what `measure` gives) and
    "versions"; and where there are any "validation_rows", "calibration_rows", "seeds" (a list), and "data": an object
    with any of "file", "rows", "counts" (by label), "dropped", "duplicates". pictures: of each file in the checkpoint's
    folder what it shows, in the order of the card. Raises TrainingError for a record that lacks what it must have.
    """
    lacking = [key for key in ("recipe", "train_rows", "held_out", "versions") if key not in record]
    if lacking:
        raise TrainingError(f"the record of the run has no {', '.join(lacking)}")
    recipe, metrics = _flat(record["recipe"]), record["held_out"]
    kind = "multi-label" if problem_type == MULTI_LABEL else "single-label"
    plain = {key.rpartition(".")[2]: value for key, value in recipe.items()}  # whatever table an option stands in
    base = base_name(str(plain.get("base_model", EMBEDDED)))
    parts = [
        _front_matter(base, kind),
        f"# {_plain(name)}",
        f"A {kind} text classifier with {len(metrics['labels'])} labels, fine-tuned from {base}"
        f"{_reads(plain)}.{_kind_said(problem_type)}",
        *_section("Labels", markdown([("id", "label"), *((str(i), one) for i, one in enumerate(metrics["labels"]))])),
        *_section("Data", _data(record)),
        *_section("Figures", _figures(metrics)),
        *[f"![{_plain(what)}]({file})" for file, what in pictures.items()],
        *_section("Recipe", markdown([("option", "value"), *_options(recipe), *_seeds(record)])),
        *_section("Going on", _going_on(name, plain)),
        *_section("Limits", _limits(metrics)),
        "Made with " + ", ".join(f"{library} {version}" for library, version in record["versions"].items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def base_name(base_model: str) -> str:
    """Return what a base model is called away from this machine: its hub name, of a folder the last name alone."""
    if base_model == EMBEDDED:
        return _EMBEDDED_SOURCE
    return base_model if _on_hub(base_model) else Path(base_model).name


def _on_hub(base_model: str) -> bool:
    return _HUB_NAME.fullmatch(base_model) is not None and base_model[0] != "." and not Path(base_model).is_dir()


def _front_matter(base: str, kind: str) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-classification"]
    if "/" in base:  # a folder's name is no model of the hub
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "tags:", "- text-classification", f"- {kind}", "---"])


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(lines)]


def _reads(recipe: Mapping[str, Any]) -> str:
    return f"; it reads {recipe['max_length']} tokens of a text at most" if recipe.get("max_length") else ""


def _kind_said(problem_type: str) -> str:
    if problem_type == MULTI_LABEL:
        return " A text may have any number of the labels, or none; scores are sigmoids of the logits."
    return " A text has exactly one of the labels; scores are the softmax of the logits."


def _data(record: Mapping[str, Any]) -> list[str]:
    data = record.get("data") or {}
    facts = []
    if data.get("file"):
        facts.append(("file", Path(str(data["file"])).name))
    if "rows" in data:
        facts.append(("rows", f"{data['rows']:,}"))
    for key, what in (("dropped", "rows dropped"), ("duplicates", "duplicate texts")):
        if data.get(key) is not None:
            facts.append((what, f"{data[key]:,}"))
    facts += [(what, f"{record[key]:,}") for key, what in _PARTS.items() if record.get(key)]
    facts.append(("held out, for the figures", f"{record['held_out']['n']:,}"))
    lines = markdown([("", "rows"), *facts])
    if data.get("counts"):
        counts = [(str(label), f"{n:,}") for label, n in data["counts"].items()]
        lines += ["", *markdown([("label", "rows"), *counts])]
    return lines


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    return [
        "On the rows held out, which the model was not trained on. 95 % intervals: Wilson's for accuracy, for the rest "
        "the bootstrap over rows.",
        "",
        *markdown(figures_table(metrics)),
        "",
        *markdown(labels_table(metrics)),
    ]


def _options(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _value(key, value)) for key, value in recipe.items() if value not in (None, [], {}, ())]


def _seeds(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("seeds", ", ".join(map(str, record["seeds"])))] if record.get("seeds") else []


def _value(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value(key, one) for one in value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        option = next((OPTIONS[name] for name in key.split(".") if name in OPTIONS), None)
        if option is not None and option.kind == "base":
            return base_name(value)
        if option is None:  # what no option of ours is may be a path all the same
            return Path(value).name if Path(value).is_absolute() or value.startswith(("~", ".")) else value
        if option.kind in _PATHS:
            return file_name(value)
    return str(value)


def _flat(recipe: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return `recipe` with what lies in tables of its own under "table.key"."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _going_on(name: str, recipe: Mapping[str, Any]) -> list[str]:
    # Where the labels stand is asked of the recipe by `evaluate`, which the checkpoint has beside this file.
    columns = [
        f"--{key.replace('_', '-')} {_quoted(', '.join(value) if isinstance(value, list | tuple) else str(value))}"
        for key in ("text_column", "label_column", "label_columns", "label_separator")
        if (value := recipe.get(key))
    ]
    if not columns:
        columns = ["--label-column label"]
    if recipe.get("allow_unlabelled"):
        columns.append("--allow-unlabelled")
    measured = " \\\n  ".join(["", "--eval <this folder>/held_out.csv " + " ".join(columns)])
    return [
        "```",
        f"python -m export <this folder> models/{_quoted(name)}{measured}",
        "python -m training.evaluate <this folder> --data FILE.csv --output reports/FILE",
        "```",
        "",
        "The first makes a bundle for serving on CPUs and measures on the held-out rows what int8 changes; the second "
        "measures this checkpoint on other labelled texts. With transformers alone: "
        '`pipeline("text-classification", model="<this folder>")`.',
    ]


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w.,/-]+", value) else "'" + value.replace("'", "'\\''") + "'"


def _limits(metrics: Mapping[str, Any]) -> list[str]:
    few = [label for label, row in metrics["labels"].items() if row["n"] < 30]
    lines = [
        "- The figures hold for texts like those held out; on texts from elsewhere measure again.",
        "- It knows no other labels: a text that fits none gets scores all the same.",
        "- Scores are not calibrated; the export's `--calibrate` fits and measures that.",
    ]
    if few:
        shown = ", ".join(_plain(label) for label in few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        lines.append(f"- Fewer than 30 held-out rows, so that their own figures say little: {shown}.")
    return lines


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("[", "\\[").replace("]", "\\]")
