"""`python -m export CHECKPOINT BUNDLE`: a PyTorch checkpoint in, a checked int8 bundle out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from export.checkpoint_path import find_checkpoint
from export.errors import ExportError
from export.guard.limits import Limits
from export.guard.options import add_arguments, read_eval_file
from export.scores.options import add_arguments as add_score_arguments
from export.scores.options import read_wishes
from inferer.bundle.manifest import MANIFEST, MAX, POOLINGS
from inferer.bundle.reader import INT8_TOKEN, PROBLEM_TYPES, SCHEMES, TRUNCATIONS
from inferer.config import Config, read_config
from inferer.errors import InfererError, shown
from training.errors import TrainingError
from training.run.output import OutputError, check_target, interrupt_on_signals

_ONLY_FP32_HOLDS = 4
_LONGEST_NUMBER = 9  # digits; Python refuses to read thousands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a PyTorch text classifier to a bundle for serving.",
        epilog="Exit codes: 0; 2 it cannot be done; 4 int8 missed the limits and the bundle is fp32; 130 interrupted.",
    )
    parser.add_argument("checkpoint", help='a Hugging Face folder, a state dict (.bin, .pt) with --config, or "latest"')
    parser.add_argument("bundle", help="the folder to write")
    parser.add_argument(
        "--config",
        metavar="FILE.json",
        help="model_type, model_name, labels, problem_type, max_seq_length, …",
    )
    parser.add_argument("--problem-type", choices=PROBLEM_TYPES, help="for a checkpoint that does not say")
    parser.add_argument("--max-length", type=int, help="tokens read of a text (default: the checkpoint's)")
    parser.add_argument("--truncation", choices=TRUNCATIONS, help="of longer texts (default: as in training)")
    parser.add_argument("--window-overlap", type=_overlap, metavar="TOKENS", help="that windows share (a quarter)")
    parser.add_argument("--window-pooling", choices=POOLINGS, default=MAX, help=f"of windows' logits ({MAX})")
    parser.add_argument("--scheme", choices=SCHEMES, default=INT8_TOKEN, help=f"({INT8_TOKEN})")
    parser.add_argument("--keep-fp32", action="store_true", help="keep the fp32 model in the bundle too")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")
    add_arguments(parser)
    add_score_arguments(parser)
    return parser


def _overlap(given: str) -> int:
    if not given.isdecimal() or len(given) > _LONGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"is {shown(given)}, expected a number of tokens from 0")
    return int(given)


def _config(args: argparse.Namespace) -> Config:
    """Return the config with the flags put over it."""
    values = dict(read_config(args.config).given or {})
    if args.problem_type:
        values["problem_type"] = args.problem_type
    if args.max_length is not None:
        values["max_length"] = args.max_length
    return read_config(values)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code.

    0; 2 when it cannot be done; 4 when int8 missed the limits and the bundle is fp32; 130 when interrupted.
    """
    args = _parser().parse_args(argv)
    interrupt_on_signals()
    try:
        config = _config(args)
        target = Path(args.bundle)
        check_target(target, MANIFEST, overwrite=args.overwrite)
        source = find_checkpoint(args.checkpoint)
        texts, wishes = read_eval_file(args), read_wishes(args)
        limits = Limits(args.max_accuracy_drop, args.min_agreement)
        from export.pipeline import export  # torch takes seconds to import
        from export.plan import Choices

        choices = Choices(
            args.scheme,
            args.truncation,
            args.window_overlap,
            args.window_pooling,
            keep_fp32=args.keep_fp32,
            eval_file=texts,
            limits=limits,
            wishes=wishes,
        )
        guard = export(source, target, config, choices)
    except (ExportError, OutputError, InfererError, TrainingError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nexport: interrupted; nothing was written", file=sys.stderr)
        return 130
    return _ONLY_FP32_HOLDS if guard is not None and guard.chosen is None else 0


if __name__ == "__main__":
    sys.exit(main())
