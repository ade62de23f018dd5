"""The library of fused operators for int8-token models, in C++: optional, as every model also runs without it.

`python -m inferer.native.build` makes it. export/engine/fused.py has the operators' meaning in plain nodes.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("inferer")

LIBRARY = Path(__file__).with_name("operators.so")
# The key in an ONNX file's metadata that tells that its graph calls the operators.
METADATA = "inferer.operators"

_unusable: set[Path] = set()


def library() -> Path | None:
    """Return the library, or None where there is none that loads."""
    return LIBRARY if LIBRARY not in _unusable and LIBRARY.is_file() else None


def not_usable(reason: str) -> None:
    """Note that the library does not load, with one line per process."""
    _unusable.add(LIBRARY)
    log.warning("%s is not used, models run slower without it: %s", LIBRARY, reason)
