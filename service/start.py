"""The end of a start that cannot be: one line and one exit code, for gunicorn's master and its workers alike."""

from __future__ import annotations

import sys
from typing import NoReturn

# gunicorn's own code for "a worker could not boot": it stops instead of trying again.
EXIT_CANNOT_START = 3


def cannot_start(problem: object) -> NoReturn:
    """Say why the server cannot start, in one line, and end this process."""
    print(f"inferer: cannot start: {problem}", file=sys.stderr)
    raise SystemExit(EXIT_CANNOT_START) from None
