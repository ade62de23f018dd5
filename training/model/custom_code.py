"""The refusal of checkpoints that bring Python code of their own.

transformers asks at a terminal whether to run such code unless each call says no.
"""

from __future__ import annotations

from typing import Any

_FIELD = "auto_map"  # names the classes in the checkpoint's own Python files


class RefusedError(ValueError):
    """A checkpoint that would be misread or would run its own code; the message is one line."""


def refuse_code(file: str, found: dict[str, Any], remedy: str) -> None:
    """Raise RefusedError if the settings `found` in `file` name code; `remedy` ends the message."""
    if found.get(_FIELD):
        raise RefusedError(f"{file} asks for Python code of the checkpoint ({_FIELD}), which never runs here; {remedy}")
