"""A child process that loads, checks and warms up the bundle of the environment before it goes into service."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from inferer.checkpoint import bundle_for
from inferer.config import Config
from inferer.errors import InfererError
from service.app import load_model
from service.process import load_limits
from service.process.load_limits import CONVERSION_TIMEOUT_S
from service.settings import SettingsError, from_env


def main() -> int:
    """Return 0 and print the folder, or return 3 and print the problem in one line."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.default_int_handler)  # KeyboardInterrupt also ends a running conversion
    signal.alarm(CONVERSION_TIMEOUT_S)
    try:
        settings = from_env(os.environ)
        folder = bundle_for(settings.bundle, Config(), cache_dir=settings.cache_dir)
        with load_limits.limited(load_limits.memory_beside_others(folder), settings.load_timeout_s):
            try:
                load_model(replace(settings, bundle=folder))
            except MemoryError:
                print(load_limits.too_much_memory(folder), flush=True)
                return 3
        print(folder, flush=True)
    except (InfererError, SettingsError) as error:
        print(error, flush=True)
    except KeyboardInterrupt:
        print(f"the check of the bundle was stopped or took more than {CONVERSION_TIMEOUT_S} s", flush=True)
    else:
        return 0
    return 3


if __name__ == "__main__":
    os._exit(main())  # exit handlers of libraries must not print after the outcome
