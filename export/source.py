"""The checkpoint that the command line names: a path, the newest one here, or a model of the hub. No torch."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from export.errors import ExportError
from inferer.checkpoint_folder import WEIGHTS, fault_of
from inferer.errors import first_line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_STATE_DICTS = (".bin", ".pt", ".pth")
_FILES = ("*.json", "*.txt", "*.model")  # config and tokenizer


def find_checkpoint(name: str) -> Path:
    """Return the path called `name`, from the hub where nothing here has that name.

    "latest" is the newest checkpoint under checkpoints/. Raises ExportError where there is none, and for a folder that
    holds something else.
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
        raise ExportError(f"checkpoint {name}: does not exist{hint}")
    return _download(name)


def _latest() -> Path:
    runs = [config.parent for config in Path("checkpoints").glob("[!.]*/config.json")]
    if not runs:
        raise ExportError("latest: found no checkpoint under checkpoints/; train one first")
    return max(runs, key=lambda run: (run / "config.json").stat().st_mtime)


def _download(name: str) -> Path:
    """Return the folder in the hub's cache with the newest files of the model `name`; safetensors before pickles."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    missing = f"checkpoint {name}: no such folder here"
    print(f"note: no folder {name} here; reading the model {name} of {constants.ENDPOINT}", file=sys.stderr)
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*_FILES, WEIGHTS[0]], ignore_patterns=["*/*"]))
        if not any(folder.glob(WEIGHTS[0])):
            folder = Path(snapshot_download(name, allow_patterns=[*_FILES, WEIGHTS[1]], ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise ExportError(
            f"{missing}, and the owner of the model on {constants.ENDPOINT} asks for consent to its terms: give it "
            "there and log in (`hf auth login`, or HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ExportError(
            f"{missing}, and no public model of that name on {constants.ENDPOINT} (for a private one: HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else f"the hub {constants.ENDPOINT} cannot be reached"
        raise ExportError(f"{missing} or in the hub's cache, and {why}") from error
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"{missing}, and {constants.ENDPOINT} failed: {first_line(error)}") from error
    return folder
