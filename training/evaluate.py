"""`python -m training.evaluate MODEL --data FILE`: the figures of any checkpoint or bundle on labelled texts.

Owns the flags and the order of steps. Faults of flags, folder and data are found before torch is imported.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.data.column_flags import add_column_arguments, check_problem_type, columns_from, in_model_order
from training.data.dataset import Columns, Dataset
from training.data.location import file_name, parse_location
from training.data.reader import read_dataset
from training.errors import TrainingError
from training.evaluation.bundle_predictions import predict_bundle
from training.evaluation.model_folder import CONFIG, ModelFolder, read_model_folder
from training.evaluation.predictions import DEFAULT_THRESHOLD, Predictions, predictions_from_logits
from training.model.tokenize import lengths_of
from training.report.evaluation_report import LENGTHS, REPORT, write_report
from training.report.metrics import as_table, measure
from training.report.pictures import draw_lengths
from training.run.output import OutputError, check_target, fresh_folder, interrupt_on_signals


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model on labelled texts: accuracy, F1 and more, with intervals and baselines.",
    )
    parser.add_argument("model", metavar="CHECKPOINT_OR_BUNDLE", help="a folder that training or export wrote")
    parser.add_argument("--data", metavar="FILE", required=True, help="labelled texts, in any form that training reads")
    columns = parser.add_argument_group("columns (default: those that the checkpoint was trained on; text and label)")
    add_column_arguments(columns)
    columns.add_argument("--positive-from", type=float, metavar="N", help="labels are numbers: the second from N up")
    columns.add_argument("--drop-empty", action="store_true", help="leave out rows without text, and count them")
    parser.add_argument(
        "--threshold",
        type=float,
        help=f"multi-label: one for every label (default: the model's own, else {DEFAULT_THRESHOLD})",
    )
    parser.add_argument("--output", metavar="FOLDER", help=f"write {REPORT}, pictures and the mistakes into it")
    parser.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    return parser


def _check_flags(args: argparse.Namespace) -> None:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise TrainingError(f"--threshold is {args.threshold}, expected 0 to 1")
    if args.overwrite and args.output is None:
        raise TrainingError("--overwrite needs --output FOLDER, what it may replace")


def _columns(args: argparse.Namespace, model: ModelFolder) -> Columns:
    """Return the columns that the flags name, else those of the model's recipe, else text and label.

    Raises TrainingError for columns of another kind than the model.
    """
    recipe = model.recipe
    label_columns = tuple(recipe.get("label_columns") or ())
    separator = recipe.get("label_separator")
    defaults = Columns(
        recipe.get("text_column") or "text",
        label_column=None if label_columns else recipe.get("label_column") or "label",
        label_columns=label_columns,
        separator=separator,
        allow_unlabelled=bool(separator and recipe.get("allow_unlabelled")),
        drop_empty=args.drop_empty,
        positive_from=args.positive_from,
    )
    columns = columns_from(args, defaults)
    check_problem_type(columns, model.problem_type)
    if args.threshold is not None and columns.problem_type == SINGLE_LABEL:
        raise TrainingError(f"--threshold is {args.threshold}, and the model is single-label: thresholds are for multi")
    return columns if columns.label_columns else replace(columns, labels=model.labels)


def _answer(
    model: ModelFolder, dataset: Dataset, path: Path | str, threshold: float | None
) -> tuple[Predictions, dict[str, Any], tuple[list[int], int] | None]:
    """Return the predictions, facts for the report, and of a checkpoint the lengths in tokens with its max_length."""
    multi = dataset.problem_type == MULTI_LABEL
    if model.is_bundle:
        found = predict_bundle(model.path, dataset, path, threshold)
        facts: dict[str, Any] = {"truncated": found.truncated, "abstained": found.abstained}
        if multi:
            facts["threshold"] = "the bundle's" if threshold is None else threshold
        return found.predictions, facts, None
    from training.evaluation.checkpoint_logits import compute_logits, load_model  # torch takes seconds to import

    loaded = load_model(model.path)
    logits = compute_logits(loaded, dataset.texts)
    if logits.shape[1] != len(dataset.labels):
        raise TrainingError(
            f"{model.path}: gives {logits.shape[1]} logits, id2label names {len(dataset.labels)} labels"
        )
    lengths = lengths_of(loaded.tokenizer, dataset.texts)
    cut = next(one for one in (threshold, model.threshold, DEFAULT_THRESHOLD) if one is not None)
    facts = {
        "truncated": sum(length > loaded.max_length for length in lengths),
        "max_length": loaded.max_length,
        "tokens": {"median": float(np.median(lengths)), "longest": max(lengths)},
    }
    if multi:
        facts["threshold"] = cut
    return predictions_from_logits(logits, dataset.problem_type, cut), facts, (lengths, loaded.max_length)


def evaluate(args: argparse.Namespace) -> None:
    """Do what the flags say: print the figures, and write the report where it was asked for."""
    _check_flags(args)
    model = read_model_folder(Path(args.model))
    target = None if args.output is None else Path(args.output)
    if target is not None:
        if (target / CONFIG).exists():  # which may have a report in it: it must not be replaced by one
            raise TrainingError(f"--output {target}: has a {CONFIG}, as a model has; choose another")
        check_target(target, REPORT, overwrite=args.overwrite)
    path = parse_location(args.data)
    columns = _columns(args, model)
    if model.problem_type is None:
        sys.stderr.write(f"note: {model.path} has no problem_type; by the columns it is {columns.problem_type}\n")
    dataset = in_model_order(path, read_dataset(path, columns), model.labels)
    predictions, facts, lengths = _answer(model, dataset, path, args.threshold)
    if target is None:
        metrics = measure(dataset, predictions)
    else:
        kind = "bundle" if model.is_bundle else "checkpoint"
        source = {"file": file_name(path), "rows": len(dataset), "text_column": columns.text_column}
        source["labels_from"] = list(columns.label_columns) or columns.label_column
        with fresh_folder(target) as folder:
            metrics = write_report(
                folder, dataset, predictions, {"model": model.name, "kind": kind, "data": source, **facts}
            )
            if lengths is not None:
                draw_lengths(folder / LENGTHS, *lengths)
    sys.stdout.write(f"{as_table(metrics)}\n")
    if dataset.dropped:
        sys.stdout.write(f"  {dataset.dropped} rows without text were left out\n")
    for name, what in (("truncated", "were cut: only a part was read"), ("abstained", "the bundle would not answer")):
        if facts.get(name):
            sys.stdout.write(f"  {facts[name]} of {len(dataset)} texts {what}\n")
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
    except KeyboardInterrupt:
        sys.stderr.write("\nevaluate: interrupted; nothing was written\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
