"""Load, check and warm up the model of the environment, and print its bundle's folder.

Started by the master process before a new bundle goes into service, so that a bad one is found where it harms nobody.
"""

from __future__ import annotations

import os
import signal
import sys

from inferer.errors import InfererError
from service.app import load_model
from service.settings import SettingsError, from_env


def main() -> int:
    """Return 0 and print the folder, or return 3 and print in one line what is wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a conversion under way ends with this process
    try:
        model = load_model(from_env(os.environ))
    except (InfererError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    print(model.bundle.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
