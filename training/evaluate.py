"""`python -m training.evaluate MODEL --data FILE`: the figures of a checkpoint or bundle on labelled texts.

Faults of flags, folder and data are found before torch is imported.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inferer.bundle.manifest import MULTI_LABEL, NONE, REGRESSION, SINGLE_LABEL
from inferer.bundle.reader import CONFIG, DEFAULT_THRESHOLD
from training.data.column_flags import (
    add_column_arguments,
    check_pair,
    check_problem_type,
    columns_from,
    in_model_order,
)
from training.data.dataset import Columns, Dataset
from training.data.location import file_name, parse_location
from training.data.reader import read_dataset
from training.errors import TrainingError
from training.evaluation.model_folder import ModelFolder, read_model_folder
from training.evaluation.predictions import Predictions, predictions_from_logits
from training.label_errors.files import RECORD
from training.label_errors.find import FLAG, FOLDS, find_label_errors, recipe_of
from training.report.evaluation_report import LENGTHS, REPORT, write_report
from training.report.metrics import measure
from training.report.pictures import draw_lengths
from training.report.tables import as_table
from training.run.output import OutputError, check_target, fresh_folder, interrupt_on_signals


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model on labelled texts: accuracy, F1 and more, with intervals and baselines.",
    )
    parser.add_argument("model", metavar="CHECKPOINT_OR_BUNDLE", help="a folder written by training or export")
    parser.add_argument("--data", metavar="FILE", required=True, help="labelled texts, as training reads them")
    columns = parser.add_argument_group("columns (default: those of the checkpoint's training, else text and label)")
    add_column_arguments(columns)
    columns.add_argument("--positive-from", type=float, metavar="N", help="labels are numbers: the second from N up")
    columns.add_argument("--drop-empty", action="store_true", help="leave out rows without text")
    parser.add_argument(
        "--threshold",
        type=float,
        help=f"multi-label: one threshold for all labels (default: the model's own, else {DEFAULT_THRESHOLD})",
    )
    parser.add_argument("--output", metavar="FOLDER", help=f"write {REPORT}, pictures and mistakes into it")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
    errors = parser.add_argument_group("which labels of --data are wrong? (extra: label-errors)")
    errors.add_argument(
        FLAG, action="store_true", help="train again by the checkpoint's recipe, on folds of --data, into --output"
    )
    errors.add_argument("--folds", type=int, metavar="N", help=f"the models to train ({FOLDS})")
    return parser


def _columns(args: argparse.Namespace, model: ModelFolder) -> Columns:
    """Return the columns that the flags name, else those of the model's recipe, else text and label.

    Raises TrainingError for columns of another kind than the model.
    """
    recipe = model.recipe
    label_columns, separator = tuple(recipe.get("label_columns") or ()), recipe.get("label_separator")
    defaults = Columns(
        recipe.get("text_column") or "text",
        label_column=None if label_columns else recipe.get("label_column") or "label",
        label_columns=label_columns,
        separator=separator,
        allow_unlabelled=bool(separator and recipe.get("allow_unlabelled")),
        drop_empty=args.drop_empty,
        positive_from=args.positive_from,
        text_pair_column=recipe.get("text_pair_column"),
        numeric=model.problem_type == REGRESSION,
        group_column=recipe.get("group_column"),
    )
    if args.label_separator is not None and args.label_columns is None and label_columns:
        defaults = replace(defaults, label_column="label", label_columns=())
    columns = columns_from(args, defaults)
    check_problem_type(columns, model.problem_type)
    if model.text_pair is not None:
        check_pair(columns, pair=model.text_pair)
    if args.threshold is not None and columns.problem_type != MULTI_LABEL:
        kind = "single-label" if columns.problem_type == SINGLE_LABEL else "a regression"
        raise TrainingError(f"--threshold is {args.threshold}, but the model is {kind} and has no thresholds")
    return columns if columns.label_columns or columns.numeric else replace(columns, labels=model.labels)


def _predict(
    model: ModelFolder, dataset: Dataset, source: Path | str, threshold: float | None
) -> tuple[Predictions, dict[str, Any], tuple[list[int], int] | None]:
    """Return the predictions, facts for the report, and a checkpoint's lengths in tokens with its max_length."""
    multi = dataset.problem_type == MULTI_LABEL
    if model.is_bundle:
        from training.evaluation.bundle_predictions import predict_bundle  # it imports onnxruntime

        predictions, facts = predict_bundle(model.path, dataset, source, threshold)
        if multi:
            facts["threshold"] = "the bundle's" if threshold is None else threshold
        return predictions, facts, None
    from training.evaluation.checkpoint_logits import compute_logits, load_model  # torch takes seconds to import

    loaded = load_model(model.path, pair=dataset.columns.text_pair_column is not None)
    encoded = loaded.encoder.encode(dataset.texts)
    logits = compute_logits(loaded, encoded)
    if logits.shape[1] != len(dataset.labels):
        raise TrainingError(
            f"{model.path}: gives {logits.shape[1]} logits, id2label names {len(dataset.labels)} labels"
        )
    lengths, max_length = encoded.lengths, loaded.encoder.max_length
    threshold = next(one for one in (threshold, model.threshold, DEFAULT_THRESHOLD) if one is not None)
    facts = {
        "truncated": sum(length > max_length for length in lengths),
        "max_length": max_length,
        "tokens": {"median": float(np.median(lengths)), "longest": max(lengths)},
        **({"threshold": threshold} if multi else {}),
    }
    activation = getattr(loaded.model.config, "inferer_activation", NONE)
    predictions = predictions_from_logits(logits, dataset.problem_type, threshold, activation)
    return predictions, facts, (lengths, max_length)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise TrainingError for flags out of range, or that need or exclude another."""
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise TrainingError(f"--threshold is {args.threshold}, expected 0 to 1")
    if args.overwrite and args.output is None:
        raise TrainingError("--overwrite needs --output FOLDER, the report to replace")
    if args.folds is not None and not args.find_label_errors:
        raise TrainingError(f"--folds is for {FLAG}")
    if args.find_label_errors and args.output is None:
        raise TrainingError(f"{FLAG} needs --output FOLDER, for the table of the likeliest errors")
    if args.find_label_errors and args.threshold is not None:
        raise TrainingError(f"{FLAG} works on scores, and takes no --threshold")
    if args.folds is not None and args.folds < 2:
        raise TrainingError(f"--folds is {args.folds}, expected 2 or more")


def evaluate(args: argparse.Namespace) -> None:
    """Print the figures, and with --output write the report; or find label errors, and write those."""
    _check_flags(args)
    model = read_model_folder(Path(args.model))
    recipe = recipe_of(model) if args.find_label_errors else None
    target = None if args.output is None else Path(args.output)
    if target is not None:
        if (target / CONFIG).exists():  # a model's folder may hold a report too, and must not be replaced
            raise TrainingError(f"--output {target}: has a {CONFIG}, as a model has; choose another")
        check_target(target, REPORT if recipe is None else RECORD, overwrite=args.overwrite)
    source = parse_location(args.data)
    columns = _columns(args, model)
    if model.problem_type is None:
        sys.stderr.write(f"note: {model.path} has no problem_type; by the columns it is {columns.problem_type}\n")
    dataset = in_model_order(source, read_dataset(source, columns, args.encoding), model.labels)
    if recipe is not None and target is not None:
        found = find_label_errors(recipe, dataset, args.folds or FOLDS, target, file_name(source))
        sys.stdout.write(f"{found}\n")
        return
    predictions, facts, lengths = _predict(model, dataset, source, args.threshold)
    if target is None:
        metrics = measure(dataset, predictions)
    else:
        data = {"file": file_name(source), "rows": len(dataset), "text_column": ", ".join(columns.text_columns)}
        data["labels_from"] = list(columns.label_columns) or columns.label_column
        kind = "bundle" if model.is_bundle else "checkpoint"
        facts = {"model": model.path.resolve().name, "kind": kind, "data": data, **facts}
        with fresh_folder(target) as folder:
            metrics = write_report(folder, dataset, predictions, facts)
            if lengths is not None:
                draw_lengths(folder / LENGTHS, *lengths)
    notes = {
        "rows without text were left out": dataset.dropped,
        f"of {len(dataset)} texts were truncated": facts["truncated"],
        f"of {len(dataset)} texts are below the bundle's abstain threshold": facts.get("abstained", 0),
    }
    sys.stdout.write(f"{as_table(metrics)}\n")
    sys.stdout.writelines(f"  {count} {note}\n" for note, count in notes.items() if count)
    if target is not None:
        sys.stderr.write(f"wrote {target}\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    args = _parser().parse_args(argv)
    interrupt_on_signals()
    try:
        evaluate(args)
    except (TrainingError, OutputError) as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 2
    except OSError as error:  # a full disk
        sys.stderr.write(f"evaluate: {error.filename or ''}: {error.strerror or error}; nothing was written\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nevaluate: interrupted; nothing was written\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
