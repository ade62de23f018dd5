"""The checkpoint that the command line names: a path, the newest one here, or a model of the hub. No torch."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from export.errors import ExportError
from inferer.checkpoint_folder import fault_of
from training.model.hub_model import download_model

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ONE_WORD = re.compile(r"[A-Za-z0-9][\w.-]*")
_STATE_DICTS = (".bin", ".pt", ".pth")


def find_checkpoint(name: str) -> Path:
    """Return the path called `name`, from the hub where nothing here has that name.

    "latest" is the newest checkpoint under checkpoints/. Raises ExportError where there is none, and for a folder that
    holds something else; TrainingError for a model that the hub does not give.
    """
    found = _latest() if name == "latest" else _named(name)
    if found.is_dir() and (fault := fault_of(found)):
        raise ExportError(f"checkpoint {name}: {fault}")
    return found


def _named(name: str) -> Path:
    if Path(name).exists():
        return Path(name)
    near = Path(name).parent
    # A folder of ours before the slash: a mistyped path. The hub's names have one slash and no ending of weights.
    if not _HUB_ID.fullmatch(name) or near.exists() or name.endswith(_STATE_DICTS):
        others = sorted(f.parent.name for f in near.glob("*/config.json")) if near != Path() and near.is_dir() else []
        hint = f"; {near} has {', '.join(others[:5])}{', …' if len(others) > 5 else ''}" if others else ""
        if not hint and (_ONE_WORD.fullmatch(name) or "://" in name) and not name.endswith(_STATE_DICTS):
            hint = "; a model of the hub goes by ORG/NAME"
        raise ExportError(f"checkpoint {name}: does not exist{hint}")
    return _download(name)


def _latest() -> Path:
    runs = [config.parent for config in Path("checkpoints").glob("[!.]*/config.json")]
    if not runs:
        raise ExportError("latest: found no checkpoint under checkpoints/; train one first")
    return max(runs, key=lambda run: (run / "config.json").stat().st_mtime)


def _download(name: str) -> Path:
    from huggingface_hub import constants

    print(f"note: no folder {name} here; reading the model {name} of {constants.ENDPOINT}", file=sys.stderr)
    return download_model(name, "checkpoint")
