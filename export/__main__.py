"""The command `python -m export CHECKPOINT BUNDLE`: a PyTorch checkpoint to a checked int8 bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from export.errors import ExportError
from export.flags import parser, read_config_flags, read_options
from export.source import find_checkpoint
from inferer.bundle.files import MANIFEST
from inferer.errors import InfererError
from training.errors import TrainingError
from training.run.output import OutputError, check_target, interrupt_on_signals

_FP32_BUNDLE = 4  # exit code


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code.

    0; 2 when the export fails; 4 when int8 missed the limits and the bundle is fp32; 130 when interrupted.
    """
    args = parser().parse_args(argv)
    interrupt_on_signals()
    try:
        config = read_config_flags(args)
        target = Path(args.bundle)
        check_target(target, MANIFEST, overwrite=args.overwrite)
        source = find_checkpoint(args.checkpoint)
        options = read_options(args)
        from export.pipeline import export  # torch takes seconds to import

        guard = export(source, target, config, options)
    except (ExportError, OutputError, InfererError, TrainingError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nexport: interrupted; nothing was written", file=sys.stderr)
        return 130
    return _FP32_BUNDLE if guard is not None and guard.chosen is None else 0


if __name__ == "__main__":
    sys.exit(main())
