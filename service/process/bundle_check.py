"""A child process that loads, checks and warms up the bundle of the environment before it goes into service."""

from __future__ import annotations

import os
import signal

from inferer.errors import InfererError
from service.app import load_model
from service.settings import SettingsError, from_env

_TIMEOUT_S = 600  # the conversion of a large PyTorch checkpoint on a busy machine fits


def main() -> int:
    """Return 0 and print the folder, or return 3 and print the problem in one line."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.default_int_handler)  # KeyboardInterrupt also ends a running conversion
    signal.alarm(_TIMEOUT_S)
    try:
        print(load_model(from_env(os.environ)).bundle.path, flush=True)
    except (InfererError, SettingsError) as error:
        print(error, flush=True)
    except KeyboardInterrupt:
        print(f"the check of the bundle was stopped or took more than {_TIMEOUT_S} s", flush=True)
    else:
        return 0
    return 3


if __name__ == "__main__":
    os._exit(main())  # exit handlers of libraries must not print after the outcome
