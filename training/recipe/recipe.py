"""A recipe: every choice of a training run, from a TOML file, from flags, or both (flags win)."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND
from training.data.dataset import Columns
from training.data.location import is_address, redacted
from training.errors import TrainingError
from training.model.base_model import EMBEDDED
from training.recipe.options import Option, converted, option

OF_PAIRS = (LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND)
STOCK, MLP, MEAN, TOKEN = "stock", "mlp", "mean", "token"
HEAD, TAIL, HEAD_TAIL = "head", "tail", "head_tail"
BEST = "best"
ENCODER = "encoder"
AUTO, FP32, BF16 = "auto", "fp32", "bf16"
TRACKERS = ("tensorboard", "mlflow", "wandb")  # the packages too
Weights = str | Mapping[str, float] | None


@dataclass(frozen=True)
class Recipe:
    """The choices of one run. Paths are absolute, or relative to the working folder; addresses are str.

    The data is `file` (with its columns) or `dataset` (a Hugging Face data set). Shares are parts of all rows.
    `docs/train.md` describes each option.
    """

    name: str | None = option(None, "", "text", metavar=None)
    output: Path | None = option(None, "", "path", "the checkpoint (checkpoints/NAME of the recipe)", metavar="FOLDER")

    file: Path | str | None = option(
        None, "data", "source", "labelled texts: .csv, .tsv, .jsonl, .parquet, .xlsx, a folder, or an address as s3://…",
        flag="--data",
    )  # fmt: skip
    test_file: Path | str | None = option(
        None, "data", "source", "rows to hold out (default: a share of --data)", flag="--test-data"
    )
    dataset: str | None = option(None, "data", "text", "a Hugging Face data set in place of --data: hub name or folder")
    encoding: str | None = option(None, "data", "text", "of a CSV or TSV that is not UTF-8, such as latin-1 or cp1252")
    text_column: str | None = option(None, "data", "text", "column with the texts")
    text_pair_column: str | None = option(None, "data", "text", "column with the second texts, for a model of pairs")
    label_column: str | None = option(None, "data", "text", "column with a label per row; with a separator, several")
    problem_type: str | None = option(
        None, "data", "text", "label_column holds numbers, which the model predicts", choices=(REGRESSION,)
    )
    group_column: str | None = option(
        None, "data", "text", "rows that belong together, such as a query's documents: split whole, ranked together"
    )
    label_separator: str | None = option(
        None, "data", "text", 'multi-label: joins the labels in a cell, such as "|"', metavar="CHAR"
    )
    label_columns: tuple[str, ...] = option((), "data", "names", "multi-label: 0/1 columns")
    labels: tuple[str, ...] | None = option(None, "data", "names", "label names in order (sorted)")
    allow_unlabelled: bool = option(False, "data", "flag", "an empty cell means none of the labels")
    positive_from: float | None = option(
        None, "data", "number", 'labels are numbers: "positive" from this one up, else "negative"', low=-1e9, high=1e9
    )
    drop_empty: bool = option(False, "data", "flag", "leave out rows without text, and count them")
    unlabelled: Path | str | None = option(
        None, "data", "source", "further texts without labels, which are learned from the teacher"
    )
    test_share: float = option(0.2, "data", "number", "share of rows held out", low=0.01, high=0.9)
    validation_share: float = option(0.0, "data", "number", "share for early stopping, best epoch, best threshold")
    calibration_share: float = option(0.0, "data", "number", "further share held out, for the export's --calibrate")
    train_rows: int = option(0, "data", "whole", "limit of training rows; 0: all", low=0, high=10**9)
    test_rows: int = option(0, "data", "whole", "limit of held-out rows; 0: all", low=0, high=10**9)

    base_model: str = option(EMBEDDED, "model", "base", 'hub name or folder (default "embedded": MiniLM-L6, offline)')
    layers: int | None = option(
        None, "model", "whole", "encoder layers to keep of the base model's, evenly spaced: fewer are faster",
        low=1, high=1000, metavar="N",
    )  # fmt: skip
    max_length: int = option(128, "model", "whole", "tokens read per text", low=3, high=100_000)
    truncation: str = option(
        HEAD, "model", "text", "tokens read of longer texts", choices=(HEAD, TAIL, HEAD_TAIL, *OF_PAIRS)
    )
    head: str = option(STOCK, "model", "text", "layers on the encoder", choices=(STOCK, MLP, MEAN, TOKEN))
    head_sizes: tuple[int, ...] = option((256,), "model", "numbers", "MLP head: hidden layer sizes", low=1, high=65_536)
    head_embedding: int = option(20, "model", "whole", "token head: width of a token's embedding", low=1, high=65_536)
    head_layers: int = option(1, "model", "whole", "token head: layers on the pooled embedding", low=0, high=16)
    head_dropout: float = option(0.1, "model", "number", "MLP, mean and token head", low=0, high=0.9)
    freeze: str | int = option(
        0, "model", "whole", f'frozen encoder layers, from the first; "{ENCODER}": all',
        choices=(ENCODER,), low=0, high=1000, metavar="N",
    )  # fmt: skip
    threshold: float | str = option(
        0.5, "model", "number", f'multi-label: least score of a label that is given; "{BEST}": the best micro-F1',
        choices=(BEST,), low=0.001, high=0.999, metavar="T",
    )  # fmt: skip

    epochs: float | None = option(
        None, "training", "number", "passes over the rows (default: by rows and labels)", low=0.001, high=10_000
    )
    batch_size: int = option(16, "training", "whole", "texts per step, of all processes together", low=1, high=100_000)
    gradient_accumulation: int = option(1, "training", "whole", "batches per step", low=1, high=100_000)
    learning_rate: float | None = option(
        None, "training", "number", "the highest rate (default: by the base model's width)", low=1e-9, high=10
    )
    head_learning_rate: float | None = option(
        None, "training", "number", "of the head (default: as learning_rate, if given)", low=1e-9, high=10
    )
    head_first_epochs: int = option(0, "training", "whole", "first epochs train the head alone", low=0, high=10_000)
    weight_decay: float = option(0.01, "training", "number", low=0, high=10)
    warmup_ratio: float = option(0.1, "training", "number", "share of steps with a rising rate", low=0, high=1)
    max_grad_norm: float = option(1.0, "training", "number", "limit of the gradients' norm; 0: none", low=0, high=1e6)
    class_weights: Weights = option(None, "training", "weights", 'single-label loss: "balanced", or label=weight,…')
    pos_weight: Weights = option(
        None, "training", "weights", 'multi-label loss: weights of positives, "balanced" or label=weight,…'
    )
    label_smoothing: float = option(0.0, "training", "number", "target share spread over all labels", low=0, high=0.9)
    few_labels: bool = option(
        False,
        "training",
        "flag",
        "for few rows per label: draws texts of a label together, then fits a linear head",
    )
    teacher: tuple[str, ...] = option(
        (), "training", "models", "checkpoints to learn from (the mean of several), or a table of probabilities"
    )
    temperature: float = option(
        2.0, "training", "number", "teacher: flattens its scores and the model's, so that small ones count",
        low=0.1, high=100,
    )  # fmt: skip
    alpha: float = option(
        0.5, "training", "number", "teacher: its part of the loss; the labels have the rest", low=0, high=1
    )
    early_stopping: int | None = option(
        None, "training", "whole",
        "stop after so many epochs without a better one; 0: never (default: 2 with validation rows)",
        low=0, high=10_000,
    )  # fmt: skip
    keep_best: bool | None = option(
        None, "training", "flag", "keep the epoch that was best on the validation rows (default: if there are any)"
    )
    precision: str = option(AUTO, "training", "text", "bf16 needs hardware support", choices=(AUTO, FP32, BF16))
    group_by_length: bool = option(True, "training", "flag", metavar=None)
    pad_to_max_length: bool = option(False, "training", "flag", metavar=None)
    save_minutes: float = option(
        5.0, "training", "number", "interval of saves, besides those after each epoch, for resuming", low=0, high=1e6
    )
    report_to: tuple[str, ...] = option((), "training", "names", "trackers of the figures", choices=TRACKERS)
    seed: int = option(0, "training", "whole", low=0, high=2**32 - 1)

    @property
    def target(self) -> Path:
        """Return the folder of the checkpoint."""
        return self.output or Path("checkpoints") / (self.name or "")

    @property
    def from_hub(self) -> bool:
        """Return whether the rows are those of `dataset`; `file` overrides it."""
        return self.dataset is not None and self.file is None

    @property
    def read_truncation(self) -> str:
        """Return the truncation of a text, or of a pair: "head" means the longest first there."""
        return LONGEST_FIRST if self.text_pair_column and self.truncation == HEAD else self.truncation

    @property
    def used_head(self) -> str:
        """Return the head of the model: few labels are learned by the mean of the tokens."""
        return MEAN if self.few_labels else self.head

    @property
    def chooses(self) -> bool:
        """Return whether something is chosen on the validation rows."""
        return bool(self.early_stopping or self.keep_best or self.threshold == BEST)

    def columns(self) -> Columns:
        """Return the columns of texts and labels."""
        return Columns(
            text_column=self.text_column or "",
            label_column=self.label_column,
            label_columns=self.label_columns,
            separator=self.label_separator,
            labels=self.labels,
            allow_unlabelled=self.allow_unlabelled,
            drop_empty=self.drop_empty,
            positive_from=self.positive_from,
            text_pair_column=self.text_pair_column,
            numeric=self.problem_type == REGRESSION,
            group_column=self.group_column,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved recipe in JSON types."""
        return {name: _json(getattr(self, name)) for name in OPTIONS}


