"""The export's command-line flags: their help, their checks, and the options that they give. No torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from export.errors import ExportError
from export.eval_texts import EvalFile
from export.options import ACCURACY, F1, PRECISION, ExportOptions, Limits, ScoreOptions
from inferer.bundle.manifest import MAX, POOLINGS
from inferer.bundle.reader import FP32, INT8_TOKEN, PAIR_TRUNCATIONS, PROBLEM_TYPES, SCHEMES, TRUNCATIONS
from inferer.config import Config, read_config
from inferer.errors import shown
from training.data.column_flags import COLUMN_OPTIONS, add_column_arguments, columns_from
from training.data.location import file_name, parse_location
from training.data.remote import read_bytes

_MOST_DIGITS = 9  # Python refuses to read thousands


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a PyTorch text classifier to a bundle for serving.",
        epilog="Exit codes: 0; 2 export failed; 4 int8 missed the limits and the bundle is fp32; 130 interrupted.",
    )
    made.add_argument(
        "checkpoint",
        help='a Hugging Face folder, a hub id (ORG/NAME), a state dict (.bin, .pt) with --config, or "latest"',
    )
    made.add_argument("bundle", help="the folder to write")
    made.add_argument(
        "--config", metavar="FILE.json", help="model_type, model_name, labels, problem_type, max_seq_length, …"
    )
    made.add_argument("--tokenizer", metavar="FOLDER", type=Path, help="of the tokenizer, if the checkpoint has none")
    made.add_argument("--problem-type", choices=PROBLEM_TYPES, help="for a checkpoint that does not state it")
    made.add_argument(
        "--text-pair",
        action=argparse.BooleanOptionalAction,
        help="the model reads pairs of texts, as for NLI and reranking (default: as the checkpoint says)",
    )
    made.add_argument("--max-length", type=int, help="most tokens of a text (default: the checkpoint's)")
    made.add_argument(
        "--truncation",
        choices=tuple(dict.fromkeys((*TRUNCATIONS, *PAIR_TRUNCATIONS))),
        help="of longer texts (default: as in training)",
    )
    made.add_argument("--window-overlap", type=_overlap, metavar="TOKENS", help="shared by windows (a quarter)")
    made.add_argument("--window-pooling", choices=POOLINGS, default=MAX, help=f"of windows' logits (default: {MAX})")
    made.add_argument("--scheme", choices=SCHEMES, default=INT8_TOKEN, help=f"(default: {INT8_TOKEN})")
    made.add_argument("--keep-fp32", action="store_true", help="keep the fp32 model in the bundle too")
    made.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    guard = made.add_argument_group("int8 on your own texts")
    guard.add_argument(
        "--eval", metavar="FILE.csv", help="compare fp32 and int8 on its texts (or TSV, JSON Lines, Parquet, .xlsx)"
    )
    guard.add_argument(
        "--max-accuracy-drop", type=float, metavar="POINTS", help="largest fall in accuracy, in percentage points"
    )
    guard.add_argument(
        "--min-agreement", type=float, metavar="PERCENT", help="smallest share of texts with the same label, in percent"
    )
    guard.add_argument(
        "--min-spearman",
        type=float,
        metavar="R",
        help="regression: smallest rank correlation of int8's numbers with fp32's, 0.5 to 1",
    )
    add_column_arguments(made.add_argument_group("columns, of --eval and of --calibrate"))
    scores = made.add_argument_group("meaning of scores")
    scores.add_argument(
        "--calibrate",
        metavar="FILE.csv",
        help="make scores state how often they are right, fitted on its labelled rows, which training never saw",
    )
    scores.add_argument(
        "--tune-thresholds",
        metavar="f1|precision=P",
        help="multi-label: threshold per label, of best F1 or the lowest with this precision, on the fitted rows",
    )
    scores.add_argument(
        "--abstain-below",
        metavar="SCORE|accuracy=A",
        help="single-label: name no label where the best score is lower, or so that this share of the named is right",
    )
    return made


def read_options(args: argparse.Namespace) -> ExportOptions:
    """Return the options that `args` give, with the faults of their files found.

    Raises ExportError or TrainingError for flags that do not go together, values out of range and faults of a file.
    """
    _check_columns(args)
    _check_guard(args)
    eval_file = None if args.eval is None else _read_file("--eval", args)
    scores = _score_options(args)
    return ExportOptions(
        args.scheme,
        args.truncation,
        args.window_overlap,
        args.window_pooling,
        keep_fp32=args.keep_fp32,
        eval_file=eval_file,
        limits=Limits(args.max_accuracy_drop, args.min_agreement, args.min_spearman),
        scores=scores,
        tokenizer=args.tokenizer,
        text_pair=args.text_pair,
    )


def read_config_flags(args: argparse.Namespace) -> Config:
    """Return the config file of `args`, overridden by the flags."""
    values = dict(read_config(args.config).given or {})
    if args.problem_type:
        values["problem_type"] = args.problem_type
    if args.max_length is not None:
        values["max_length"] = args.max_length
    return read_config(values)


def _overlap(given: str) -> int:
    if not given.isdecimal() or len(given) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"is {shown(given)}, expected a number of tokens from 0")
    return int(given)


def _read_file(flag: str, args: argparse.Namespace) -> EvalFile:
    """Return the file that `args` name by `flag`: a path or an address, in any format of training but a folder."""
    given = getattr(args, flag.removeprefix("--"))
    source = parse_location(given)
    if not file_name(source):
        raise ExportError(f"{flag} is {given!r}, expected the path or the address of a file")
    file = EvalFile(source, columns_from(args), read_bytes(source), args.encoding)
    file.dataset(None)
    return file


def _check_columns(args: argparse.Namespace) -> None:
    if args.eval is None and args.calibrate is None:
        if args.encoding is not None:
            raise ExportError("--encoding is that of a file, so it needs --eval FILE.csv or --calibrate FILE.csv")
        for name in COLUMN_OPTIONS:
            if getattr(args, name) not in (None, False):
                raise ExportError(f"{_flag(name)} names a column, so it needs --eval FILE.csv or --calibrate FILE.csv")
    columns_from(args)


def _check_guard(args: argparse.Namespace) -> None:
    limits = [
        name for name in ("max_accuracy_drop", "min_agreement", "min_spearman") if getattr(args, name) is not None
    ]
    if limits and args.eval is None:
        raise ExportError(f"{_flag(limits[0])} needs --eval FILE.csv, the texts to measure int8 on")
    if args.eval is not None and args.scheme == FP32:
        flag = _flag(limits[0]) if limits else "--eval"
        if limits or (args.calibrate is None and args.abstain_below is None):
            raise ExportError(f"{flag} compares int8 with fp32, and --scheme {FP32} makes no int8 model")
    if args.max_accuracy_drop is not None and args.label_column is None and args.label_columns is None:
        raise ExportError(
            "--max-accuracy-drop needs labels: name their column with --label-column (or --label-columns); "
            "without labels there is --min-agreement"
        )


def _score_options(args: argparse.Namespace) -> ScoreOptions:
    tuning, abstaining = args.tune_thresholds, args.abstain_below
    precision = accuracy = score = None
    if tuning is not None and tuning != F1:
        if not tuning.startswith(PRECISION):
            raise ExportError(f"--tune-thresholds is {tuning!r}, expected f1 or precision=P, such as precision=0.9")
        precision = _share("--tune-thresholds", tuning, PRECISION)
    if abstaining is not None and abstaining.startswith(ACCURACY):
        accuracy = _share("--abstain-below", abstaining, ACCURACY)
    elif abstaining is not None:
        score = _number(abstaining)
        if score is None or not 0 <= score <= 1:
            raise ExportError(
                f"--abstain-below is {abstaining!r}, expected a score 0 to 1, or accuracy=A, such as accuracy=0.95"
            )
    if args.calibrate is None:
        if tuning is not None:
            raise ExportError("--tune-thresholds needs --calibrate FILE.csv, the rows to choose thresholds on")
        if accuracy is not None:
            raise ExportError(f"--abstain-below {abstaining} needs --calibrate FILE.csv, the rows to count on")
        return ScoreOptions(abstain_score=score)
    if args.label_column is None and args.label_columns is None:
        raise ExportError("--calibrate needs labels: name their column with --label-column (or --label-columns)")
    return ScoreOptions(_read_file("--calibrate", args), tuning == F1, precision, score, accuracy)


def _share(flag: str, given: str, prefix: str) -> float:
    share = _number(given.removeprefix(prefix))
    if share is None or not 0 < share <= 1:
        raise ExportError(f"{flag} is {given!r}, expected a share above 0, at most 1 ({prefix}0.9 means 90 %)")
    return share


def _number(given: str) -> float | None:
    try:
        return float(given)
    except ValueError:
        return None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
