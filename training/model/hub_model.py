"""A model of the Hugging Face hub as a folder of its cache. No torch."""

from __future__ import annotations

from pathlib import Path

from inferer.checkpoint_folder import WEIGHTS
from inferer.errors import first_line
from training.errors import TrainingError

_FILES = ("*.json", "*.txt", "*.model")  # config and tokenizer


def download_model(name: str, what: str) -> Path:
    """Return the folder in the hub's cache with the newest files of the model `name`; safetensors before pickles.

    Without the hub the cache has to have them. Raises TrainingError in one line, which begins with `what`.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    missing = f"{what} {name}: no such folder here"
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*_FILES, WEIGHTS[0]], ignore_patterns=["*/*"]))
        if not any(folder.glob(WEIGHTS[0])):
            folder = Path(snapshot_download(name, allow_patterns=[*_FILES, WEIGHTS[1]], ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise TrainingError(
            f"{missing}, and the owner of the model on {constants.ENDPOINT} asks for consent to its terms: give it "
            "there and log in (`hf auth login`, or HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise TrainingError(
            f"{missing}, and no public model of that name on {constants.ENDPOINT} (for a private one: HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else f"the hub {constants.ENDPOINT} cannot be reached"
        raise TrainingError(f"{missing} or in the hub's cache, and {why}") from error
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{missing}, and {constants.ENDPOINT} failed: {first_line(error)}") from error
    return folder