OPTIONS: dict[str, Option] = {field.name: field.metadata["option"] for field in fields(Recipe)}
_SECTIONS = ("", "data", "model", "training")
_NAMES = {section: [name for name, one in OPTIONS.items() if one.section == section] for section in _SECTIONS}


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
            _check_known(path, [key], _NAMES, "section")
            _check_known(path, value, _NAMES[key], f"key in [{key}]")
            values |= value
        else:
            _check_known(path, [key], _NAMES[""], "key")
            values[key] = value
    values.setdefault("name", path.stem)
    return make_recipe(Recipe(), values, path.parent, f"recipe {path}")


def make_recipe(base: Recipe, values: Mapping[str, Any], folder: Path, source: str) -> Recipe:
    """Return `base` with `values` of the right types; relative paths start from `folder`, except `output`."""
    made = {name: converted(name, OPTIONS[name], value, folder, source) for name, value in values.items()}
    return replace(base, **made)


_OF_VALIDATION = ("early_stopping", "keep_best")  # off without such rows, and decided anew where a share is given


def as_toml(recipe: Recipe) -> str:
    """Return `recipe` as TOML that `read_recipe` reads back from any folder: its paths are absolute.

    Options without a value (None) are left out, because TOML has no word for it.
    """
    content: dict[str, Any] = {}
    for name, one in OPTIONS.items():
        value = getattr(recipe, name)
        if value is None or value == () or (name in _OF_VALIDATION and not value and not recipe.validation_share):
            continue
        if isinstance(value, Path) or (one.kind == "base" and Path(value).is_dir()):
            value = Path(value).absolute()
        if one.kind == "models":
            value = tuple(str(Path(name).absolute()) if Path(name).exists() else name for name in value)
        section = content.setdefault(one.section, {}) if one.section else content
        section[name] = _json(value)
    import tomli_w  # not at the top: export reads this module and has no tomli-w

    return tomli_w.dumps(content)


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    if isinstance(value, str) and is_address(value):
        return redacted(value)
    return str(value) if isinstance(value, Path) else value


def _check_known(path: Path, given: Iterable[str], known: Iterable[str], what: str) -> None:
    names = [one for one in known if one]
    for name in given:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"
        raise TrainingError(f"recipe {path}: unknown {what} '{name}'{hint}")
