"""The end of a start that cannot be: one line and one exit code, for gunicorn's master and its workers alike."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from service.logs import formatter, log_format

# gunicorn's own code for "a worker could not boot": it stops instead of trying again.
EXIT_CANNOT_START = 3


def cannot_start(problem: object) -> NoReturn:
    """Say why the server cannot start, in one line of the log, and end this process."""
    # Not through logging: the settings that say how to log may be what is wrong.
    message = f"cannot start: {problem}"
    record = logging.LogRecord("inferer", logging.CRITICAL, "", 0, message, None, None)
    print(formatter(log_format(os.environ)).format(record), file=sys.stderr)
    raise SystemExit(EXIT_CANNOT_START) from None
