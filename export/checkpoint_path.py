"""Lookup of a checkpoint by path or as "latest". No torch, so a wrong name fails at once."""

from __future__ import annotations

from pathlib import Path

from export.errors import ExportError

_DEFAULT_CHECKPOINTS = Path("checkpoints")


def find_checkpoint(name: str, root: Path = _DEFAULT_CHECKPOINTS) -> Path:
    """Return the path called `name`; "latest" is the newest checkpoint under `root`."""
    if name != "latest":
        if not Path(name).exists():
            raise ExportError(f"checkpoint {name}: does not exist")
        return Path(name)
    runs = [config.parent for config in root.glob("[!.]*/config.json")]
    if not runs:
        raise ExportError(f"latest: found no checkpoint under {root}/; train one first")
    return max(runs, key=lambda run: (run / "config.json").stat().st_mtime)
