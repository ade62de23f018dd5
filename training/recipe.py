"""A recipe: everything that decides a training run, from a TOML file, from flags, or both (flags win)."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from training.base_model import EMBEDDED
from training.data import Columns
from training.errors import TrainingError

# The sections are for the reader of a recipe; each option stands in exactly one.
_SECTIONS = {
    "": ("name", "output"),
    "data": (
        "file",
        "text_column",
        "label_column",
        "label_columns",
        "label_separator",
        "labels",
        "allow_unlabelled",
        "lists",
        "test_share",
        "calibration_share",
    ),
    "model": ("base_model", "max_length"),
    "training": ("epochs", "batch_size", "learning_rate", "weight_decay", "warmup_ratio", "seed"),
}
_SHARES_AND_RATES = ("test_share", "calibration_share", "epochs", "learning_rate", "weight_decay", "warmup_ratio")


@dataclass(frozen=True)
class Recipe:
    """The choices of one run. Paths are absolute, or relative to the folder the command runs in.

    Data: `file` (a CSV) with its columns, or `lists` (label -> file of names). test_share is the part
    held out for the figures, calibration_share a further one for the export's --calibrate; 0 for none. max_length
    is in tokens, special tokens included. warmup_ratio is a share of all steps.
    """

    name: str | None = None
    output: Path | None = None
    file: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()
    label_separator: str | None = None
    labels: tuple[str, ...] | None = None
    allow_unlabelled: bool = False
    lists: Mapping[str, Path] = field(default_factory=dict)
    test_share: float = 0.2
    calibration_share: float = 0.0
    base_model: str = EMBEDDED
    max_length: int = 128
    epochs: float = 3.0
    batch_size: int = 16
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    seed: int = 0

    @property
    def target(self) -> Path:
        """Return the folder that the checkpoint goes to."""
        return self.output or Path("checkpoints") / (self.name or "")

    def columns(self) -> Columns:
        """Return where the CSV's text and labels stand."""
        return Columns(
            text_column=self.text_column or "",
            label_column=self.label_column,
            label_columns=self.label_columns,
            separator=self.label_separator,
            labels=self.labels,
            allow_unlabelled=self.allow_unlabelled,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as resolved, in JSON types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["lists"] = {label: str(path) for label, path in self.lists.items()}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the TOML file `path`; paths in it are relative to the file.

    Raises TrainingError for a file that cannot be read, and for an unknown section, key or type.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"recipe {path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"recipe {path}: is not TOML: {error}") from error
    values: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            _check_known(path, key, _SECTIONS, "section")
            for name, inner in value.items():
                _check_known(path, name, _SECTIONS[key], f"key in [{key}]")
                values[name] = inner
        else:
            _check_known(path, key, _SECTIONS[""], "key")
            values[key] = value
    values.setdefault("name", path.stem)
    return make_recipe(Recipe(), values, path.parent, f"recipe {path}")


def make_recipe(base: Recipe, values: Mapping[str, Any], folder: Path, source: str) -> Recipe:
    """Return `base` with `values` put in, their types checked; relative paths start from `folder`.

    `output` alone is relative to where the command runs: a recipe does not write beside itself.
    """
    converted: dict[str, Any] = {}
    for name, value in values.items():
        converted[name] = _convert(name, value, folder, source)
    return replace(base, **converted)


def check_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe` if it is complete and its numbers make sense; raises TrainingError otherwise."""
    if recipe.lists:
        if recipe.file:
            raise TrainingError("the recipe has lists of names; --data cannot be given too")
        if len(recipe.lists) < 2:
            raise TrainingError("[data.lists] needs at least two labels")
    else:
        _check_table(recipe)
    if not recipe.output and not recipe.name:
        raise TrainingError("--output is missing: the folder to write the checkpoint to")
    for name, low, high in (
        ("test_share", 0.01, 0.9),
        ("max_length", 3, 100_000),
        ("epochs", 0.001, 10_000),
        ("batch_size", 1, 100_000),
        ("learning_rate", 1e-9, 10),
        ("weight_decay", 0, 10),
        ("warmup_ratio", 0, 1),
        ("seed", 0, 2**32 - 1),
    ):
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise TrainingError(f"{name} is {value}, expected {low} to {high}")
    share, most = recipe.calibration_share, round(0.95 - recipe.test_share, 6)
    if share and not 0.01 <= share <= most:
        raise TrainingError(
            f"calibration_share is {share:g}, expected 0, or 0.01 to {most:g} beside test_share {recipe.test_share:g}"
        )
    return recipe


def _check_table(recipe: Recipe) -> None:
    if recipe.file is None:
        raise TrainingError("--data is missing: the CSV to train on")
    if not recipe.text_column:
        raise TrainingError("--text-column is missing: the CSV's column with the texts")
    if bool(recipe.label_column) == bool(recipe.label_columns):
        raise TrainingError("give either --label-column, or --label-columns for one 0/1 column a label")
    if recipe.label_columns and (recipe.label_separator or recipe.labels):
        raise TrainingError("--label-columns name the labels themselves; no --label-separator or labels with them")
    if recipe.labels and len(set(recipe.labels)) != len(recipe.labels):
        raise TrainingError(f"labels name one twice: {', '.join(recipe.labels)}")
    if len(set(recipe.label_columns)) != len(recipe.label_columns):
        raise TrainingError(f"--label-columns name a column twice: {', '.join(recipe.label_columns)}")
    if recipe.allow_unlabelled and not recipe.label_separator:
        raise TrainingError("--allow-unlabelled is for multi-label data with --label-separator")


def _check_known(path: Path, name: str, known: Any, what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, [k for k in known if k], 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(k for k in known if k)}"
        raise TrainingError(f"recipe {path}: unknown {what} '{name}'{hint}")


def _convert(name: str, value: Any, folder: Path, source: str) -> Any:
    def wrong(expected: str) -> TrainingError:
        return TrainingError(f"{source}: {name} is {value!r}, expected {expected}")

    if name in ("label_columns", "labels"):
        if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) and v for v in value):
            raise wrong("a list of names")
        return tuple(value)
    if name == "lists":
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise wrong("a table of label = file")
        return {label: folder / file for label, file in value.items()}
    if name in ("file", "output"):
        if not isinstance(value, str) or not value:
            raise wrong("a path")
        return Path(value).expanduser() if name == "output" else folder / Path(value).expanduser()
    if name == "base_model" and isinstance(value, str) and (folder / value).is_dir():
        return str(folder / value)
    kind = {"allow_unlabelled": bool, "max_length": int, "batch_size": int, "seed": int}.get(name)
    if kind is None:
        kind = float if name in _SHARES_AND_RATES else str
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise wrong({bool: "true or false", int: "a whole number", float: "a number", str: "a non-empty string"}[kind])
    if value == "":
        raise wrong("a non-empty string")
    return kind(value)
