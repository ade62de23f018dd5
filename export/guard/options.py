"""The flags of the guard: which file, which columns, which limits, and which of them go together. No torch."""

from __future__ import annotations

import argparse

from export.errors import ExportError
from export.eval_texts import EvalFile
from inferer.bundle.reader import FP32
from training.data.column_flags import COLUMN_OPTIONS, add_column_arguments, columns_from
from training.data.location import file_name, parse_location
from training.data.remote import read_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the file and the limits, and those that name columns, of --calibrate's file too."""
    group = parser.add_argument_group("int8 on your own texts")
    group.add_argument(
        "--eval", metavar="FILE.csv", help="compare fp32 and int8 on its texts (or TSV, JSON Lines, Parquet)"
    )
    group.add_argument(
        "--max-accuracy-drop", type=float, metavar="POINTS", help="most that accuracy may fall, in percentage points"
    )
    group.add_argument(
        "--min-agreement", type=float, metavar="PERCENT", help="fewest texts with the same label, in per cent"
    )
    group = parser.add_argument_group("columns, of --eval and of --calibrate")
    add_column_arguments(group)


def read_eval_file(args: argparse.Namespace) -> EvalFile | None:
    """Return the file that `args` name by --eval, its faults found; None without it.

    Raises ExportError for flags that do not go together, DataError for faults of the file.
    """
    _check_columns(args)
    _check_guard(args)
    return None if args.eval is None else read_file("--eval", args)


def read_file(flag: str, args: argparse.Namespace) -> EvalFile:
    """Return the file that `args` name by `flag`, with the columns that they name. Raises DataError for its faults.

    It is a path or an address, of any format that training reads but a folder.
    """
    given = getattr(args, flag.removeprefix("--"))
    source = parse_location(given)
    if not file_name(source):
        raise ExportError(f"{flag} is {given!r}, expected the path or the address of a file")
    file = EvalFile(source, columns_from(args), read_bytes(source))
    file.dataset(None)
    return file


def _check_columns(args: argparse.Namespace) -> None:
    if args.eval is None and args.calibrate is None:
        for name in COLUMN_OPTIONS:
            if getattr(args, name) not in (None, False):
                raise ExportError(f"{_flag(name)} needs --eval FILE.csv or --calibrate FILE.csv, whose column it names")
    columns_from(args)


def _check_guard(args: argparse.Namespace) -> None:
    limits = [name for name in ("max_accuracy_drop", "min_agreement") if getattr(args, name) is not None]
    if limits and args.eval is None:
        raise ExportError(f"{_flag(limits[0])} needs --eval FILE.csv, the texts to measure int8 on")
    if args.eval is not None and args.scheme == FP32:
        what = _flag(limits[0]) if limits else "--eval"
        if limits or (args.calibrate is None and args.abstain_below is None):
            raise ExportError(f"{what} compares int8 with fp32, and --scheme {FP32} makes no int8")
    if args.max_accuracy_drop is not None and args.label_column is None and args.label_columns is None:
        raise ExportError(
            "--max-accuracy-drop needs labels: name their column with --label-column (or --label-columns); "
            "without labels there is --min-agreement"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
