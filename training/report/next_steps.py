"""The commands that come after a run. No torch."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COLUMNS = ("text_column", "text_pair_column", "label_column", "label_columns", "label_separator", "group_column")


def column_flags(recipe: Mapping[str, Any]) -> str:
    """Return the flags with which the export reads the rows that a run held out. recipe: in JSON types."""
    flags = []
    for key in _COLUMNS:
        if value := recipe.get(key):
            given = ", ".join(value) if isinstance(value, list) else value
            flags.append(f"--{key.replace('_', '-')} {shlex.quote(given)}")
    if recipe.get("allow_unlabelled"):
        flags.append("--allow-unlabelled")
    return " ".join(flags or ["--label-column label"])


def next_commands(recipe: Mapping[str, Any], folder: Path, *, calibrates: bool) -> list[str]:
    """Return the commands that measure the checkpoint in `folder` on other rows, make a bundle of it, and serve that.

    calibrates: whether the run held out rows to calibrate on.
    """
    program, made = _program(), shlex.quote(str(folder))
    bundle = shlex.quote(f"models/{folder.name}")
    export = f"{program} export {made} {bundle} --eval {shlex.quote(str(folder / 'held_out.csv'))}"
    calibrate = f" --calibrate {shlex.quote(str(folder / 'calibration.csv'))}" if calibrates else ""
    return [
        f"{program} evaluate {made} --data OTHER.csv",
        f"{export}{calibrate} {column_flags(recipe)}",
        f"{program} serve {bundle}",
    ]


def _program() -> str:
    """Return how this environment starts the command `inferer`."""
    if shutil.which("inferer"):
        return "inferer"
    beside = Path(sys.executable).with_name("inferer")
    return shlex.quote(str(beside)) if beside.is_file() else f"{shlex.quote(sys.executable)} -m inferer"
