"""Checks of a recipe before the data is read: missing options, ranges, and options that contradict each other."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.data.column_flags import check_columns, check_named
from training.data.encoding import codec_of
from training.data.location import is_address
from training.data.reader import is_table
from training.errors import TrainingError
from training.recipe.defaults import check_head_first, with_choosing
from training.recipe.recipe import BEST, ENCODER, MLP, OF_PAIRS, OPTIONS, TOKEN, Recipe
from training.run import processes

_NOT_OF_FEW_LABELS = (
    *("head", "head_learning_rate", "head_first_epochs", "freeze"),
    *("class_weights", "pos_weight", "label_smoothing", "teacher"),
)


def check_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe`, with the choice of the epoch decided, if it can run. Raises TrainingError with the fault."""
    recipe = with_choosing(recipe)
    _check_source(recipe)
    if not recipe.output and not recipe.name:
        raise TrainingError("--output is missing: the folder to write the checkpoint to")
    for name, one in OPTIONS.items():
        value = getattr(recipe, name)
        if one.low is None or one.high is None or value is None or isinstance(value, str | tuple):
            continue
        if not one.low <= value <= one.high:
            also = "".join(f' or "{word}"' for word in one.choices)
            raise TrainingError(f"{name} is {value}, expected {one.low:.12g} to {one.high:.12g}{also}")
    _check_shares(recipe)
    _check_model(recipe)
    _check_teacher(recipe)
    _check_few_labels(recipe)
    check_head_first(recipe)
    for name in recipe.report_to:
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f"--report-to {name} needs {name}: pip install {name}")
    if (kind := _kind(recipe)) is not None:
        check_kind(recipe, kind)
    if recipe.batch_size % processes.count():
        several = f"a multiple of the {processes.count()} processes"
        raise TrainingError(f"batch_size is {recipe.batch_size}, expected {several}")
    return recipe


def _kind(recipe: Recipe) -> str | None:
    """Return the problem type, None where only the data tells it."""
    if recipe.problem_type is not None:
        return recipe.problem_type
    if recipe.label_columns or recipe.label_separator:
        return MULTI_LABEL
    may_be_lists = recipe.from_hub or str(recipe.file).lower().endswith((".jsonl", ".ndjson", ".json", ".parquet"))
    return None if may_be_lists else SINGLE_LABEL


def _check_source(recipe: Recipe) -> None:
    if recipe.file is None and recipe.dataset is None:
        raise TrainingError("--data is missing: the file or folder to train on")
    if recipe.test_file is not None and recipe.file is None:
        raise TrainingError("--test-data goes with --data; a data set of the hub has its own test rows")
    if recipe.encoding is not None:
        codec_of(recipe.encoding)
        if recipe.from_hub:
            raise TrainingError("--encoding is for CSV and TSV; a data set of the hub has its own")
    check_columns(recipe.columns(), may_be_lists=_kind(recipe) != SINGLE_LABEL)
    check_named(recipe.columns(), recipe.file)


def _check_shares(recipe: Recipe) -> None:
    held_out = 0.0 if recipe.test_file or recipe.from_hub else recipe.test_share
    beside = f" beside test_share {recipe.test_share:g}" if held_out else ""
    for name in ("calibration_share", "validation_share"):
        share, most = getattr(recipe, name), round(0.95 - held_out, 6)
        if share and not 0.01 <= share <= most:
            raise TrainingError(f"{name} is {share:g}, expected 0, or 0.01 to {most:g}{beside}")
    total = round(held_out + recipe.calibration_share + recipe.validation_share, 6)
    if total > 0.95:
        names = "test_share, validation_share and calibration_share"
        raise TrainingError(f"{names} are {total:g} together, expected at most 0.95")
    for name in ("early_stopping", "keep_best"):
        if getattr(recipe, name) and not recipe.validation_share:
            raise TrainingError(f"{name} chooses an epoch on rows that are not held out: give validation_share too")
    if recipe.threshold == BEST and not recipe.validation_share:
        raise TrainingError(f'threshold "{BEST}" is chosen on rows that are not held out: give validation_share too')
    if recipe.validation_share and not recipe.chooses:
        needs = f'early_stopping, keep_best or threshold = "{BEST}"'
        raise TrainingError(f"validation_share is {recipe.validation_share:g}, but nothing uses it: give {needs}")


