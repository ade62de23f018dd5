"""Several processes of one run, as accelerate's launcher starts them: which of them speaks and writes.

Free of torch until there are several.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def is_main() -> bool:
    """Return whether this process is the one that speaks and writes; alone, it is."""
    return os.environ.get("RANK", "0") == "0"


def count() -> int:
    """Return how many processes make this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def say(text: str) -> None:
    """Print `text` for a person, once."""
    if is_main():
        print(text, file=sys.stderr)


def wait_for_all() -> None:
    """Wait until every process of the run is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def from_main(value: Any) -> Any:
    """Return the main process's `value` in every process of the run; all of them must ask."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
