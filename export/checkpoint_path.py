"""Which checkpoint a name means. Free of torch, so that a wrong name is told at once."""

from __future__ import annotations

from pathlib import Path

from export.errors import ExportError

_DEFAULT_CHECKPOINTS = Path("checkpoints")


def find_checkpoint(name: str, root: Path = _DEFAULT_CHECKPOINTS) -> Path:
    """Return the checkpoint that `name` is; "latest" is the newest folder under `root`."""
    if name != "latest":
        if not Path(name).exists():
            raise ExportError(f"checkpoint {name}: does not exist")
        return Path(name)
    runs = [config.parent for config in root.glob("[!.]*/config.json")]
    if not runs:
        raise ExportError(f"latest: there is no checkpoint under {root}/; train one first")
    return max(runs, key=lambda run: (run / "config.json").stat().st_mtime)
