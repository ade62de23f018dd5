"""The processes of one run, as accelerate's launcher starts them, of which the main one prints and writes.

Imports accelerate, and with it torch, only for several processes.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def is_main() -> bool:
    """Return whether this process prints and writes; a single process does."""
    return os.environ.get("RANK", "0") == "0"


def count() -> int:
    """Return the number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def say(text: str) -> None:
    """Print `text` on stderr, from the main process alone."""
    if is_main():
        print(text, file=sys.stderr)


def wait_for_all() -> None:
    """Wait until every process of the run is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def from_main(value: Any) -> Any:
    """Return the main process's `value` in every process of the run; all of them must call this."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
