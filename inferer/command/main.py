"""The console command `inferer`: predict, serve, train, export and evaluate.

`predict` runs here. The other commands replace this process by their stage, with the arguments as they were given.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from inferer import __version__
from inferer.command import predict
from inferer.command.stages import BULK, EVALUATE, EXPORT, SERVE, TRAIN, Stage, stage_environment

_STAGES = {"train": TRAIN, "export": EXPORT, "evaluate": EVALUATE}
COMMANDS = ("predict", "serve", *_STAGES)
_HELP = """\
usage: inferer COMMAND …

Train, export and serve BERT-style text classifiers on CPUs.

commands:
  predict   classify texts, or the lines of standard input, with a bundle;
            with --model, the rows of a table           (extra: bulk)
  serve     serve a bundle over HTTP                     (extra: serve)
  train     fine-tune a classifier from labelled texts   (extra: training)
  export    turn a checkpoint into an int8 bundle        (extra: export)
  evaluate  measure a checkpoint or a bundle             (extra: training)

options:
  -h, --help  show this help; `inferer COMMAND -h` shows that of a command
  --version   show the version"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, or the process's own; return the exit code: 2 for a wrong call."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_HELP)
    elif name == "--version":
        print(f"inferer {__version__}")
    elif name == "predict" and any(one == "--model" or one.startswith("--model=") for one in arguments):
        _run(name, BULK, arguments)
    elif name == "predict":
        return predict.main(arguments, prog="inferer predict")
    elif name == "serve":
        _serve(arguments)
    elif name in _STAGES:
        _run(name, _STAGES[name], arguments)
    else:
        print(f"inferer: unknown command {name!r}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return 0


def _serve(arguments: Sequence[str]) -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="inferer serve",
        description="Serve a bundle over HTTP. The environment variables INFERER_… hold all other settings.",
    )
    add = parser.add_argument
    add("bundle", nargs="?", help="a bundle's folder, or a PyTorch checkpoint (default: INFERER_BUNDLE)")
    add("--host", help="the address to listen on (default: INFERER_HOST, else 127.0.0.1)")
    add("--port", help="the port to listen on (default: PORT, else 8080)")
    add("--workers", help="the number of processes (default: INFERER_WORKERS, else 1)")
    args = parser.parse_args(arguments)
    given = {
        "INFERER_BUNDLE": args.bundle, "INFERER_HOST": args.host, "PORT": args.port, "INFERER_WORKERS": args.workers,
    }  # fmt: skip
    if not args.bundle and not os.environ.get("INFERER_BUNDLE"):
        parser.error("give a bundle's folder, or set INFERER_BUNDLE")
    if args.port:
        os.environ.pop("AIP_HTTP_PORT", None)  # Vertex AI's port would win over PORT
    os.environ.update({name: value for name, value in given.items() if value is not None})
    _run("serve", SERVE, [])


def _run(name: str, stage: Stage, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `stage`; exit with 2 and one line where its packages are not installed."""
    if missing := stage.missing():
        needs = f"needs packages that are not installed here ({', '.join(missing)})"
        print(f"inferer {name} {needs}; install inferer with the extra '{stage.extra}'", file=sys.stderr)
        raise SystemExit(2)
    command = stage.command(arguments)
    os.execve(command[0], command, stage_environment())  # noqa: S606 - a list, never a shell's line