def _check_model(recipe: Recipe) -> None:
    for option, head in (("head_sizes", MLP), ("head_embedding", TOKEN), ("head_layers", TOKEN)):
        if getattr(recipe, option) != getattr(Recipe(), option) and recipe.head != head:
            raise TrainingError(f'{option} is for head "{head}"; head is "{recipe.head}"')
    if recipe.truncation in OF_PAIRS and not recipe.text_pair_column:
        raise TrainingError(f'truncation "{recipe.truncation}" is for pairs: give text_pair_column')
    if recipe.freeze == ENCODER and recipe.head_first_epochs:
        raise TrainingError(f'head_first_epochs precedes training all weights, freeze "{ENCODER}" forbids it')


def _check_few_labels(recipe: Recipe) -> None:
    if not recipe.few_labels:
        return
    if processes.count() > 1:
        several = f"not of {processes.count()}: leave the launcher out"
        raise TrainingError(f"few_labels pairs the texts of one process, {several}")
    for name in _NOT_OF_FEW_LABELS:
        if getattr(recipe, name) != getattr(Recipe(), name):
            raise TrainingError(f"{name} cannot be given with few_labels, which fits a linear head to embeddings")


def _check_teacher(recipe: Recipe) -> None:
    if not recipe.teacher:
        for name in ("unlabelled", "temperature", "alpha"):
            if getattr(recipe, name) != getattr(Recipe(), name):
                raise TrainingError(f"{name} is for learning from a teacher: give teacher too")
        return
    if recipe.group_column:
        raise TrainingError("teacher cannot be given with group_column: ranked rows learn from their numbers")
    for path in map(Path, filter(lambda one: not is_address(one), recipe.teacher)):
        if len(path.parts) > 1 and path.parent.is_dir() and not path.exists():  # a name of the hub has no folder here
            expected = "expected a checkpoint's folder, a table, or a name of the hub"
            raise TrainingError(f"teacher {path}: does not exist; {expected}")
    tables = [name for name in recipe.teacher if is_table(name)]
    if tables and len(recipe.teacher) > 1:
        raise TrainingError(f"teacher names {tables[0]} and others; expected checkpoints, or one table")
    if tables and recipe.unlabelled:
        raise TrainingError(f"unlabelled cannot be given with {tables[0]}, which has its own texts")
    if tables and recipe.problem_type == REGRESSION:
        raise TrainingError(f"{tables[0]} has probabilities; a regression learns from a checkpoint")


def check_kind(recipe: Recipe, kind: str) -> None:
    """Raise TrainingError for an option of another problem type than `kind`."""
    if kind == REGRESSION:
        for name in ("class_weights", "pos_weight", "label_smoothing"):
            if getattr(recipe, name):
                raise TrainingError(f"{name} is for labels; a regression has none")
    if recipe.few_labels and kind != SINGLE_LABEL:
        raise TrainingError("few_labels is for data with one label per text")
    if recipe.class_weights is not None and kind == MULTI_LABEL:
        raise TrainingError("class_weights is for single-label data; multi-label data has pos_weight")
    if recipe.pos_weight is not None and kind == SINGLE_LABEL:
        raise TrainingError("pos_weight is for multi-label data; single-label data has class_weights")
    if recipe.threshold != Recipe().threshold and kind != MULTI_LABEL:
        raise TrainingError(
            "threshold is for multi-label data; single-label data gets the label with the best score, a regression none"
        )


def check_weights(recipe: Recipe, labels: Sequence[str]) -> None:
    """Raise TrainingError for weights of an unknown label, or without one of `labels`."""
    for option in ("class_weights", "pos_weight"):
        given = getattr(recipe, option)
        if not isinstance(given, Mapping):
            continue
        unknown, missing = sorted(set(given) - set(labels)), [label for label in labels if label not in given]
        if unknown or missing:
            what = f"names {unknown[0]!r}" if unknown else f"leaves out {missing[0]!r}"
            raise TrainingError(f"{option} {what}; the labels are {', '.join(labels)}")
